"""How much a file may ask for: a few bytes could otherwise take all memory there is."""

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

from featherweight.engine.errors import UserError

ALWAYS_BYTES = 1 << 29
TIMES_FILE = 8
# What a shape function says of operators that it cannot follow on these arguments.
UNKNOWN = (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)


class TooLargeError(RuntimeError):
    """A computation would give a tensor out of all proportion to the file."""


def largest_bytes(path: str | Path) -> int:
    """Return how many bytes one tensor may have that is computed from a file."""
    file = Path(path)
    return max(ALWAYS_BYTES, TIMES_FILE * file.stat().st_size if file.is_file() else 0)


class BoundedMemory(TorchDispatchMode):
    """While it is on, no operator gives a tensor of more than `largest` bytes.

    The result's shape is known before its memory is taken. Raises TooLargeError.
    """

    def __init__(self, largest: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it without types
        self.largest = largest

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run one operator, if its result is small enough."""
        kwargs = kwargs or {}
        if not _is_view(func):
            self._check(func, args, kwargs)
        return func(*args, **kwargs)

    def _check(self, func: OpOverload, args: Any, kwargs: dict[str, Any]) -> None:
        repeats = args[-1] if func is torch.ops.aten.repeat_interleave.Tensor else None
        count = int(repeats.sum()) * 8 if isinstance(repeats, Tensor) else 0
        try:
            shaped = tree_map_only(Tensor, _shape_of, (args, {**kwargs}))
            if kwargs.get("device") is not None or not tree_flatten(shaped)[0]:
                shaped[1]["device"] = torch.device("meta")
            results = func(*shaped[0], **shaped[1])
        except UNKNOWN:
            results = None
        found = [value for value in tree_flatten(results)[0] if isinstance(value, Tensor)]
        largest = max((value.numel() * value.itemsize for value in found), default=count)
        if max(largest, count) > self.largest:
            shape = max((tuple(value.shape) for value in found), key=math.prod, default=(count,))
            raise TooLargeError(f"its result would have the shape {'x'.join(map(str, shape))}")


def check_shapes(shapes: Sequence[Sequence[int]], path: str) -> None:
    """Raise UserError where inputs have no elements, or more than memory for."""
    for shape in shapes:
        told = "x".join(map(str, shape)) or "an empty shape"
        if not shape or min(shape) < 1:
            raise UserError(
                f"{path}: {told} is no shape of an input.",
                "Give every size as a number from 1 up, batch first, like --input 1x3x224x224.",
            )
        if math.prod(shape) * 8 > ALWAYS_BYTES:
            raise UserError(
                f"{path} takes an input of {told}, which is too large to try it on.",
                "Give smaller sizes with --input, or export it with smaller ones.",
            )


def check_weights(module: nn.Module, path: str) -> None:
    """Raise UserError where a weight repeats the few numbers that the file has without end."""
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        if value.layout is not torch.strided:
            raise UserError(
                f"{path}: its tensor {name} is sparse, which is not read.",
                "Save the network with dense tensors.",
            )
        wanted = value.numel() * value.itemsize
        if wanted > max(ALWAYS_BYTES >> 3, value.untyped_storage().nbytes()):
            raise UserError(
                f"{path} is refused: its tensor {name} would have {wanted >> 20} MB, of which the "
                f"file holds {value.untyped_storage().nbytes()} bytes.",
                "Save the network again with tensors of their own.",
            )


def check_members(archive: zipfile.ZipFile, path: str) -> None:
    """Raise ValueError where a zip of torch's has packed members, or ones that share bytes."""
    members = archive.infolist()
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"its part {member.filename[:60]!r} is compressed")
    if sum(member.file_size for member in members) > Path(path).stat().st_size:
        raise ValueError("its parts lie on top of each other")


def _is_view(func: OpOverload) -> bool:
    returns = func._schema.returns
    return any(one.alias_info is not None and not one.alias_info.is_write for one in returns)


def _shape_of(value: Tensor) -> Tensor:
    return torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device="meta")
