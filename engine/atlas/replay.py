"""Runs of networks that differ from one source only from some call on: what is before runs once.

The source is walked in the order of its graph. Where a changed network begins to differ, the values
that are still alive are lent to it, and only what follows runs. Outputs are those of the whole
changed network, bit for bit: the same operations on the same values.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from featherweight.engine.length_trials import tensors_of
from featherweight.engine.network import Inputs, Network
from featherweight.engine.task import Outputs

# What a call gave, by the name of its node.
Values = dict[str, Any]


@dataclass(frozen=True)
class Tail:
    """What is left to run of a changed network from one position of the source on.

    `needs` are the values of the source that it begins with; without `nodes` all of it runs.
    """

    network: Network
    nodes: tuple[fx.Node, ...] = ()
    needs: frozenset[str] = frozenset()
    gone: Mapping[str, tuple[fx.Node, ...]] = field(default_factory=dict)

    def outputs(self, inputs: Inputs, values: Values) -> Outputs:
        """Return what the changed network gives for these inputs."""
        module = self.network.module
        if not self.nodes or not isinstance(module, fx.GraphModule) or self.needs - values.keys():
            return self.network.outputs(*inputs)
        runner = fx.Interpreter(module, garbage_collect_values=False)
        known = {node.name: node for node in module.graph.nodes}
        runner.env = {known[name]: values[name] for name in self.needs}
        for node in self.nodes:
            runner.env[node] = runner.run_node(node)
            for done in self.gone.get(node.name, ()):
                runner.env.pop(done, None)
        return tensors_of(runner.env[self.nodes[-1]])


class Replay:
    """The source, and where others differ from it. `whole` says that nothing can be shared."""

    def __init__(self, network: Network) -> None:
        self.network = network
        module = network.module
        self.whole = not isinstance(module, fx.GraphModule) or _writes(module)
        self._nodes: tuple[fx.Node, ...] = () if self.whole else tuple(network.graph.nodes)
        self._places = {node.name: place for place, node in enumerate(self._nodes)}
        self._gone = _last_uses(self._nodes)

    @property
    def end(self) -> int:
        """The position behind the last call."""
        return len(self._nodes)

    def position(self, layers: Iterable[str]) -> int:
        """Return the position of the first call of any of these layers."""
        wanted = set(layers)
        return next((p for p, node in enumerate(self._nodes) if node.target in wanted), 0)

    def tail(self, made: Network, position: int) -> Tail:
        """Return what runs of a changed network where the source was run up to a position."""
        if self.whole:
            return Tail(made)
        kept = {
            name
            for name in self._same(made)
            # What the network holds is there anyway, and need not be alive.
            if self._places[name] < position and self._nodes[self._places[name]].op != "get_attr"
        }
        nodes = tuple(node for node in _used(made.graph) if node.name not in kept)
        needs = {one.name for node in nodes for one in node.all_input_nodes} & kept
        if any(node.op == "placeholder" for node in nodes):
            return Tail(made)
        return Tail(made, nodes, frozenset(needs), _last_uses(nodes))

    def walk(self, inputs: Inputs, positions: Iterable[int]) -> Iterator[tuple[int, Values]]:
        """Give for each position, rising, the values that are alive before its call runs.

        They are lent: whoever gets them changes none and keeps none.
        """
        wanted = set(positions)
        if self.whole:
            yield from ((place, {}) for place in sorted(wanted))
            return
        runner = fx.Interpreter(self.network.module, garbage_collect_values=False)
        runner.args_iter = iter(inputs)
        for place, node in enumerate(self._nodes):
            if place in wanted:
                yield place, {one.name: value for one, value in runner.env.items()}
                wanted.remove(place)
            if not wanted:
                return
            with torch.no_grad():
                runner.env[node] = runner.run_node(node)
            for done in self._gone.get(node.name, ()):
                del runner.env[done]
        yield from ((place, {}) for place in sorted(wanted))

    def sizes(self, inputs: Inputs) -> list[int]:
        """Return how many bytes of activations are alive before each call, for these inputs."""
        found = []
        for _, values in self.walk(inputs, range(len(self._nodes))):
            held = {
                tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
                for name, value in values.items()
                if self._nodes[self._places[name]].op != "get_attr"
                for tensor in _tensors(value)
            }
            found.append(sum(held.values()))
        return found

    def _same(self, made: Network) -> set[str]:
        """Return the names of calls whose value in a changed network is that of the source."""
        found: set[str] = set()
        for node in made.graph.nodes:
            place = self._places.get(node.name)
            if place is None or not all(one.name in found for one in node.all_input_nodes):
                continue
            if self._alike(self._nodes[place], node, made):
                found.add(node.name)
        return found

    def _alike(self, one: fx.Node, other: fx.Node, made: Network) -> bool:
        if one.op != other.op or one.target != other.target or one.op == "output":
            return False
        if _written(one) != _written(other):
            return False
        if one.op == "call_module":
            name = str(one.target)
            return same_layers(self.network.layer(name), made.layer(name))
        if one.op == "get_attr":
            held = (attribute(net.module, str(one.target)) for net in (self.network, made))
            return _same_tensors(*held)
        return True


def attribute(module: nn.Module, path: str) -> Any:
    """Return what a module holds at a dotted path."""
    owner, _, name = path.rpartition(".")
    return getattr(module.get_submodule(owner), name)


def same_layers(one: nn.Module, other: nn.Module) -> bool:
    """Say whether two layers are of one kind, with the same settings and numbers."""
    if type(one) is not type(other) or repr(one) != repr(other):
        return False
    mine, its = (
        dict([*layer.named_parameters(), *layer.named_buffers()]) for layer in (one, other)
    )
    return mine.keys() == its.keys() and all(_same_tensors(mine[key], its[key]) for key in mine)


def _same_tensors(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return False
    return one.dtype == other.dtype and torch.equal(one, other)


def _written(node: fx.Node) -> tuple[Any, Any]:
    """Return what a call is given, with the names of other calls in place of their values."""
    named = fx.node.map_arg((node.args, node.kwargs), lambda one: f"%{one.name}")
    return named[0], named[1]


def _used(graph: fx.Graph) -> list[fx.Node]:
    """Return the calls that the outputs hang on, in their order; inputs are among them if used."""
    wanted: set[fx.Node] = set()
    for node in reversed(list(graph.nodes)):
        if node.op == "output" or node in wanted:
            wanted |= {node, *node.all_input_nodes}
    return [node for node in graph.nodes if node in wanted]


def _last_uses(nodes: Iterable[fx.Node]) -> dict[str, tuple[fx.Node, ...]]:
    """Return for each call the values that nobody needs any more once it has run."""
    last: dict[fx.Node, str] = {}
    for node in nodes:
        last[node] = node.name
        last.update(dict.fromkeys(node.all_input_nodes, node.name))
    found: dict[str, tuple[fx.Node, ...]] = {}
    for node, name in last.items():
        if node.op != "output":
            found[name] = (*found.get(name, ()), node)
    return found


def _writes(module: fx.GraphModule) -> bool:
    """Say whether a call of a graph changes what it is given, or nobody can tell."""
    return any(_writes_at(module, node) for node in module.graph.nodes)


def _writes_at(module: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        layer = module.get_submodule(str(node.target))
        return any(getattr(part, "inplace", False) for part in layer.modules())
    if node.op == "call_method":
        return str(node.target).endswith("_")
    schema = getattr(node.target, "_schema", None)
    return node.op == "call_function" and schema is not None and bool(schema.is_mutable)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)
