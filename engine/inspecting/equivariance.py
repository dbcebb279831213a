"""How well a layer follows transformations of its input: T'(layer(x)) = layer(T(x)).

Cohen and Welling 2016, arXiv 1602.07576; the families of filters that it tells of are those of
Cheng et al. 2017, arXiv 1710.09282, section 4. T' is the same transformation of the places of the
output and the best permutation of its channels.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.layer import Equivariance
from featherweight.engine.weight_forms import CompactLayer

# The best permutation takes the cube of the channels: beyond so many it would be waited for.
MOST_CHANNELS = 512
# Noise of fewer directions than inputs tells as much and costs less.
DIRECTIONS = 32
SAMPLES, ROWS, SEED = 4, 512, 20261124

TRANSLATION, NEGATION, BIAS = "translation", "negation", "shift of the bias"

Transform = Callable[[Tensor], Tensor]
Measured = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


@torch.no_grad()
def equivariance(
    layer: nn.Module, x: Tensor | None = None, check: Check = unchecked
) -> tuple[Equivariance, ...]:
    """Return the error of every transformation that means something for the layer.

    `x` are inputs of the layer, samples first: (N, C, *places), or (N, features) for a linear
    layer; white noise without. The error is ‖T'(layer(x)) - layer(T(x))‖ / ‖layer(T(x))‖, both
    without the mean of each channel, over what no border reaches; 0 is exact, and where nothing
    fits it is around 1. For the shift of the bias it is how far the filters are from having a twin
    that differs by a constant. Empty for layers other than linear ones and convolutions, and for
    those of more than MOST_CHANNELS output channels.
    """
    layer = layer.plain() if isinstance(layer, CompactLayer) else layer
    if not isinstance(layer, Measured):
        return ()
    if layer.weight.shape[0] > MOST_CHANNELS:
        return ()
    if x is None:
        layer = _slimmed(layer)
        x = _noise(layer)
        smooth = _smoothed(x) if x.ndim > 2 else x
    else:
        smooth = x
    margins = _margins(layer)
    found = []
    for name, transform, bent in _transforms(layer):
        check()
        given = smooth if bent else x
        moved, after = layer(given), layer(transform(given))
        if name == TRANSLATION:
            moved = moved.roll(1, -1)
        elif name != NEGATION:
            moved = transform(moved)
        if after.shape == moved.shape:
            cut = _central(after) if bent else margins
            found.append(Equivariance(name, _error(_rows(moved, cut), _rows(after, cut))))
    check()
    found.append(Equivariance(BIAS, _twins(_rows(layer(x), margins))))
    return tuple(found)


def _transforms(layer: nn.Module) -> Iterator[tuple[str, Transform, bool]]:
    """Give each transformation, and whether it needs values between the places there are."""
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        step = layer.stride[-1]
        axes = len(layer.kernel_size)
        yield TRANSLATION, lambda x: x.roll(step, -1), False
        yield "horizontal flip", lambda x: x.flip(-1), False
        if axes > 1:
            yield "vertical flip", lambda x: x.flip(-2), False
            yield "rotation by 90°", lambda x: x.rot90(1, (-2, -1)), False
        if axes == 2:
            yield "rotation by 45°", _bent(_rotation()), True
            yield "scale by 1.5", _bent(_scaling()), True
    yield NEGATION, torch.neg, False


def _rotation() -> Tensor:
    side = 0.5**0.5
    return torch.tensor([[side, -side, 0.0], [side, side, 0.0]])


def _scaling() -> Tensor:
    return torch.tensor([[1 / 1.5, 0.0, 0.0], [0.0, 1 / 1.5, 0.0]])


def _bent(matrix: Tensor) -> Transform:
    def bend(x: Tensor) -> Tensor:
        grid = nn.functional.affine_grid(
            matrix.to(x.dtype).expand(len(x), 2, 3), list(x.shape), align_corners=True
        )
        return nn.functional.grid_sample(x, grid, align_corners=True)

    return bend


def _slimmed(layer: Measured) -> Measured:
    """Return the layer behind a mixture of its inputs from few directions, where that is fewer."""
    weight = layer.weight
    if isinstance(layer, nn.Linear) or layer.groups > 1 or layer.in_channels <= DIRECTIONS:
        return layer
    generator = torch.Generator().manual_seed(SEED)
    mixture = torch.randn(layer.in_channels, DIRECTIONS, generator=generator).to(weight.dtype)
    kind: Any = type(layer)
    made: Measured = kind(
        DIRECTIONS, layer.out_channels, layer.kernel_size, layer.stride, layer.padding,
        layer.dilation, padding_mode=layer.padding_mode, bias=False,
    )  # fmt: skip
    made.weight = nn.Parameter(torch.einsum("nc...,cd->nd...", weight, mixture))
    return made


def _noise(layer: Measured) -> Tensor:
    """Return white noise on grids that have a middle, so that they can be turned and flipped."""
    generator = torch.Generator().manual_seed(SEED)
    dtype = layer.weight.dtype
    if isinstance(layer, nn.Linear):
        return torch.randn(ROWS, layer.in_features, generator=generator).to(dtype)
    sides = []
    for size, step, spread in zip(layer.kernel_size, layer.stride, layer.dilation, strict=True):
        reach = (size - 1) * spread + 1
        sides.append(reach + step * 2 * (reach + 3))
    shape = (SAMPLES, layer.in_channels, *sides)
    return torch.randn(shape, generator=generator).to(dtype)


def _smoothed(x: Tensor) -> Tensor:
    """Return noise that changes slowly: what lies between its places can be told."""
    pool = (nn.functional.avg_pool1d, nn.functional.avg_pool2d, nn.functional.avg_pool3d)[
        x.ndim - 3
    ]
    for _ in range(2):
        x = pool(x, 3, 1, 1)
    return x


def _central(y: Tensor) -> tuple[int, ...]:
    """Return margins that leave the middle half, which turning fills whole."""
    return tuple(side // 4 for side in y.shape[2:])


def _margins(layer: nn.Module) -> tuple[int, ...]:
    """Return how many places at every end of each axis of the output a border can reach."""
    if isinstance(layer, nn.Linear):
        return ()
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    return tuple(
        -(-(size - 1) * spread // step) + 1
        for size, spread, step in zip(layer.kernel_size, layer.dilation, layer.stride, strict=True)
    )


def _rows(y: Tensor, margins: tuple[int, ...]) -> Tensor:
    """Return a row for each channel without its mean, float64; margins are cut where they can."""
    for axis, margin in zip(range(-len(margins), 0), margins, strict=True):
        length = y.shape[axis] - 2 * margin
        if length > 0:
            y = y.narrow(axis, margin, length)
    channel = 1 if margins else y.ndim - 1
    rows = y.movedim(channel, 0).flatten(1).double()
    return rows - rows.mean(1, keepdim=True)


def _error(moved: Tensor, after: Tensor) -> float:
    """Return the relative error with the best permutation of the channels."""
    energy = float(after.square().sum())
    if energy == 0:
        return 0.0
    from scipy.optimize import linear_sum_assignment  # takes longer to load than to use

    distances = _distances(moved, after)
    rows, columns = linear_sum_assignment(distances.numpy())
    # From the differences themselves: the expanded squares lose half of the digits.
    lost = float((moved[rows] - after[columns]).square().sum())
    return float((lost / energy) ** 0.5)


def _twins(rows: Tensor) -> float:
    """Return how far each channel is from the nearest other, relative to all of them."""
    energy = float(rows.square().sum())
    if energy == 0 or len(rows) < 2:
        return 1.0
    distances = _distances(rows, rows).fill_diagonal_(float("inf"))
    nearest = distances.argmin(1)
    return float(((rows - rows[nearest]).square().sum() / energy) ** 0.5)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    squares = a.square().sum(1)[:, None] + b.square().sum(1)[None]
    return (squares - 2 * a @ b.T).clamp_min(0)
