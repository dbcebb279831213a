"""Let weights share values by a hash of their place, so that no index is stored.

Chen et al.: Compressing Neural Networks with the Hashing Trick (HashedNets, 2015).
"""

import math
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.method import PrecisionMethod, SideBits
from featherweight.engine.options import Retraining, number
from featherweight.engine.weight_forms import (
    Array,
    StoredForm,
    Symbols,
    TrainableForm,
    bit_patterns,
    expect,
    form_lock,
)

WORD = (1 << 32) - 1
SPREAD = 0x61C88647
# Each round: shift right, xor, multiply. Below 2**31, so that products stay within 63 bits.
ROUNDS = ((16, 0x7FEB352D), (15, 0x2C1B3C6D))
LAST_SHIFT = 16


class HashedForm(StoredForm):
    """A weight whose element i is plus or minus the float32 value of a bucket that a hash tells.

    Its symbols are the bit patterns of the buckets' values; seed and number of buckets are a table.
    """

    kind: ClassVar[str] = "hashed"

    def __init__(self, shape: tuple[int, ...], values: Tensor, seed: int) -> None:
        super().__init__(shape)
        self.seed = seed
        self.values: Tensor
        self.register_buffer("values", values.detach().clone())

    def forward(self) -> Tensor:
        """Return the weight, float32."""
        buckets, signs = hashed(math.prod(self.shape), self.values.numel(), self.seed)
        return (self.values[buckets] * signs).reshape(self.shape)

    def symbols(self) -> Symbols:
        """Return the bit patterns of the buckets' values; the weight 0.0 has none of its own."""
        return Symbols(bit_patterns(self.values), 32, None)

    def parts(self) -> dict[str, Array]:
        """Return seed and number of buckets, uint32."""
        return {"tables": np.array((self.seed, self.values.numel()), np.uint32)}

    @classmethod
    def rebuilt(
        cls, shape: tuple[int, ...], symbols: Symbols, parts: dict[str, Array]
    ) -> "HashedForm":
        """Return the form of these values and seed. Raises ValueError on a mismatch."""
        table = parts.get("tables", np.zeros(0))
        if len(parts) != 1 or table.dtype != np.uint32 or table.shape != (2,):
            raise ValueError("the parts do not fit: there is no seed")
        seed, buckets = table.tolist()
        if not 0 < buckets <= math.prod(shape) or symbols.values.size != buckets:
            raise ValueError(f"{buckets} values do not fit a weight of the shape {shape}")
        expect(symbols, (buckets,), 32, None)
        return cls(shape, torch.from_numpy(symbols.values.view(np.float32)), seed)


class TrainableHashed(TrainableForm):
    """The values of the buckets, which train by the mean gradient of the weights they stand for."""

    def __init__(self, shape: tuple[int, ...], values: Tensor, seed: int) -> None:
        super().__init__(shape)
        self.seed = seed
        self.values = nn.Parameter(values)
        self.buckets: Tensor
        self.signs: Tensor
        buckets, signs = hashed(math.prod(shape), values.numel(), seed)
        self.register_buffer("buckets", buckets, persistent=False)
        self.register_buffer("signs", signs, persistent=False)

    def forward(self) -> Tensor:
        """Return the weight, float32."""
        fixed = self.values.detach()
        # By its sum a value that many weights share would leap past all of them.
        values = fixed + (self.values - fixed) / _sizes(self.buckets, fixed.numel())
        return (values.index_select(0, self.buckets) * self.signs).reshape(self.shape)

    def settled(self) -> HashedForm:
        """Return the same weight as its buckets' values."""
        return HashedForm(self.shape, self.values, self.seed)


class Hashed(PrecisionMethod, frozen=True, kw_only=True):
    """Gives every weight, by a hash of its place, one of a few values and a sign.

    A value starts at the mean of the weights that share it, which has the least error.
    """

    name: ClassVar[str] = "hashed"
    title: ClassVar[str] = "Hashed weights"
    label: ClassVar[str] = "Hash {}"
    advice: ClassVar[str] = (
        "Stores one 32-bit value for every so many weights, and no index. Needs retraining to be "
        "worth anything: it forgets the weights it starts from. Best for large layers and tables. "
        "The network runs as fast as before."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file"
    strength: ClassVar[str] = "weights_per_value"
    retrain: ClassVar[Retraining] = "needed"
    holds_zero: ClassVar[bool] = False
    mask_lock: ClassVar[str] = "hashed weights cannot be zero one by one."

    weights_per_value: Annotated[
        int, number("Weights per value", "How many weights share a value on average.", 2, 512)
    ] = 8
    seed: Annotated[int, number("Seed", "Another seed shares the values otherwise.", 0, 65535)] = 0

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer's weights cannot be hashed; empty if they can."""
        return form_lock(layer)

    def trainable(
        self,
        weight: Tensor,
        mask: Tensor | None,
        check: Check = unchecked,  # noqa: ARG002
    ) -> TrainableHashed:
        """Return a form that starts at the means of the buckets. Raises ValueError for a mask."""
        if mask is not None:
            raise ValueError(self.mask_lock)
        shape = tuple(weight.shape)
        count = self.symbol_count(shape)
        buckets, signs = hashed(weight.numel(), count, self.seed)
        flat = weight.detach().reshape(-1) * signs
        sums = torch.bincount(buckets, flat.double(), minlength=count)
        return TrainableHashed(shape, (sums / _sizes(buckets, count)).float(), self.seed)

    def symbol_bits(self) -> int:
        """Return 32, for the value of a bucket."""
        return 32

    def symbol_count(self, shape: tuple[int, ...]) -> int:
        """Return the number of buckets."""
        return max(round(math.prod(shape) / self.weights_per_value), 1)

    def side_bits(self, shape: tuple[int, ...]) -> SideBits:  # noqa: ARG002
        """Return 64 bits for the seed and the number of buckets."""
        return SideBits(tables=64)


def _sizes(buckets: Tensor, count: int) -> Tensor:
    return torch.bincount(buckets, minlength=count).clamp_min(1)


def hashed(count: int, buckets: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return for places 0 to count - 1 bucket, int32, and sign, float32, the same everywhere."""
    mixed = np.arange(count, dtype=np.uint32) * np.uint32(SPREAD) + np.uint32(seed)
    for shift, factor in ROUNDS:
        mixed = (mixed ^ mixed >> np.uint32(shift)) * np.uint32(factor)
    mixed ^= mixed >> np.uint32(LAST_SHIFT)
    places = ((mixed >> np.uint32(1)) % np.uint32(buckets)).astype(np.int32)
    signs = 1 - 2 * (mixed & np.uint32(1)).astype(np.float32)
    return torch.from_numpy(places), torch.from_numpy(signs)
