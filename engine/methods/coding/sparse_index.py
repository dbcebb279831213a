"""Store only what is not zero, each with the gap since the last one.

Han, Mao, Dally: Deep Compression (2016): relative indices of a fixed width; a gap that is too long
is bridged by filler zeros. Where a regular pattern says which are zero, a group of neighbours has
one number for all its places.
"""

import struct
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from featherweight.engine.bit_packing import packed, packed_bytes, unpacked
from featherweight.engine.methods.method import Coded, CodingMethod
from featherweight.engine.methods.regular_patterns import (
    Split,
    group_count,
    joined,
    place_bits,
    split,
)
from featherweight.engine.options import number
from featherweight.engine.weight_forms import Symbols, form_lock

# The width of a gap, and how many entries (fillers included) follow; of a pattern 0, and which.
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
        by_gaps, parts = self._by_gaps(symbols), self._pattern(symbols)
        if parts is None:
            return by_gaps
        return min(by_gaps, _by_pattern(parts), key=_bits)

    def _by_gaps(self, symbols: Symbols) -> Coded:
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
        if not width:
            like = Symbols(np.zeros(count, np.uint32), bits, zero)
            return _from_pattern(payload[HEADER.size :], divmod(entries, 1 << 8), like)
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
        """Return the exact bit counts from the gaps, or of the pattern."""
        _, gaps = _gaps(symbols)
        width = self._width(gaps, symbols.bits)
        entries = gaps.size + int((gaps >> width).sum())
        by_gaps, parts = _counted(b"", entries, width, symbols.bits), self._pattern(symbols)
        if parts is None:
            return by_gaps
        return min(by_gaps, replace(_by_pattern(parts), payload=b""), key=_bits)

    def _pattern(self, symbols: Symbols) -> Split | None:
        # A width that was asked for is kept.
        return None if self.gap_bits else split(symbols)

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


def _by_pattern(parts: Split) -> Coded:
    places = packed(parts.places.values, parts.places.bits).tobytes()
    values = packed(parts.values.values, parts.values.bits).tobytes()
    head = HEADER.pack(0, parts.stay << 8 | parts.size)
    amount = parts.values.values.size * parts.values.bits
    return Coded(head + places + values, amount, 8 * len(places), 8 * HEADER.size)


def _from_pattern(payload: bytes, pattern: tuple[int, int], like: Symbols) -> Symbols:
    stay, size = pattern
    groups, bits = group_count(like.values.size, stay, size), place_bits(stay, size)
    end = packed_bytes(groups, bits)
    places = unpacked(payload[:end], bits, groups)
    return joined(places, unpacked(payload[end:], like.bits, groups * stay), pattern, like)


def _bits(coded: Coded) -> int:
    return coded.values + coded.indices + coded.tables


def _counted(payload: bytes, entries: int, width: int, bits: int) -> Coded:
    return Coded(payload, entries * bits, entries * width, 8 * HEADER.size)
