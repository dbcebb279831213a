"""Hold weights as 16-bit floats: float16, or bfloat16, which are the upper halves of float32.

Micikevicius et al.: Mixed Precision Training (2018); Kalamkar et al.: A Study of BFLOAT16 for Deep
Learning Training (2019).
"""

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.method import PrecisionMethod, SideBits
from featherweight.engine.options import Retraining, words
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


class Float16Form(StoredForm):
    """A weight as float16; its symbols are the 16-bit patterns."""

    kind: ClassVar[str] = "float16"
    dtype: ClassVar[torch.dtype] = torch.float16

    def __init__(self, values: Tensor) -> None:
        super().__init__(tuple(values.shape))
        self.values: Tensor
        self.register_buffer("values", values.to(self.dtype))

    def forward(self) -> Tensor:
        """Return the weight, float32."""
        return self.values.float()

    def symbols(self) -> Symbols:
        """Return the bit patterns; +0.0 is the zero."""
        return Symbols(bit_patterns(self.values.view(torch.int16)), 16, 0)

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
        patterns = torch.from_numpy(symbols.values.astype(np.uint16).view(np.int16))
        return cls(patterns.view(cls.dtype).reshape(shape))


class BFloat16Form(Float16Form):
    """A weight as bfloat16; its symbols are the 16-bit patterns."""

    kind: ClassVar[str] = "bfloat16"
    dtype: ClassVar[torch.dtype] = torch.bfloat16


class TrainableFloat16(TrainableForm):
    """Float32 values that are rounded when used; gradients pass straight through.

    `stored` is the form that it settles to, which says what it is rounded to.
    """

    def __init__(self, weight: Tensor, mask: Tensor | None, stored: type[Float16Form]) -> None:
        super().__init__(tuple(weight.shape))
        self.stored = stored
        self.values = nn.Parameter(started(weight, mask))
        self.mask: Tensor | None
        self.register_buffer("mask", mask)

    def forward(self) -> Tensor:
        """Return the rounded weight, float32."""
        largest = torch.finfo(self.stored.dtype).max
        inside = masked(self.values, self.mask).clamp(-largest, largest)
        # The difference is exactly zero: it adds a gradient and no rounding.
        return inside.detach().to(self.stored.dtype).float() + (inside - inside.detach())

    def settled(self) -> Float16Form:
        """Return the same weight in 16 bits."""
        return self.stored(self().detach())


class Float16(PrecisionMethod, frozen=True, kw_only=True):
    """Rounds every weight to a 16-bit float; what is beyond the largest one becomes that.

    It is ±65504 for float16, and for bfloat16 ±3.39e38, which is hardly less than for float32.
    """

    name: ClassVar[str] = "float16"
    title: ClassVar[str] = "16-bit floats"
    label: ClassVar[str] = "16-bit float"
    advice: ClassVar[str] = (
        "Halves the file at next to no loss of accuracy. The network runs as fast as before."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file"
    strength: ClassVar[str] = ""
    retrain: ClassVar[Retraining] = "none"

    format: Annotated[
        Literal["float16", "bfloat16"],
        words("Format", "float16 is 8 times finer; bfloat16 reaches as far as 32-bit floats."),
    ] = "float16"

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
        stored = BFloat16Form if self.format == "bfloat16" else Float16Form
        return TrainableFloat16(weight, mask, stored)

    def symbol_bits(self) -> int:
        """Return 16."""
        return 16

    def side_bits(self, shape: tuple[int, ...]) -> SideBits:  # noqa: ARG002
        """Return none: every weight stands for itself."""
        return SideBits()
