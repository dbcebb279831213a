"""Rows of the layer table as plain objects: layers and the modules they lie in."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from featherweight.engine.figures import Figure
from featherweight.engine.layer import Layer


@dataclass(eq=False)
class Row:
    """A layer, or a module whose figures are the sums of what lies in it.

    `identity` is the place in the model's list of rows. `bits` is the predicted stored size.
    `chosen` are the titles of the chosen methods, `chips` the same in few letters.
    """

    identity: int
    path: str
    label: str
    parent: "Row | None"
    layer: Layer | None = None
    children: list["Row"] = field(default_factory=list)
    shown: list["Row"] = field(default_factory=list)
    place: int = 0
    parameters: int = 0
    macs: int = 0
    uncounted: bool = False
    latency: float | None = None
    sensitivity: float | None = None
    bits_before: int = 0
    bits: int | None = None
    chosen: tuple[str, ...] = ()
    chips: tuple[str, ...] = ()

    def layers(self) -> Iterator[Layer]:
        """Yield the layer of this row and of all rows below it."""
        if self.layer is not None:
            yield self.layer
        for child in self.children:
            yield from child.layers()

    def lineage(self) -> Iterator["Row"]:
        """Yield this row and the modules around it, the innermost first."""
        row: Row | None = self
        while row is not None and row.parent is not None:
            yield row
            row = row.parent


def build_rows(layers: Iterable[Layer]) -> list[Row]:
    """Return all rows in network order, the invisible root first.

    A module that holds nothing but one other module shares its row with it.
    """
    root = Row(0, "", "", None)
    rows = {"": root}
    for layer in layers:
        row = _row_at(rows, layer.name)
        row.layer = layer
    _join_chains(root)
    found = [root]
    for row in _walk(root):
        row.identity = len(found)
        found.append(row)
    for row in reversed(found):
        _add_up(row)
    return found


def arrange(
    root: Row,
    keep: Callable[[Row], bool],
    key: Callable[[Row], float | str] | None,
    descending: bool,
) -> None:
    """Decide which rows are shown below which.

    Without a key rows stand in network order below their modules. With one, the layers stand flat
    in its order: the largest of a network are rarely in one module.
    """
    if key is None:
        _arrange_tree(root, keep)
        return
    flat = [row for row in _walk(root) if row.layer is not None and keep(row)]
    flat.sort(key=key, reverse=descending)
    for row in _walk(root):
        row.shown = []
    root.shown = flat
    _number(flat)


def neighbours(row: Row, names: Collection[str], modules: bool) -> Iterator[tuple[Row, Row]]:
    """Yield the first and the last of every block of shown rows that are named, below a row.

    With `modules`, a module stands for what lies in it where all of it is named.
    """
    whole: set[int] = set()
    if modules:
        _find_whole(row, names, whole)
    yield from _blocks(row, names, whole)


def _blocks(row: Row, names: Collection[str], whole: set[int]) -> Iterator[tuple[Row, Row]]:
    block: list[Row] = []
    for child in row.shown:
        named = child.layer is not None and child.layer.name in names
        if named or child.identity in whole:
            block.append(child)
        elif block:
            yield block[0], block[-1]
            block = []
        if child.identity not in whole:
            yield from _blocks(child, names, whole)
    if block:
        yield block[0], block[-1]


def _find_whole(row: Row, names: Collection[str], found: set[int]) -> bool:
    parts = [_find_whole(child, names, found) for child in row.shown]
    whole = all(parts) and (row.layer is None or row.layer.name in names)
    if whole and row.parent is not None:
        found.add(row.identity)
    return whole


def _row_at(rows: dict[str, Row], path: str) -> Row:
    if path not in rows:
        above, _, label = path.rpartition(".")
        parent = _row_at(rows, above)
        rows[path] = Row(0, path, label, parent)
        parent.children.append(rows[path])
    return rows[path]


def _join_chains(row: Row) -> None:
    for place, child in enumerate(row.children):
        kept = child
        while kept.layer is None and len(kept.children) == 1 and kept.children[0].layer is None:
            below = kept.children[0]
            below.label = f"{kept.label}.{below.label}"
            below.parent = row
            kept = below
        row.children[place] = kept
        _join_chains(kept)


def _walk(row: Row) -> Iterator[Row]:
    for child in row.children:
        yield child
        yield from _walk(child)


def _add_up(row: Row) -> None:
    own = row.layer
    row.parameters = (own.parameters if own else 0) + sum(c.parameters for c in row.children)
    row.macs = ((own.macs or 0) if own else 0) + sum(c.macs for c in row.children)
    row.uncounted = (own is not None and own.macs is None) or any(
        child.uncounted for child in row.children
    )
    row.bits_before = (own.bits if own else 0) + sum(c.bits_before for c in row.children)
    add_up_figures(row)


def add_up_figures(row: Row) -> None:
    """Sum latency and sensitivity of a row from its layer and its children; None where unknown."""
    latency, sensitivity = (row.layer.latency, row.layer.sensitivity) if row.layer else (None, None)
    row.latency = _sum(latency, [child.latency for child in row.children])
    row.sensitivity = _sum(sensitivity, [child.sensitivity for child in row.children])


def _sum(own: Figure | None, parts: list[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    if own is not None:
        known.append(own.value)
    return sum(known) if known else None


def _arrange_tree(row: Row, keep: Callable[[Row], bool]) -> bool:
    row.shown = [child for child in row.children if _arrange_tree(child, keep)]
    _number(row.shown)
    return bool(row.shown) or (row.layer is not None and keep(row))


def _number(rows: list[Row]) -> None:
    for place, row in enumerate(rows):
        row.place = place
