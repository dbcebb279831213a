"""Hold weights as 16-bit floats.

Micikevicius et al.: Mixed Precision Training (2018).
"""

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from featherweight.engine.methods.method import Check, PrecisionMethod, SideBits, unchecked
from featherweight.engine.weight_forms import (
    Array,
    StoredForm,
    Symbols,
    TrainableForm,
    bit_patterns,
    expect,
    expect_parts,
    form_lock,
    masked,
    started,
)

LARGEST = 65504.0


class Float16Form(StoredForm):
    """A weight as float16; its symbols are the 16-bit patterns."""

    kind: ClassVar[str] = "float16"

    def __init__(self, values: Tensor) -> None:
        super().__init__(tuple(values.shape))
        self.values: Tensor
        self.register_buffer("values", values)

    def forward(self) -> Tensor:
        """Return the weight, float32."""
        return self.values.float()

    def symbols(self) -> Symbols:
        """Return the bit patterns; +0.0 is the zero."""
        return Symbols(bit_patterns(self.values), 16, 0)

    def parts(self) -> dict[str, Array]:
        """Return nothing: the symbols are all there is."""
        return {}

    @classmethod
    def rebuilt(
        cls, shape: tuple[int, ...], symbols: Symbols, parts: dict[str, Array]
    ) -> "Float16Form":
        """Return the form of these bit patterns. Raises ValueError on a mismatch."""
        expect(symbols, shape, 16, 0)
        expect_parts(parts)
        patterns: Any = symbols.values.astype(np.uint16).view(np.float16)
        return cls(torch.from_numpy(patterns).reshape(shape))


class TrainableFloat16(TrainableForm):
    """Float32 values that are rounded to float16 when used; gradients pass straight through."""

    def __init__(self, weight: Tensor, mask: Tensor | None) -> None:
        super().__init__(tuple(weight.shape))
        self.values = nn.Parameter(started(weight, mask))
        self.mask: Tensor | None
        self.register_buffer("mask", mask)

    def forward(self) -> Tensor:
        """Return the rounded weight, float32."""
        inside = masked(self.values, self.mask).clamp(-LARGEST, LARGEST)
        # The difference is exactly zero: it adds a gradient and no rounding.
        return inside.detach().half().float() + (inside - inside.detach())

    def settled(self) -> Float16Form:
        """Return the same weight as float16."""
        return Float16Form(self().detach().half())


class Float16(PrecisionMethod, frozen=True, kw_only=True):
    """Rounds every weight to a 16-bit float; what is beyond ±65504 becomes ±65504."""

    name: ClassVar[str] = "float16"
    title: ClassVar[str] = "16-bit floats"
    advice: ClassVar[str] = (
        "Halves the file at next to no loss of accuracy. The network runs as fast as before."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file"
    strength: ClassVar[str] = ""

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer's weights cannot be rounded; empty if they can."""
        return form_lock(layer)

    def trainable(
        self,
        weight: Tensor,
        mask: Tensor | None,
        check: Check = unchecked,  # noqa: ARG002
    ) -> TrainableFloat16:
        """Return a form that starts at the rounded weight."""
        return TrainableFloat16(weight, mask)

    def symbol_bits(self) -> int:
        """Return 16."""
        return 16

    def side_bits(self, shape: tuple[int, ...]) -> SideBits:  # noqa: ARG002
        """Return none: every weight stands for itself."""
        return SideBits()
