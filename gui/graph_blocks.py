"""The modules of a network as blocks that can be folded, and the picture of what is unfolded.

Every unfolded block is laid out by itself, with a port on its edge for each flow that enters or
leaves it, and then stands as one box in the block around it.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from featherweight.engine.layer import GraphNode
from featherweight.gui.graph_columns import in_columns
from featherweight.gui.graph_layout import RANK_GAP, Graph, Net, Placement, Stroke, place

DEEPEST = 32
MOST_AT_FIRST = 48
TITLE, PADDING = 26.0, 14.0
LETTER, STRONG_LETTER, SMALL_LETTER, MARKS = 6.6, 7.6, 6.0, 84.0
LONGEST_TITLE = 24
LAYER_HEIGHT, FUNCTION_HEIGHT, BLOCK_HEIGHT = 42.0, 26.0, 46.0
NARROWEST, WIDEST = 92.0, 220.0


@dataclass(eq=False)
class Block:
    """A node, or the nodes that one call of a module holds; the root is the whole network."""

    key: str
    label: str
    parent: "Block | None" = None
    node: GraphNode | None = None
    children: list["Block"] = field(default_factory=list)
    place: int = 0
    depth: int = 0

    def nodes(self) -> Iterator[GraphNode]:
        """Yield the nodes in it, in the order in which they are computed."""
        if self.node is not None:
            yield self.node
        for child in self.children:
            yield from child.nodes()

    def blocks(self) -> Iterator["Block"]:
        """Yield it and the blocks in it that can be folded."""
        if self.node is None:
            yield self
        for child in self.children:
            yield from child.blocks()

    @property
    def below(self) -> str:
        """What a layer is, and which functions follow; empty for a block."""
        if self.node is None:
            return ""
        kind = "functions" if self.node.kind == self.label else self.node.kind
        return " · ".join((kind, *self.node.then))

    def size(self) -> tuple[float, float]:
        """Return width and height as a single box."""
        node = self.node
        if node is not None and not node.layer:
            text = " · ".join((self.label, *node.then))
            return min(max(len(text) * LETTER + 22, 44.0), WIDEST), FUNCTION_HEIGHT
        wide = max(len(self.label) * STRONG_LETTER + MARKS, len(self.below) * LETTER + 24)
        return min(max(wide, NARROWEST), WIDEST), LAYER_HEIGHT if node else BLOCK_HEIGHT


@dataclass(frozen=True)
class Shown:
    """A box of the picture: a node, a folded block, or the frame of an unfolded one."""

    block: Block
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Picture:
    """What is to be painted: frames from the outside in, boxes, strokes, and who feeds whom."""

    frames: tuple[Shown, ...] = ()
    boxes: tuple[Shown, ...] = ()
    strokes: tuple[Stroke, ...] = ()
    edges: tuple[tuple[int, int], ...] = ()
    width: float = 0.0
    height: float = 0.0


def build_blocks(nodes: Iterable[GraphNode]) -> Block:
    """Return the tree of blocks.

    A block holds what follows each other in computing order, so that no flow leaves it and comes
    back; a module that is called twice has two. One that holds a single thing is that thing.
    """
    root = Block("", "")
    opened: list[tuple[str, Block]] = [("", root)]
    taken: dict[str, int] = {}
    for node in nodes:
        parts = node.path.split(".")[:DEEPEST] if node.path else []
        kept = 0
        while kept < min(len(parts), len(opened) - 1) and opened[kept + 1][0] == parts[kept]:
            kept += 1
        del opened[kept + 1 :]
        for count in range(kept, len(parts)):
            path = ".".join(parts[: count + 1])
            taken[path] = taken.get(path, 0) + 1
            key = path if taken[path] == 1 else f"{path} ({taken[path]})"
            parent = opened[-1][1]
            block = Block(key, parts[count], parent)
            parent.children.append(block)
            opened.append((parts[count], block))
        parent = opened[-1][1]
        label = node.name[len(node.path) + 1 :] if node.path else node.name
        label = node.kind if label.startswith(node.kind) else label
        parent.children.append(Block(node.name, label, parent, node))
    _join(root)
    for place_in_order, block in enumerate(_walk(root)):
        block.place = place_in_order
        block.depth = block.parent.depth + 1 if block.parent else 0
    return root


def folded_at_first(root: Block, most: int = MOST_AT_FIRST) -> frozenset[str]:
    """Return what to fold so that a person sees the whole: levels, as long as boxes stay few."""
    folded: frozenset[str] = frozenset()
    deepest = max((block.depth for block in root.blocks()), default=0)
    for level in range(1, deepest + 2):
        wanted = frozenset(block.key for block in root.blocks() if block.depth >= level)
        if level > 1 and sum(1 for _ in visible(root, wanted)) > most:
            break
        folded = wanted
    return folded


def visible(block: Block, folded: Collection[str]) -> Iterator[Block]:
    """Yield the nodes and folded blocks that stand for themselves."""
    for child in block.children:
        if child.node is not None or child.key in folded:
            yield child
        else:
            yield from visible(child, folded)


def draw(
    root: Block,
    edges: Sequence[tuple[str, str]],
    folded: Collection[str],
    check: Callable[[], None] = lambda: None,
) -> Picture:
    """Lay out what is unfolded; `check` is called between blocks and may raise to stop."""
    shown = list(visible(root, folded))
    at = {node.name: place for place, box in enumerate(shown) for node in box.nodes()}
    pairs = dict.fromkeys((at[s], at[t]) for s, t in edges if at[s] != at[t])
    flows = _Flows(shown)
    for source, target in pairs:
        flows.add(source, target)
    frame = _lay_out(root, folded, flows, check)
    painting = _Painting({}, [], [], [])
    painting.put(frame, -frame.placement.left, 0.0)
    boxes = tuple(painting.boxes[box] for box in shown)
    return Picture(
        tuple(painting.frames),
        boxes,
        tuple(painting.strokes),
        tuple(pairs),
        frame.placement.right - frame.placement.left,
        frame.placement.height,
    )


def _join(block: Block) -> None:
    for place_in_block, child in enumerate(block.children):
        kept = child
        while kept.node is None and len(kept.children) == 1:
            below = kept.children[0]
            named = below.node is None or below.node.layer
            below.label = f"{kept.label}.{below.label}" if named else below.label
            below.parent = block
            kept = below
        block.children[place_in_block] = kept
        _join(kept)


def _walk(block: Block) -> Iterator[Block]:
    yield block
    for child in block.children:
        yield from _walk(child)


Port = tuple[str, int]


class _Flows:
    """For every block, what flows between its children, from its entries and to its exits.

    A flow is named by the box that it comes from, so that it enters each block once.
    """

    def __init__(self, shown: list[Block]) -> None:
        self.shown = shown
        self.inside: dict[Block, dict[tuple[Block | Port, int], dict[Block | Port, None]]] = {}

    def add(self, source: int, target: int) -> None:
        """Lead a flow out of the blocks around its source and into those around its target."""
        upper, lower = list(_lineage(self.shown[source])), list(_lineage(self.shown[target]))
        while len(upper) > 1 and len(lower) > 1 and upper[-2] is lower[-2]:
            upper.pop()
            lower.pop()
        for inner, outer in pairwise(upper[:-1]):
            self._add(outer, source, inner, ("out", source))
        self._add(upper[-1], source, upper[-2], lower[-2])
        for inner, outer in pairwise(lower[:-1]):
            self._add(outer, source, ("in", source), inner)

    def _add(self, block: Block, flow: int, start: Block | Port, end: Block | Port) -> None:
        flows = self.inside.setdefault(block, {})
        flows.setdefault((start, flow), {})[end] = None


def _lineage(block: Block) -> Iterator[Block]:
    around: Block | None = block
    while around is not None:
        yield around
        around = around.parent


@dataclass(frozen=True)
class _Frame:
    """A block that has been laid out: its children and ports by place, and where they are."""

    block: Block
    children: list["_Frame | Block"]
    placement: Placement
    ports: dict[Port, float]


def _lay_out(
    block: Block, folded: Collection[str], flows: _Flows, check: Callable[[], None]
) -> _Frame:
    check()
    children: list[_Frame | Block] = []
    sizes: list[tuple[float, float]] = []
    at: dict[Block | Port, int] = {}
    for child in block.children:
        at[child] = len(children)
        if child.node is not None or child.key in folded:
            children.append(child)
            sizes.append(child.size())
        else:
            frame = _lay_out(child, folded, flows, check)
            children.append(frame)
            sizes.append((frame.placement.right - frame.placement.left, frame.placement.height))
    inside = flows.inside.get(block, {})
    ends = dict.fromkeys(end for (start, _), to in inside.items() for end in (start, *to))
    ports = sorted(end for end in ends if isinstance(end, tuple))
    for port in ports:
        at[port] = len(sizes)
        sizes.append((0.0, 0.0))
    nets = [
        Net(
            at[start],
            [(at[end], _beside(children, at[end], ("in", flow))) for end in to],
            _beside(children, at[start], ("out", flow)),
        )
        for (start, flow), to in inside.items()
    ]
    first = frozenset(at[port] for port in ports if port[0] == "in")
    last = frozenset(at[port] for port in ports if port[0] == "out")
    placement = in_columns(place(Graph(sizes, nets, first, last)), sizes, first, last)
    _make_room(block, placement, bool(first), bool(last))
    beside = {port: placement.boxes[at[port]][0] for port in ports}
    return _Frame(block, children, placement, beside)


def _beside(children: list["_Frame | Block"], place_in_block: int, port: Port) -> float:
    child = children[place_in_block] if place_in_block < len(children) else None
    return child.ports.get(port, 0.0) if isinstance(child, _Frame) else 0.0


def _make_room(block: Block, placement: Placement, above: bool, below: bool) -> None:
    """Add the frame's title and padding; ports keep to the edge."""
    if block.parent is None:
        return
    # What enters comes down in the middle; the title stands to the left of it.
    title = min(len(block.label), LONGEST_TITLE) * SMALL_LETTER + 8
    half = max(placement.right, title) + PADDING
    placement.left, placement.right = -half, half
    top = 0.0 if above else TITLE + 4.0
    bottom = 0.0 if below else PADDING
    if above and TITLE > RANK_GAP:
        top = TITLE - RANK_GAP
    if top:
        placement.boxes = [(x, y + top) for x, y in placement.boxes]
        placement.strokes = [(a, b + top, c, d + top) for a, b, c, d in placement.strokes]
    placement.height += top + bottom


@dataclass
class _Painting:
    boxes: dict[Block, Shown]
    frames: list[Shown]
    strokes: list[Stroke]
    edges: list[tuple[int, int]]

    def put(self, frame: _Frame, middle: float, top: float) -> None:
        """Put everything in a frame where it belongs."""
        placement = frame.placement
        if frame.block.parent is not None:
            width = placement.right - placement.left
            shown = Shown(frame.block, middle - width / 2, top, width, placement.height)
            self.frames.append(shown)
        self.strokes.extend(
            (a + middle, b + top, c + middle, d + top) for a, b, c, d in placement.strokes
        )
        for child, (x, y) in zip(frame.children, placement.boxes, strict=False):
            if isinstance(child, _Frame):
                self.put(child, middle + x, top + y)
            else:
                width, height = child.size()
                self.boxes[child] = Shown(child, middle + x - width / 2, top + y, width, height)
