"""Let the frequencies of kernels share values by a hash of their place, low ones the most values.

Chen, Wilson, Tyree, Weinberger, Chen 2016 (arXiv 1506.04449): Compressing Convolutional Neural
Networks in the Frequency Domain (FreshNets).
"""

import math
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.method import PrecisionMethod, SideBits
from featherweight.engine.methods.precision.hashed import HashedForm
from featherweight.engine.options import Retraining, number
from featherweight.engine.weight_forms import Array, Symbols, TrainableForm, expect, form_lock
from featherweight.engine.weight_unpacking import (
    cosines,
    frequency_bands,
    frequency_places,
    hashed_frequencies,
)


class FrequencyForm(HashedForm):
    """A weight whose kernels' cosine coefficients are values that a hash of their place tells.

    `buckets` are how many values the coefficients of each frequency share, the lowest first.
    """

    kind: ClassVar[str] = "frequency"

    def __init__(
        self, shape: tuple[int, ...], values: Tensor, seed: int, buckets: tuple[int, ...]
    ) -> None:
        super().__init__(shape, values, seed)
        self.buckets = buckets

    def told(self) -> dict[str, object]:
        """Return what a file tells of the form beside its values."""
        shape, buckets = list(self.shape), list(self.buckets)
        return {"form": self.kind, "shape": shape, "seed": self.seed, "buckets": buckets}

    def forward(self) -> Tensor:
        """Return the weight, float32."""
        return hashed_frequencies(self.told(), {"values": self.values}).reshape(self.shape)

    def parts(self) -> dict[str, Array]:
        """Return the seed and the numbers of values of all frequencies, uint32."""
        return {"tables": np.array((self.seed, *self.buckets), np.uint32)}

    @classmethod
    def rebuilt(
        cls, shape: tuple[int, ...], symbols: Symbols, parts: dict[str, Array]
    ) -> "FrequencyForm":
        """Return the form of these values and this table. Raises ValueError on a mismatch."""
        table = parts.get("tables", np.zeros(0))
        sizes = _band_sizes(shape)
        if len(parts) != 1 or table.dtype != np.uint32 or table.shape != (1 + len(sizes),):
            raise ValueError("the parts do not fit: there is no seed")
        seed, *buckets = table.tolist()
        if not all(0 < held <= size for held, size in zip(buckets, sizes, strict=True)):
            raise ValueError(f"the values do not fit a weight of the shape {shape}")
        expect(symbols, (sum(buckets),), 32, None)
        values = torch.from_numpy(symbols.values.view(np.float32))
        return cls(shape, values, seed, tuple(buckets))


class TrainableFrequency(TrainableForm):
    """Values of frequencies, which train by the mean gradient of their coefficients."""

    def __init__(self, weight: Tensor, seed: int, buckets: tuple[int, ...]) -> None:
        super().__init__(tuple(weight.shape))
        self.seed, self.buckets = seed, buckets
        self.places: Tensor
        self.signs: Tensor
        self.basis: Tensor
        places, signs = frequency_places(list(weight.shape), seed, list(buckets))
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("signs", signs, persistent=False)
        self.register_buffer("basis", cosines(list(weight.shape[2:])), persistent=False)
        coefficients = weight.detach().reshape(signs.shape) @ self.basis.T
        sums = torch.zeros(sum(buckets), dtype=torch.float64)
        sums.index_add_(0, places.reshape(-1), (coefficients * signs).double().reshape(-1))
        self.values = nn.Parameter((sums / self._sizes()).float())

    def forward(self) -> Tensor:
        """Return the weight, float32."""
        fixed = self.values.detach()
        # By its sum a value that many coefficients share would leap past all of them.
        values = fixed + (self.values - fixed) / self._sizes()
        return ((values[self.places] * self.signs) @ self.basis).reshape(self.shape)

    def settled(self) -> FrequencyForm:
        """Return the same weight as its values."""
        return FrequencyForm(self.shape, self.values, self.seed, self.buckets)

    def _sizes(self) -> Tensor:
        return torch.bincount(self.places.reshape(-1), minlength=sum(self.buckets)).clamp_min(1)


class Frequency(PrecisionMethod, frozen=True, kw_only=True):
    """Gives every cosine coefficient of every kernel, by a hash of its place, a value and a sign.

    Kernels are smooth, so low frequencies get most of the values. A value starts at the mean of the
    coefficients that share it, which has the least error because the basis is orthonormal.
    """

    name: ClassVar[str] = "frequency"
    title: ClassVar[str] = "Hashed frequencies"
    label: ClassVar[str] = "Freq. {}"
    advice: ClassVar[str] = (
        "Stores one 32-bit value for every so many weights, most of them for low frequencies of "
        "the kernels, and no index. Needs retraining to be worth anything. The network runs as "
        "fast as before."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file"
    strength: ClassVar[str] = "weights_per_value"
    retrain: ClassVar[Retraining] = "needed"
    holds_zero: ClassVar[bool] = False
    mask_lock: ClassVar[str] = "hashed weights cannot be zero one by one."

    weights_per_value: Annotated[
        int, number("Weights per value", "How many weights share a value on average.", 2, 512)
    ] = 8
    falloff: Annotated[
        float,
        number(
            "Share of the next",
            "How many values a coefficient has by those of one of the next lower frequency. At 1 "
            "all frequencies have as many.",
            0.1,
            1.0,
        ),
    ] = 0.5
    seed: Annotated[int, number("Seed", "Another seed shares the values otherwise.", 0, 65535)] = 0

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer has no kernels with frequencies; empty if it has."""
        if reason := form_lock(layer):
            return reason
        weights = [value for value in layer.parameters(recurse=False) if value.ndim >= 2]
        if not any(value.ndim > 2 and math.prod(value.shape[2:]) > 1 for value in weights):
            return "It has no kernels of two or more places, and so no frequencies."
        return ""

    def trainable(
        self,
        weight: Tensor,
        mask: Tensor | None,
        check: Check = unchecked,  # noqa: ARG002
    ) -> TrainableFrequency:
        """Return a form that starts at the means of the values. Raises ValueError for a mask."""
        if mask is not None:
            raise ValueError(self.mask_lock)
        return TrainableFrequency(weight, self.seed, self._buckets(tuple(weight.shape)))

    def symbol_bits(self) -> int:
        """Return 32, for a value."""
        return 32

    def symbol_count(self, shape: tuple[int, ...]) -> int:
        """Return the number of values of all frequencies."""
        return sum(self._buckets(shape))

    def side_bits(self, shape: tuple[int, ...]) -> SideBits:
        """Return 32 bits for the seed and for the number of values of each frequency."""
        return SideBits(tables=32 * (1 + len(_band_sizes(shape))))

    def _buckets(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Share the values out, at least one and at most one per coefficient to each frequency."""
        sizes = _band_sizes(shape)
        left = max(round(math.prod(shape) / self.weights_per_value), len(sizes))
        buckets = []
        for band, size in enumerate(sizes):
            wanted = [other * self.falloff**at for at, other in enumerate(sizes)][band:]
            after = len(sizes) - band - 1
            held = round(left * wanted[0] / sum(wanted))
            buckets.append(max(min(held, size, left - after), 1))
            left -= buckets[-1]
        return tuple(buckets)


def _band_sizes(shape: tuple[int, ...]) -> list[int]:
    """Return how many coefficients each frequency has: places in a kernel times kernels."""
    kernels = math.prod(shape[:2])
    places = torch.bincount(frequency_bands(list(shape[2:])))
    return [kernels * count for count in places.tolist()]
