"""Which sizes of a network's inputs are free beside the batch: lengths, heights and widths."""

from collections.abc import Sequence
from typing import Any

import torch
from msgspec import Struct
from torch import Tensor
from torch.export import Dim, ExportedProgram

BATCH = "batch"
IMAGE = 4
SIDES = {(4, 2): "height", (4, 3): "width", (5, 2): "depth", (5, 3): "height", (5, 4): "width"}

Place = tuple[int, int]


class FreeSize(Struct, array_like=True, frozen=True):
    """A dimension of an input whose size may vary; sizes of one name vary together.

    `largest` is 0 where there is no bound.
    """

    input: int
    dimension: int
    name: str
    smallest: int = 1
    largest: int = 0

    @property
    def place(self) -> Place:
        """Position of the input and the dimension."""
        return self.input, self.dimension

    def allows(self, size: int) -> bool:
        """Say whether the dimension may have this size."""
        return self.smallest <= size and (not self.largest or size <= self.largest)


def is_free(size: int | torch.SymInt) -> bool:
    """Say whether a program left a size open.

    One that it turned out to need stays symbolic, with one number as its expression.
    """
    return isinstance(size, torch.SymInt) and size.node.maybe_as_int() is None


def user_shapes(program: ExportedProgram) -> list[Sequence[int | torch.SymInt]]:
    """Return the shapes of a program's inputs in order."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    return [values[name].shape for name in program.graph_signature.user_inputs]


def batch_is_free(program: ExportedProgram) -> bool:
    """Say whether a program left the first size of an input open."""
    return any(is_free(size) for shape in user_shapes(program) for size in shape[:1])


def free_sizes(program: ExportedProgram) -> tuple[FreeSize, ...]:
    """Return the sizes beside the batch that a program left open.

    Those that depend on others (`n + 1`) or on the batch are not free by themselves: none is
    returned then.
    """
    shapes = user_shapes(program)
    batches = {_symbol(shape[0]) for shape in shapes if len(shape) and is_free(shape[0])}
    names: dict[Any, str] = {}
    found = []
    for position, shape in enumerate(shapes):
        for dimension, size in enumerate(shape):
            if dimension == 0 or not is_free(size):
                continue
            symbol = _symbol(size)
            if not symbol.is_Symbol or symbol in batches:
                return ()
            wanted = SIDES.get((len(shape), dimension), "sequence")
            if symbol not in names:
                names[symbol] = _unused(wanted, set(names.values()))
            bounds = program.range_constraints.get(symbol)
            found.append(FreeSize(position, dimension, names[symbol], *_bounds(bounds)))
    return tuple(found)


def dynamic_shapes(
    example: Sequence[Tensor], free_batch: bool, free: Sequence[FreeSize]
) -> list[dict[int, Any]]:
    """Return for every input what torch.export has to leave open, by dimension."""
    batch: dict[int, Any] = {0: Dim(BATCH)} if free_batch else {}
    shapes = [dict(batch) if tensor.ndim else {} for tensor in example]
    for size in free:
        shapes[size.input][size.dimension] = Dim.AUTO
    return shapes


def _symbol(size: Any) -> Any:
    return size.node.expr


def _bounds(bounds: Any) -> tuple[int, int]:
    """Return the smallest and the largest size; torch's own bound of 2 from below means none."""
    if bounds is None:
        return 1, 0
    smallest = int(bounds.lower) if bounds.lower > 2 else 1
    return smallest, int(bounds.upper) if bounds.upper.is_Integer else 0


def _unused(name: str, taken: set[str]) -> str:
    count = 1
    free = name
    while free in taken:
        count += 1
        free = f"{name}_{count}"
    return free
