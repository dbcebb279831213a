"""The graph of a network as a person would draw it: layers, and what joins the flow between them.

Arithmetic on sizes and what only moves data leave no trace; element-wise functions join the node
that they are applied to.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import reduce

from torch import fx

from featherweight.engine.inspecting.calls import functions_of
from featherweight.engine.inspecting.parameters import kind_of
from featherweight.engine.layer import GraphNode
from featherweight.engine.network import Network
from featherweight.engine.operators import NUMBERS

Outline = tuple[tuple[GraphNode, ...], tuple[tuple[str, str], ...]]

_NUMBERS = frozenset(NUMBERS.values())
# Their pieces are told apart by getitem, which leaves no trace.
_SPLITS = ("split", "chunk", "unbind", "tensor_split")
_MOVES = """
_reshape_alias _to_copy _unsafe_view alpha_dropout clone contiguous detach dropout expand
feature_dropout flatten getitem lift_fresh_copy reshape to type_as unflatten
"""
_INERT = ("Dropout", "AlphaDropout", "FeatureAlphaDropout", "Identity", "Flatten", "Unflatten")
_MOVING = frozenset(_MOVES.split())
_PRODUCTS = frozenset(
    ("addmm", "baddbmm", "bmm", "convolution", "dot", "einsum", "linear", "matmul", "mm", "mv")
)
# Functions that a person looks for in the picture even where they take one input.
_STANDING = ("pool", "upsample", "interpolate", "mean", "pixel_", "attention", "conv", "lstm")
_WORDS = {
    "cat": "concat",
    "stack": "concat",
    "bmm": "matmul",
    "mm": "matmul",
    "scaled_dot_product_attention": "attention",
    "unbind": "split",
    "chunk": "split",
    "split_with_sizes": "split",
}


def outline(network: Network, rows: Collection[str] = ()) -> Outline:
    """Return the nodes of a network's graph, in computing order, and the edges between their names.

    `rows` names the rows of the layer table, so that functions which have one can point at it. Both
    are empty where the network has no graph.
    """
    if not isinstance(network.module, fx.GraphModule):
        return (), ()
    drawing = _Drawing(network, frozenset(rows))
    for node in network.graph.nodes:
        drawing.take(node)
    drawing.absorb()
    return drawing.result()


@dataclass(eq=False)
class _Spot:
    """A node of the outline that is being made, and the spots that it hangs together with."""

    kind: str
    path: str
    layer: str = ""
    label: str = ""
    stands: bool = True
    then: list[str] = field(default_factory=list)
    sources: dict["_Spot", None] = field(default_factory=dict)
    users: dict["_Spot", None] = field(default_factory=dict)


class _Drawing:
    def __init__(self, network: Network, rows: frozenset[str]) -> None:
        self.network = network
        self.rows = rows
        self.layers = {name for name, _ in network.layers()}
        self.modules = {prefix for name in self.layers for prefix in _above(name)}
        self.paths = _inferred_paths(network.graph)
        self.spots: list[_Spot] = []
        self.at: dict[fx.Node, _Spot] = {}

    def take(self, node: fx.Node) -> None:
        """Take one call of the graph, in its order."""
        sources = dict.fromkeys(
            self.at[given] for given in node.all_input_nodes if given in self.at
        )
        if node.op == "call_module":
            self._take_layer(node, sources)
        elif node.op in ("placeholder", "output"):
            kind = "input" if node.op == "placeholder" else "output"
            label = node.name if kind == "input" else kind
            self._add(node, _Spot(kind, "", label=label), sources)
        elif node.op == "call_function" and sources and not _gives_numbers(node):
            self._take_function(node, sources)

    def absorb(self) -> None:
        """Let functions of one node alone become part of it, until no more can."""
        waiting = list(reversed(self.spots))
        while waiting:
            spot = waiting.pop()
            source = next(iter(spot.sources), None)
            if spot.stands or len(spot.sources) != 1 or source is None or source.kind == "input":
                continue
            others = source.users.keys() - {spot}
            if others and not spot.users.keys() <= others:
                continue
            source.then += [spot.label, *spot.then]
            del source.users[spot]
            for user in spot.users:
                del user.sources[spot]
                user.sources[source] = source.users[user] = None
                waiting.append(user)
            spot.sources, spot.kind = {}, ""

    def result(self) -> Outline:
        """Name what is left."""
        names: dict[_Spot, str] = {}
        taken: dict[str, int] = {}
        for spot in self.spots:
            if spot.kind:
                names[spot] = _free_name(spot, taken)
        nodes = tuple(
            GraphNode(
                name=name, kind=spot.kind, path=spot.path, layer=spot.layer, then=tuple(spot.then)
            )
            for spot, name in names.items()
        )
        return nodes, tuple((names[s], names[spot]) for spot in names for s in spot.sources)

    def _take_layer(self, node: fx.Node, sources: dict[_Spot, None]) -> None:
        name = str(node.target)
        kind = kind_of(self.network.layer(name))
        path, _, label = name.rpartition(".")
        if name in self.layers:
            self._add(node, _Spot(kind, path, name, label), sources)
        elif len(sources) == 1 and kind.rstrip("123d") in _INERT:
            self.at[node] = next(iter(sources))
        else:
            stands = any(word in kind.lower() for word in _STANDING)
            self._add(node, _Spot(kind, path, "", label, stands), sources)

    def _take_function(self, node: fx.Node, sources: dict[_Spot, None]) -> None:
        word = _operation(node)
        split = word.startswith(_SPLITS)
        moves = word in _MOVING or getattr(node.target, "is_view", False)
        if moves and not split and len(sources) == 1:
            self.at[node] = next(iter(sources))
            return
        if word.endswith("_like") or word.startswith("new_"):
            return
        path = self._path(node, sources)
        label = _WORDS.get(word, _words(word))
        row = functions_of(path)
        product = word in _PRODUCTS or "attention" in word or _holds_numbers(node)
        layer = row if product and row in self.rows else ""
        stands = split or bool(layer) or word in _PRODUCTS or any(w in word for w in _STANDING)
        self._add(node, _Spot(label, path, layer, label, stands), sources)

    def _path(self, node: fx.Node, sources: dict[_Spot, None]) -> str:
        path = self.paths.get(node)
        if path is None:
            path = str(node.meta.get("path", ""))
        elif len(sources) > 1:
            common = reduce(_shared, (f"{source.path}.{source.label}" for source in sources))
            path = max(path, common, key=len)
        while path and path not in self.modules:
            path = path.rpartition(".")[0]
        return path

    def _add(self, node: fx.Node, spot: _Spot, sources: dict[_Spot, None]) -> None:
        self.at[node] = spot
        self.spots.append(spot)
        spot.sources = dict(sources)
        for source in sources:
            source.users[spot] = None


def _operation(node: fx.Node) -> str:
    packet = getattr(node.target, "overloadpacket", node.target)
    return str(getattr(packet, "__name__", packet)).rstrip("_")


def _words(operation: str) -> str:
    plain = re.sub(r"\dd(_with_indices)?$", "", operation.lstrip("_"))
    return plain.replace("_", " ")


def _gives_numbers(node: fx.Node) -> bool:
    """Say whether a call computes sizes; getitem picks one of several tensors as well."""
    if _operation(node).startswith("sym_"):
        return True
    return node.target in _NUMBERS and _operation(node) != "getitem"


def _holds_numbers(node: fx.Node) -> bool:
    return any(given.op == "get_attr" for given in node.all_input_nodes)


def _above(name: str) -> list[str]:
    """Return the modules that a layer lies in, the network itself left out."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _inferred_paths(graph: fx.Graph) -> dict[fx.Node, str]:
    """Say where functions lie by the layers called before and after, where no function tells."""
    functions = [node for node in graph.nodes if node.op == "call_function"]
    if any(node.meta.get("path") for node in functions):
        return {}
    paths: dict[fx.Node, str] = {}
    previous, waiting = "", list[fx.Node]()
    for node in graph.nodes:
        if node.op == "call_function":
            waiting.append(node)
        elif node.op == "call_module":
            shared = _shared(previous, str(node.target))
            paths.update(dict.fromkeys(waiting, shared))
            previous, waiting = str(node.target), []
    return paths


def _shared(first: str, second: str) -> str:
    """Return the innermost module that holds both."""
    common = [path for path in _above(first) if path in _above(second)]
    return common[-1] if common else ""


def _free_name(spot: _Spot, taken: dict[str, int]) -> str:
    name = f"{spot.path}.{spot.label}" if spot.path else spot.label
    taken[name] = taken.get(name, 0) + 1
    return name if taken[name] == 1 else f"{name} ({taken[name]})"
