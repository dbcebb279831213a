"""Codes of different lengths written into one row of bits, the highest bit first, and read again.

Everything works on whole arrays: reading finds where every code starts by jumping along the row
in powers of two.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from featherweight.engine.bit_packing import packed_bytes

Numbers = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

LONGEST = 24
SYMBOLS_AT_ONCE = 1 << 19
BYTES_AT_ONCE = 1 << 15
DOUBLINGS = 6


def written(symbols: Numbers, codes: Numbers, lengths: Numbers) -> tuple[bytes, int]:
    """Write `codes[s]`, at most 24 bits in `lengths[s]` bits, for every symbol s.

    Returns the bytes, the last one filled with zeros, and how many bits are used.
    """
    codes, lengths = codes.astype(np.uint64), lengths.astype(np.int64)
    pieces = [symbols[at : at + SYMBOLS_AT_ONCE] for at in range(0, symbols.size, SYMBOLS_AT_ONCE)]
    total = sum(int(lengths[piece].sum()) for piece in pieces)
    words = np.zeros(total // 32 + 2, np.uint32)
    start = 0
    for piece in pieces:
        start = _write(words, start, codes[piece], lengths[piece])
    return words.astype(">u4").tobytes()[: packed_bytes(total, 1)], total


def _write(words: Numbers, start: int, codes: Numbers, lengths: Numbers) -> int:
    ends = np.cumsum(lengths) + start
    starts = ends - lengths
    places = starts >> 5
    shifts = (64 - (starts & 31) - lengths).astype(np.uint64)
    parts = codes << shifts
    firsts = np.flatnonzero(np.diff(places, prepend=-1))
    words[places[firsts]] |= np.bitwise_or.reduceat((parts >> 32).astype(np.uint32), firsts)
    # What runs over a word's end; no two codes run over the same one.
    over = parts.astype(np.uint32)
    crossing = np.flatnonzero(over)
    words[places[crossing] + 1] |= over[crossing]
    return int(ends[-1])


def fields(payload: bytes, lengths: Numbers) -> Numbers:
    """Return values of known lengths, each at most 8 bits, that were written one after another.

    Raises ValueError where the payload has another size.
    """
    ends = np.cumsum(lengths)
    used = int(ends[-1]) if ends.size else 0
    raw = np.frombuffer(payload, np.uint8)
    if raw.size != packed_bytes(used, 1):
        raise ValueError(f"{used} bits are not {raw.size} bytes")
    raw = np.concatenate((raw, np.zeros(2, np.uint8))).astype(np.int64)
    starts = ends - lengths
    windows = raw[starts >> 3] << 8 | raw[(starts >> 3) + 1]
    values: Numbers = windows >> (16 - (starts & 7) - lengths) & ((1 << lengths) - 1)
    return values


def windows(payload: bytes, lengths: Bytes, count: int) -> Numbers:
    """Return for `count` codes of a complete prefix code the bits from each one's start on.

    A window has as many bits as the longest code, at most 24; `lengths` holds, for every possible
    window, the length of the code it starts with, at least 1. Raises ValueError where the payload
    does not end with the last code.
    """
    width = lengths.size.bit_length() - 1
    raw = np.frombuffer(payload, np.uint8)
    found, position, left = [], 0, count
    while left:
        first = position >> 3
        if first >= raw.size:
            raise ValueError("the codes end too early")
        block = raw[first : first + BYTES_AT_ONCE + 4]
        seen, step = _walk(block, position & 7, lengths, width)
        found.append(seen[:left])
        left -= found[-1].size
        position = first * 8 + step
    last = np.concatenate(found) if found else np.zeros(0, np.uint32)
    end = int(lengths[last].sum(dtype=np.int64))
    if raw.size != packed_bytes(end, 1):
        raise ValueError(f"the codes take {end} bits, not {raw.size} bytes")
    return last


def _walk(block: Bytes, start: int, lengths: Bytes, width: int) -> tuple[Numbers, int]:
    """Return the windows of all codes that start in a block from bit `start`, and where it ends."""
    size = min(block.size, BYTES_AT_ONCE)
    every = _every_window(block, size, width)
    bits = every.size
    # From every bit to the start of the next code; beyond the block nothing moves.
    jumps = [np.arange(bits + LONGEST + 1, dtype=np.int32)]
    jumps[0][:bits] += lengths[every]
    for _ in range(DOUBLINGS):
        jumps.append(jumps[-1][jumps[-1]])
    places, furthest = [], jumps.pop()
    position = start
    while position < bits:
        places.append(position)
        position = int(furthest[position])
    starts = np.array(places, np.int32)
    for jump in reversed(jumps):
        starts = np.stack((starts, jump[starts]), axis=1).reshape(-1)
    inside = starts[: np.searchsorted(starts, bits)]
    return every[inside], position


def _every_window(block: Bytes, size: int, width: int) -> Numbers:
    padded = np.zeros(size + 4, np.uint32)
    padded[: block.size] = block
    wide = padded[:size] << 24 | padded[1:-3] << 16 | padded[2:-2] << 8 | padded[3:-1]
    every = np.empty((size, 8), np.uint32)
    for bit in range(8):
        every[:, bit] = wide << np.uint32(bit) >> np.uint32(32 - width)
    return every.reshape(-1)
