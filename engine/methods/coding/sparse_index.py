"""Store only what is not zero, each with the gap since the last one.

Han, Mao, Dally: Deep Compression (2016): relative indices of a fixed width; a gap that is too long
is bridged by filler zeros.
"""

import struct
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from featherweight.engine.bit_packing import packed, unpacked
from featherweight.engine.methods.method import Coded, CodingMethod
from featherweight.engine.options import number
from featherweight.engine.weight_forms import Symbols, form_lock

# The width of a gap, and how many entries (fillers included) follow.
HEADER = struct.Struct("<BI")
WIDEST = 16


class SparseIndex(CodingMethod, frozen=True, kw_only=True):
    """Puts gap and value of every entry side by side; it needs a symbol for zero."""

    name: ClassVar[str] = "sparse_index"
    title: ClassVar[str] = "Sparse index"
    label: ClassVar[str] = "Index"
    advice: ClassVar[str] = (
        "Pays from about 80 % zeros on; below that bit-packing is smaller, and arithmetic coding "
        "usually is smaller than both."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file"
    strength: ClassVar[str] = "gap_bits"

    gap_bits: Annotated[
        int, number("Gap bits", "Bits of one gap; 0 takes the width of the smallest size.", 0, 16)
    ] = 0

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer's weights cannot be coded; empty if they can."""
        return form_lock(layer)

    def symbol_lock(self, bits: int, zero: bool) -> str:  # noqa: ARG002
        """Return a sentence where no symbol means zero."""
        return "" if zero else "None of these shared values is zero: choose a sparsity too."

    def encode(self, symbols: Symbols) -> Coded:
        """Return header and entries. Raises ValueError where the symbols have no zero."""
        places, gaps = _gaps(symbols)
        width = self._width(gaps, symbols.bits)
        fillers = gaps >> width
        ends = np.cumsum(fillers + 1) - 1
        entries = int(ends[-1]) + 1 if ends.size else 0
        # An entry is a gap and a value; those in between stay fillers: the longest gap, a zero.
        rest = np.full(entries, (1 << width) - 1, np.uint64)
        values = np.full(entries, symbols.zero, np.uint64)
        rest[ends] = gaps & ((1 << width) - 1)
        values[ends] = symbols.values[places]
        pairs = packed(rest | values << np.uint64(width), width + symbols.bits)
        payload = HEADER.pack(width, entries) + pairs.tobytes()
        return _counted(payload, entries, width, symbols.bits)

    def decode(self, payload: bytes, count: int, bits: int, zero: int | None) -> Symbols:
        """Return the symbols again. Raises ValueError where the payload is damaged."""
        if zero is None or len(payload) < HEADER.size:
            raise ValueError("the sparse index has no header or no zero")
        width, entries = HEADER.unpack_from(payload)
        if not 1 <= width <= WIDEST:
            raise ValueError(f"a gap cannot have {width} bits")
        pairs = unpacked(payload[HEADER.size :], width + bits, entries)
        gaps = (pairs & pairs.dtype.type((1 << width) - 1)).astype(np.int64)
        places = np.cumsum(gaps + 1) - 1
        if places.size and int(places[-1]) >= count:
            raise ValueError("an entry lies beyond the end")
        values = np.full(count, zero, np.uint32)
        values[places] = pairs >> pairs.dtype.type(width)
        return Symbols(values, bits, zero)

    def predicted(self, symbols: Symbols) -> Coded:
        """Return the exact bit counts from the gaps."""
        _, gaps = _gaps(symbols)
        width = self._width(gaps, symbols.bits)
        return _counted(b"", gaps.size + int((gaps >> width).sum()), width, symbols.bits)

    def _width(self, gaps: npt.NDArray[np.int64], bits: int) -> int:
        if self.gap_bits:
            return self.gap_bits
        # The number of entries depends on few widths only, so all are tried.
        widths = range(1, WIDEST + 1)
        return min(widths, key=lambda width: (gaps.size + (gaps >> width).sum()) * (width + bits))


def _gaps(symbols: Symbols) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    if symbols.zero is None:
        raise ValueError("a sparse index needs a symbol for zero")
    places = np.flatnonzero(symbols.values != symbols.zero)
    return places, np.diff(places, prepend=-1).astype(np.int64) - 1


def _counted(payload: bytes, entries: int, width: int, bits: int) -> Coded:
    return Coded(payload, entries * bits, entries * width, 8 * HEADER.size)
