"""The inputs that a layer's weight is multiplied with, one row for each position."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from featherweight.engine.coefficient_layers import CoefficientLayer, TransformLinear
from featherweight.engine.evidence import Convolution, Transposed, input_lock
from featherweight.engine.structured_convolutions import StructuredConvolution


def rows_of(layer: nn.Module, x: Tensor, each: int, turn: int) -> Tensor:
    """Return (groups, rows, columns) of inputs, at most `each` rows of every sample.

    The rows are evenly spaced; `turn` moves them on. A layer of coefficients multiplies them with
    what it makes of its inputs. Raises TypeError for a layer with a lock.
    """
    if isinstance(layer, CoefficientLayer):
        tensors = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
        with torch.no_grad():
            return layer.seen(tensors, _inputs(layer, x, each, turn))
    return _inputs(layer, x, each, turn)


def _inputs(layer: nn.Module, x: Tensor, each: int, turn: int) -> Tensor:
    match layer:
        case nn.Linear() | TransformLinear():
            rows = x.reshape(len(x) if x.ndim > 1 else 1, -1, x.shape[-1])
            return _chosen(rows.shape[1], each, turn, rows).reshape(1, -1, x.shape[-1])
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d() | StructuredConvolution():
            return _convolved(layer, _padded(layer, x), layer.stride, each, turn)
        case nn.ConvTranspose1d() | nn.ConvTranspose2d() | nn.ConvTranspose3d():
            ones = (1,) * len(layer.kernel_size)
            # The kernel runs backwards over an input that has zeros between its elements.
            return _convolved(layer, _spread(layer, x), ones, each, turn, backwards=True)
    raise TypeError(input_lock(layer))


def groups_of(layer: nn.Module) -> int:
    """Return in how many groups of inputs and outputs a layer falls."""
    kinds = Convolution | Transposed | CoefficientLayer
    return layer.groups if isinstance(layer, kinds) else 1


def _chosen(count: int, each: int, turn: int, rows: Tensor) -> Tensor:
    if count <= each:
        return rows
    places = (torch.arange(each) * count // each + turn) % count
    return rows[:, places]


def _padded(layer: Any, x: Tensor) -> Tensor:
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        ours = isinstance(layer, StructuredConvolution)
        sides = layer.borders() if ours else layer._reversed_padding_repeated_twice
        return functional.pad(x, sides, mode=mode)
    return functional.pad(x, [side for pad in reversed(layer.padding) for side in (pad, pad)])


def _spread(layer: Any, x: Tensor) -> Tensor:
    sizes = [(size - 1) * step + 1 for size, step in zip(x.shape[2:], layer.stride, strict=True)]
    spread = x.new_zeros(*x.shape[:2], *sizes)
    steps: tuple[Any, ...] = tuple(slice(None, None, step) for step in layer.stride)
    spread[(..., *steps)] = x
    sides: list[int] = []
    for axis in reversed(range(len(sizes))):
        border = layer.dilation[axis] * (layer.kernel_size[axis] - 1) - layer.padding[axis]
        sides += [border, border + layer.output_padding[axis]]
    return functional.pad(spread, sides)


def _convolved(
    layer: Any, x: Tensor, stride: Sequence[int], each: int, turn: int, backwards: bool = False
) -> Tensor:
    kernel, dilation = layer.kernel_size, layer.dilation
    x = x.contiguous()
    sizes = [
        (size - d * (k - 1) - 1) // s + 1
        for size, k, d, s in zip(x.shape[2:], kernel, dilation, stride, strict=True)
    ]
    steps = x.stride()
    # (samples, positions…, channels, kernel…) without a copy; only the chosen are copied.
    view = x.as_strided(
        (len(x), *sizes, x.shape[1], *kernel),
        (
            steps[0],
            *(step * s for step, s in zip(steps[2:], stride, strict=True)),
            steps[1],
            *(step * d for step, d in zip(steps[2:], dilation, strict=True)),
        ),
    )
    count = 1
    for size in sizes:
        count *= size
    places = torch.arange(count)
    if count > each:
        places = (torch.arange(each) * count // each + turn) % count
    at = torch.unravel_index(places, torch.Size(sizes))
    rows = view[(slice(None), *at)]  # type: ignore[index]
    if backwards:
        rows = rows.flip(*range(3, rows.ndim))
    rows = rows.reshape(len(rows) * len(places), layer.groups, -1)
    return rows.transpose(0, 1)
