"""Diagonals of a product of matrices, fitted by turns to the matrix that it should be."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from featherweight.engine.fastfood_layers import FastfoodLinear
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.output_factors import whitening
from featherweight.engine.methods.output_fitting import Patches

SEED, SWEEPS, STEPS = 20260101, 4, 2
# Where one pass computes more numbers than this, there is one sweep: it has most of the gain.
MOST_NUMBERS = 1 << 25
WIDTH, NUMBERS_AT_ONCE = 1024, 1 << 23


@dataclass(frozen=True)
class Target:
    """What a layer should make of inputs whose second moments are given, float32.

    Each part are the first of the columns that its inputs have, the inputs there, and the outputs.
    """

    columns: int
    parts: tuple[tuple[int, Tensor, Tensor], ...]

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Give inputs, rows by columns, and their outputs."""
        for start, inputs, outputs in self.parts:
            behind = self.columns - start - inputs.shape[1]
            yield functional.pad(inputs, (start, behind)), outputs


def target(layer: FastfoodLinear, weight: Tensor, patches: Patches | None) -> Target:
    """Return what a layer has to make to be near to a weight: on patches, or as a matrix."""
    if patches is None:
        roots = [torch.eye(len(part)) for part in torch.arange(weight.shape[1]).split(WIDTH)]
    else:
        roots = [whitening(block)[0].float() for block in patches.blocks]
    rows = max(1, NUMBERS_AT_ONCE // layer.middle.numel())
    parts, start = [], 0
    for root in roots:
        seen = weight[:, start : start + len(root)].float().T
        parts += [(start, piece, piece @ seen) for piece in root.T.split(rows)]
        start += len(root)
    return Target(start, tuple(parts))


def fit_diagonals(
    layer: FastfoodLinear, wanted: Target, check: Check = unchecked
) -> dict[str, Tensor]:
    """Return diagonals, float32, with which the layer is near to a target.

    The first are random signs from a seed, as in Fastfood; from then on each is by turns the least
    squares that the others leave. The layer may be on the meta device.
    """
    generator = torch.Generator().manual_seed(SEED)
    signs = torch.randint(0, 2, layer.first.shape, generator=generator) * 2 - 1
    tensors = {
        "first": signs.float(),
        "middle": torch.zeros(layer.middle.shape),
        "last": torch.ones(layer.last.shape),
    }
    sweeps = SWEEPS if wanted.columns * layer.middle.numel() <= MOST_NUMBERS else 1
    for _ in range(sweeps):
        for name in ("middle", "last", "first"):
            tensors[name] = _least_squares(layer, tensors, name, wanted, check)
    return tensors


def _least_squares(
    layer: FastfoodLinear, tensors: dict[str, Tensor], name: str, wanted: Target, check: Check
) -> Tensor:
    """Return a diagonal that is nearer to the target, by conjugate gradients."""

    def pulled(value: Tensor, share: float) -> Tensor:
        """Return the gradient of half the squares, where `share` of the outputs is wanted."""
        total = torch.zeros_like(value)
        for x, y in wanted.pairs():
            check()
            with torch.enable_grad():
                leaf = value.detach().requires_grad_()
                lost = layer.computed({**tensors, name: leaf}, x) - share * y
                total += torch.autograd.grad(lost.square().sum() / 2, leaf)[0]
        return total

    value = tensors[name]
    rest = -pulled(value, 1.0)
    direction, length = rest, rest.square().sum()
    for _ in range(STEPS):
        image = pulled(direction, 0.0)
        curve = (direction * image).sum()
        if not curve > 0:
            break
        step = length / curve
        value, rest = value + step * direction, rest - step * image
        before, length = length, rest.square().sum()
        direction = rest + length / before * direction
    return value
