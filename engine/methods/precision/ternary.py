"""Hold every weight as minus a scale, zero or plus the scale.

Li, Zhang, Liu: Ternary Weight Networks (2016), with scales that train as in Zhu et al.: Trained
Ternary Quantization (2017); straight-through gradients are from Bengio, Léonard, Courville (2013).
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.method import PrecisionMethod, SideBits
from featherweight.engine.methods.precision.integer import (
    IntegerForm,
    along_rows,
    halved,
    with_half_scales,
)
from featherweight.engine.options import Retraining, words
from featherweight.engine.weight_forms import TrainableForm, form_lock, masked, started

BITS = 2
SHARE_OF_MEAN = 0.7
ELEMENTS_AT_ONCE = 1 << 20


class TrainableTernary(TrainableForm):
    """Float32 values, each replaced by -scale, 0 or scale of its row when used; both train.

    What is within the row's `share` of its mean magnitude becomes 0. Gradients pass straight
    through to the values, so that a weight can change its sign or vanish while it trains.
    """

    def __init__(
        self, weight: Tensor, mask: Tensor | None, shares: Tensor, in_halves: bool = False
    ) -> None:
        super().__init__(tuple(weight.shape))
        self.in_halves = in_halves
        self.values = nn.Parameter(started(weight, mask))
        self.mask: Tensor | None
        self.shares: Tensor
        self.register_buffer("mask", mask)
        self.register_buffer("shares", shares)
        start = self.values.detach()
        levels = self._levels(start)
        self.scales = nn.Parameter((levels * start).flatten(1).sum(1) / survivors(levels))

    def forward(self) -> Tensor:
        """Return the weight, float32."""
        inside = masked(self.values, self.mask)
        levels = self._levels(inside.detach())
        # By its sum over a whole row a scale would leap, so it takes the mean of its gradients.
        step = (self.scales - self.scales.detach()) / survivors(levels)
        scales = along_rows(self._stored().float() + step, self.shape)
        # The difference is exactly zero: it adds a gradient and no rounding.
        return levels * scales + (inside - inside.detach())

    def settled(self) -> IntegerForm:
        """Return the same weight as integers of 2 bits."""
        levels = self._levels(masked(self.values, self.mask).detach())
        return IntegerForm(levels.to(torch.int8), self._stored(), BITS)

    def _stored(self) -> Tensor:
        scales = self.scales.detach()
        return halved(scales) if self.in_halves else scales

    def _levels(self, weight: Tensor) -> Tensor:
        size = weight.abs()
        bounds = self.shares * size.flatten(1).mean(1)
        return torch.where(size > along_rows(bounds, self.shape), weight.sign(), 0.0)


class Ternary(PrecisionMethod, frozen=True, kw_only=True):
    """Makes every weight -1, 0 or 1 times the scale of its row, the mean of what is not zero.

    The least error has threshold and scale that fit each other best, found exactly from the sorted
    row; 0.7 of the mean magnitude is what is close to it for bell-shaped weights.
    """

    name: ClassVar[str] = "ternary"
    title: ClassVar[str] = "Ternary"
    label: ClassVar[str] = "Ternary"
    advice: ClassVar[str] = (
        "2 bits per weight, about 1.5 with entropy coding. Needs retraining to be worth anything: "
        "without it accuracy falls far. The network runs as fast as before."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file"
    strength: ClassVar[str] = ""
    retrain: ClassVar[Retraining] = "needed"

    threshold: Annotated[
        Literal["least error", "0.7 of mean"],
        words("Threshold", "Below which size of a row's weights they become zero."),
    ] = "least error"
    scale_bits: Annotated[
        Literal[32, 16], words("Bits of a scale", "16 bits save half of what scales take.")
    ] = 32

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer's weights cannot become ternary; empty if they can."""
        return form_lock(layer)

    def trainable(
        self, weight: Tensor, mask: Tensor | None, check: Check = unchecked
    ) -> TrainableTernary:
        """Return a form that starts at the ternary weight; its thresholds follow the values."""
        rows = masked(weight.detach(), mask).flatten(1)
        if self.threshold == "least error":
            shares = best_shares(rows, check)
        else:
            shares = torch.full((rows.shape[0],), SHARE_OF_MEAN)
        return TrainableTernary(weight, mask, shares, self.scale_bits == 16)

    def narrowed(self, weights: Sequence[Tensor]) -> "Ternary":
        """Return it with scales of 16 bits where the largest weights are not too small for them."""
        return with_half_scales(self, weights, 1)

    def symbol_bits(self) -> int:
        """Return 2."""
        return BITS

    def side_bits(self, shape: tuple[int, ...]) -> SideBits:
        """Return the bits of the scale of every row."""
        return SideBits(scales=self.scale_bits * shape[0])


def survivors(levels: Tensor) -> Tensor:
    """Return how many weights of every row are not zero, at least one, as float32."""
    return levels.flatten(1).abs().sum(1).clamp_min(1)


@torch.no_grad()
def best_shares(rows: Tensor, check: Check = unchecked) -> Tensor:
    """Return for every row the threshold of the least squared error by the row's mean magnitude.

    With the k largest magnitudes kept at their mean, the error is the energy of the row less the
    square of their sum by k; `rows` is float32 (count, n), the result float32 (count,).
    """
    together = max(ELEMENTS_AT_ONCE // max(rows.shape[1], 1), 1)
    return torch.cat([_best_shares(piece, check) for piece in rows.split(together)])


def _best_shares(rows: Tensor, check: Check) -> Tensor:
    check()
    ordered = rows.abs().sort(dim=1, descending=True).values
    counts = torch.arange(1, rows.shape[1] + 1)
    last = (ordered.cumsum(1, dtype=torch.float64).square() / counts).argmax(1, keepdim=True)
    following = nn.functional.pad(ordered, (0, 1)).gather(1, last + 1)
    thresholds = (ordered.gather(1, last) + following).squeeze(1) / 2
    smallest = torch.finfo(torch.float32).tiny
    return thresholds / ordered.mean(1).clamp_min(smallest)
