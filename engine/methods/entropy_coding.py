"""What entropy codes share: which symbols occur, stored in front of the code, and ways out.

Where a code with its tables would be larger than the symbols side by side, these are stored. Where
a regular pattern says which weights are zero, its places and what stays are coded by themselves.
"""

import struct
from dataclasses import replace
from typing import Any, ClassVar, Literal

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
from featherweight.engine.weight_forms import Symbols, form_lock

Numbers = npt.NDArray[Any]

LARGEST_BITS = 16
LIST, FLAGS, ALL, PACKED, REGULAR = range(5)
# How many symbols occur, less one, and how they are stored.
_HEAD = struct.Struct("<HB")
# How many stay of how many neighbours, and the bytes of their places.
_PATTERN = struct.Struct("<BBI")


class EntropyCoding(CodingMethod, frozen=True, kw_only=True):
    """Base of codings by how often each symbol occurs, for symbols of at most 16 bits."""

    gain: ClassVar[Literal["file", "file and speed"]] = "file"
    strength: ClassVar[str] = ""

    def coded(self, symbols: Symbols, alphabet: Numbers, counts: Numbers) -> Coded:
        """Return the code of symbols of an alphabet of two or more, with all it needs but that."""
        raise NotImplementedError

    def decoded(self, payload: bytes, alphabet: Numbers, count: int) -> Numbers:
        """Return the symbols of such a code, uint32. Raises ValueError where it is damaged."""
        raise NotImplementedError

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer's weights cannot be coded; empty if they can."""
        return form_lock(layer)

    def symbol_lock(self, bits: int, zero: bool) -> str:  # noqa: ARG002
        """Return a sentence where the symbols have more than 16 bits."""
        if bits <= LARGEST_BITS:
            return ""
        return f"{bits}-bit weights hardly ever repeat: choose a precision too."

    def encode(self, symbols: Symbols) -> Coded:
        """Return alphabet and code. Raises ValueError for symbols of more than 16 bits."""
        whole, parts = self._encoded(symbols), split(symbols)
        if parts is None:
            return whole
        return min(whole, self._in_parts(parts), key=lambda coded: len(coded.payload))

    def _encoded(self, symbols: Symbols) -> Coded:
        if not symbols.values.size:
            return Coded(b"", 0)
        alphabet, counts = counted(symbols.values, symbols.bits)
        front = alphabet_bytes(alphabet, symbols.bits)
        if alphabet.size == 1:
            return Coded(front, 0, tables=8 * len(front))
        coded = self.coded(symbols, alphabet, counts)
        whole = Coded(front + coded.payload, coded.values, tables=8 * len(front) + coded.tables)
        if not packs_better(symbols, whole):
            return whole
        payload = packed(symbols.values, symbols.bits).tobytes()
        return Coded(_HEAD.pack(0, PACKED) + payload, *packed_cost(symbols))

    def _in_parts(self, parts: Split) -> Coded:
        places, values = self._encoded(parts.places), self._encoded(parts.values)
        head = _HEAD.pack(0, REGULAR) + _PATTERN.pack(parts.stay, parts.size, len(places.payload))
        return Coded(
            head + places.payload + values.payload,
            values.values,
            indices=8 * len(places.payload),
            tables=8 * len(head) + values.tables,
        )

    def decode(self, payload: bytes, count: int, bits: int, zero: int | None) -> Symbols:
        """Return the symbols again. Raises ValueError where the payload is damaged."""
        if payload[:3] == _HEAD.pack(0, REGULAR) and zero is not None:
            return self._from_parts(payload[3:], Symbols(np.zeros(count, np.uint32), bits, zero))
        if count == 0:
            values = unpacked(payload, 8, 0)
        elif payload[:3] == _HEAD.pack(0, PACKED):
            values = unpacked(payload[3:], bits, count)
        else:
            alphabet, size = alphabet_from(payload, bits)
            values = self._spread(payload[size:], alphabet, count)
        return Symbols(values, bits, zero)

    def predicted(self, symbols: Symbols) -> Coded:
        """Return the exact bit counts; coding is so fast that they are found by doing it."""
        return replace(self.encode(symbols), payload=b"")

    def _from_parts(self, payload: bytes, like: Symbols) -> Symbols:
        if len(payload) < _PATTERN.size:
            raise ValueError("the pattern is missing")
        stay, size, length = _PATTERN.unpack_from(payload)
        groups, body = group_count(like.values.size, stay, size), payload[_PATTERN.size :]
        places = self.decode(body[:length], groups, place_bits(stay, size), None)
        values = self.decode(body[length:], groups * stay, like.bits, None)
        return joined(places.values, values.values, (stay, size), like)

    def _spread(self, payload: bytes, alphabet: Numbers, count: int) -> Numbers:
        if alphabet.size > 1:
            return self.decoded(payload, alphabet, count)
        if payload:
            raise ValueError("there are bytes after a lone symbol")
        return np.full(count, alphabet[0], np.uint32)


def packed_cost(symbols: Symbols) -> tuple[int, int, int]:
    """Return the bits of values, indices and tables of symbols stored side by side."""
    return symbols.values.size * symbols.bits, 0, 8 * _HEAD.size


def packs_better(symbols: Symbols, coded: Coded) -> bool:
    """Say whether the symbols side by side are smaller than coded."""
    return sum(packed_cost(symbols)) < coded.values + coded.tables


def counted(symbols: Numbers, bits: int) -> tuple[Numbers, Numbers]:
    """Return the symbols that occur, ascending, and how often each does.

    Raises ValueError where they have more than 16 bits.
    """
    if bits > LARGEST_BITS:
        raise ValueError(f"symbols of {bits} bits are too many to count")
    counts = np.bincount(symbols, minlength=1)
    alphabet = np.flatnonzero(counts)
    return alphabet, counts[alphabet]


def alphabet_bytes(alphabet: Numbers, bits: int) -> bytes:
    """Return an alphabet of at least one symbol as a list or as flags, whichever is shorter."""
    count = alphabet.size
    kind = LIST if count * bits <= 1 << bits else FLAGS
    if count == 1 << bits:
        kind, body = ALL, b""
    elif kind == LIST:
        body = packed(alphabet, bits).tobytes()
    else:
        flags = np.zeros(1 << bits, np.uint8)
        flags[alphabet] = 1
        body = packed(flags, 1).tobytes()
    return _HEAD.pack(count - 1, kind) + body


def alphabet_from(payload: bytes, bits: int) -> tuple[Numbers, int]:
    """Return an alphabet and the bytes that it took. Raises ValueError where it is damaged."""
    if len(payload) < _HEAD.size or not 1 <= bits <= LARGEST_BITS:
        raise ValueError("the alphabet is missing")
    less, kind = _HEAD.unpack_from(payload)
    count, whole = less + 1, 1 << bits
    if kind == ALL:
        alphabet, size = np.arange(whole), 0
    elif kind == LIST:
        size = packed_bytes(count, bits)
        listed = unpacked(payload[_HEAD.size : _HEAD.size + size], bits, count)
        alphabet = listed.astype(np.int64)
    elif kind == FLAGS:
        size = packed_bytes(whole, 1)
        alphabet = np.flatnonzero(unpacked(payload[_HEAD.size : _HEAD.size + size], 1, whole))
    else:
        raise ValueError(f"an alphabet of the kind {kind} is unknown")
    if alphabet.size != count or (np.diff(alphabet) <= 0).any():
        raise ValueError("the alphabet is damaged")
    return alphabet, _HEAD.size + size
