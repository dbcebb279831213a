"""Store every symbol in its own few bits."""

from typing import ClassVar, Literal

from torch import nn

from featherweight.engine.bit_packing import packed, unpacked
from featherweight.engine.methods.method import Coded, CodingMethod
from featherweight.engine.weight_forms import Symbols, form_lock


class BitPacked(CodingMethod, frozen=True, kw_only=True):
    """Puts the symbols side by side without gaps; it takes symbols of any number of bits."""

    name: ClassVar[str] = "bit_packed"
    title: ClassVar[str] = "Bit-packed"
    label: ClassVar[str] = "Packed"
    advice: ClassVar[str] = (
        "Every weight takes exactly the bits of its precision: 4-bit weights are half a byte. "
        "The size is known beforehand."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file"
    strength: ClassVar[str] = ""
    fixed_length: ClassVar[bool] = True

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer's weights cannot be coded; empty if they can."""
        return form_lock(layer)

    def symbol_lock(self, bits: int, zero: bool) -> str:  # noqa: ARG002
        """Return nothing: all symbols can be packed."""
        return ""

    def encode(self, symbols: Symbols) -> Coded:
        """Return the packed symbols."""
        payload = packed(symbols.values, symbols.bits).tobytes()
        return Coded(payload, symbols.values.size * symbols.bits)

    def decode(self, payload: bytes, count: int, bits: int, zero: int | None) -> Symbols:
        """Return the symbols again. Raises ValueError where the payload is damaged."""
        return Symbols(unpacked(payload, bits, count), bits, zero)

    def predicted(self, symbols: Symbols) -> Coded:
        """Return the exact bit counts: count times bits."""
        return Coded(b"", symbols.values.size * symbols.bits)
