"""Which symbols occur in a coded tensor, stored in front of an entropy code."""

import struct

import numpy as np
import numpy.typing as npt

from featherweight.engine.bit_packing import packed, packed_bytes, unpacked

Alphabet = npt.NDArray[np.int64]

LARGEST_BITS = 16
LIST, FLAGS, ALL = range(3)
_HEAD = struct.Struct("<HB")


def alphabet_lock(bits: int) -> str:
    """Return why symbols of so many bits are too many for an entropy code; or empty."""
    if bits <= LARGEST_BITS:
        return ""
    return f"{bits}-bit weights hardly ever repeat: choose a precision too."


def counted(symbols: npt.NDArray[np.uint32], bits: int) -> tuple[Alphabet, Alphabet]:
    """Return the symbols that occur, ascending, and how often each does.

    Raises ValueError where they have more than 16 bits.
    """
    if bits > LARGEST_BITS:
        raise ValueError(f"symbols of {bits} bits are too many to count")
    counts = np.bincount(symbols, minlength=1)
    alphabet = np.flatnonzero(counts)
    return alphabet, counts[alphabet]


def alphabet_bytes(alphabet: Alphabet, bits: int) -> bytes:
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


def alphabet_from(payload: bytes, bits: int) -> tuple[Alphabet, int]:
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
