"""Hold every weight as its sign times a scale, or as a sum of a few of these.

Courbariaux, Bengio, David: BinaryConnect (2015); Rastegari et al.: XNOR-Net (2016) for the scale of
every row; Guo et al.: Network Sketching (2017) for the sum of residuals.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from featherweight.engine.bit_packing import packed, unpacked
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.method import PrecisionMethod, SideBits
from featherweight.engine.methods.precision.integer import (
    along_rows,
    halved,
    with_half_scales,
)
from featherweight.engine.options import Retraining, words
from featherweight.engine.weight_forms import (
    Array,
    StoredForm,
    Symbols,
    TrainableForm,
    expect,
    expect_parts,
    form_lock,
    started,
)

MOST_TERMS = 3


class BinaryForm(StoredForm):
    """A weight as a sum of terms, each a sign per weight times a scale per row.

    Bit k of a symbol is the sign of term k, set for plus; `scales` are (rows, terms), float32 or
    float16.
    """

    kind: ClassVar[str] = "binary"

    def __init__(self, signs: Tensor, scales: Tensor) -> None:
        super().__init__(tuple(signs.shape))
        self.terms = scales.shape[1]
        self.packed: Tensor
        self.scales: Tensor
        values = signs.reshape(-1).numpy()
        self.register_buffer("packed", torch.from_numpy(packed(values, self.terms)))
        self.register_buffer("scales", scales.detach().clone())

    def planes(self) -> list[Array]:
        """Return the bits of every term, uint8 of the weight's shape."""
        values = self.symbols().values.reshape(self.shape)
        return [(values >> term & 1).astype(np.uint8) for term in range(self.terms)]

    def forward(self) -> Tensor:
        """Return the weight, float32."""
        signs = [torch.from_numpy(plane).float() * 2 - 1 for plane in self.planes()]
        return summed(signs, self.scales.float())

    def symbols(self) -> Symbols:
        """Return the signs of all terms; 0.0 has no symbol."""
        count = int(np.prod(self.shape, dtype=np.int64))
        values = unpacked(self.packed.numpy(), self.terms, count)
        return Symbols(values, self.terms, None, self.row)

    def parts(self) -> dict[str, Array]:
        """Return the scales."""
        return {"scales": self.scales.numpy()}

    @classmethod
    def rebuilt(
        cls, shape: tuple[int, ...], symbols: Symbols, parts: dict[str, Array]
    ) -> "BinaryForm":
        """Return the form of these signs and scales. Raises ValueError on a mismatch."""
        if not 1 <= symbols.bits <= MOST_TERMS:
            raise ValueError(f"there are no binary weights of {symbols.bits} terms")
        expect(symbols, shape, symbols.bits, None)
        scales = parts.get("scales", np.zeros(0))
        floats = scales.astype(np.float32) if scales.dtype == np.float16 else scales
        expect_parts({**parts, "scales": floats}, scales=(shape[0], symbols.bits))
        signs = torch.from_numpy(symbols.values.astype(np.uint8)).reshape(shape)
        return cls(signs, torch.from_numpy(parts["scales"]))


class TrainableBinary(TrainableForm):
    """Float32 values, each replaced by a sum of signed scales of its row when used; both train.

    Every term has the sign of what the terms before it leave. Gradients pass straight through to
    the values, so that a weight can change its sign while it trains.
    """

    def __init__(self, weight: Tensor, scales: Tensor, in_halves: bool = False) -> None:
        super().__init__(tuple(weight.shape))
        self.in_halves = in_halves
        self.values = nn.Parameter(started(weight, None))
        self.scales = nn.Parameter(scales)

    def forward(self) -> Tensor:
        """Return the weight, float32."""
        signs = self._signs()
        # By its sum over a whole row a scale would leap, so it takes the mean of its gradients.
        step = (self.scales - self.scales.detach()) / signs[0][0].numel()
        # The difference is exactly zero: it adds a gradient and no rounding.
        straight = self.values - self.values.detach()
        return summed(signs, self._stored().float() + step) + straight

    def settled(self) -> BinaryForm:
        """Return the same weight as packed signs."""
        bits = [(sign > 0).to(torch.uint8) << term for term, sign in enumerate(self._signs())]
        return BinaryForm(torch.stack(bits).sum(0, dtype=torch.uint8), self._stored())

    def _stored(self) -> Tensor:
        scales = self.scales.detach()
        return halved(scales) if self.in_halves else scales

    def _signs(self) -> list[Tensor]:
        left, found = self.values.detach(), []
        for scales in self._stored().float().unbind(1):
            found.append(signs_of(left))
            left = left - found[-1] * along_rows(scales, self.shape)
        return found


class Binary(PrecisionMethod, frozen=True, kw_only=True):
    """Makes every weight its sign times the mean magnitude of its row, which has the least error.

    Further terms do the same to what is left.
    """

    name: ClassVar[str] = "binary"
    title: ClassVar[str] = "Binary"
    label: ClassVar[str] = "Binary {}"
    advice: ClassVar[str] = (
        "1 bit per weight, or as many as it has terms. Needs retraining to be worth anything: "
        "without it accuracy falls far; keep the first and the last layer finer. The network runs "
        "as fast as before."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file"
    strength: ClassVar[str] = "terms"
    retrain: ClassVar[Retraining] = "needed"
    holds_zero: ClassVar[bool] = False
    mask_lock: ClassVar[str] = "binary weights cannot be zero, ternary ones can."

    terms: Annotated[
        Literal[1, 2, 3],
        words("Terms", "How many signs each weight takes; each adds a bit and a scale per row."),
    ] = 1
    scale_bits: Annotated[
        Literal[32, 16], words("Bits of a scale", "16 bits save half of what scales take.")
    ] = 32

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer's weights cannot become binary; empty if they can."""
        return form_lock(layer)

    def trainable(
        self, weight: Tensor, mask: Tensor | None, check: Check = unchecked
    ) -> TrainableBinary:
        """Return a form that starts at the binary weight. Raises ValueError for a mask."""
        if mask is not None:
            raise ValueError(self.mask_lock)
        left, scales = weight.detach(), []
        for _ in range(self.terms):
            check()
            scales.append(left.abs().flatten(1).mean(1))
            left = left - signs_of(left) * along_rows(scales[-1], tuple(weight.shape))
        return TrainableBinary(weight, torch.stack(scales, dim=1), self.scale_bits == 16)

    def narrowed(self, weights: Sequence[Tensor]) -> "Binary":
        """Return it with scales of 16 bits where the largest weights are not too small for them."""
        return with_half_scales(self, weights, 1)

    def symbol_bits(self) -> int:
        """Return one bit for every term."""
        return self.terms

    def side_bits(self, shape: tuple[int, ...]) -> SideBits:
        """Return the bits of the scale of every row and term."""
        return SideBits(scales=self.scale_bits * shape[0] * self.terms)


def signs_of(weight: Tensor) -> Tensor:
    """Return 1.0 for what is not negative, else -1.0."""
    return torch.where(weight < 0, -1.0, 1.0)


def summed(signs: Sequence[Tensor], scales: Tensor) -> Tensor:
    """Return the sum of signs times scales of their rows, always in the same order."""
    shape = tuple(signs[0].shape)
    terms = [sign * along_rows(scales[:, at], shape) for at, sign in enumerate(signs)]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
