"""Store frequent symbols in short codes of whole bits.

Huffman (1952); canonical codes by Schwartz and Kallick (1964), of which only the lengths are
stored.
"""

import heapq
import struct
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from featherweight.engine.bit_packing import packed, packed_bytes, unpacked
from featherweight.engine.methods.bit_codes import windows, written
from featherweight.engine.methods.entropy_coding import (
    EntropyCoding,
    alphabet_bytes,
    counted,
    packed_cost,
    packs_better,
)
from featherweight.engine.methods.method import Coded
from featherweight.engine.methods.regular_patterns import split
from featherweight.engine.weight_forms import Symbols

Numbers = npt.NDArray[Any]

LONGEST = 20
# The shortest length, and how many bits hold what each length has more.
_HEAD = struct.Struct("<BB")


class Huffman(EntropyCoding, frozen=True, kw_only=True):
    """Gives every symbol a code by how often it occurs; at least one bit for every weight."""

    name: ClassVar[str] = "huffman"
    title: ClassVar[str] = "Huffman"
    label: ClassVar[str] = "Huffman"
    advice: ClassVar[str] = (
        "Shortens weights whose values repeat unevenly. It takes at least one bit per weight, so "
        "arithmetic coding is smaller where most weights are zero."
    )

    def coded(self, symbols: Symbols, alphabet: Numbers, counts: Numbers) -> Coded:
        """Return code lengths and codes."""
        lengths = code_lengths(counts)
        table = _table(lengths)
        order, codes = _canonical(lengths)
        by_symbol = np.zeros((2, int(alphabet[-1]) + 1), np.int64)
        by_symbol[0, alphabet[order]] = codes
        by_symbol[1, alphabet] = lengths
        payload, bits = written(symbols.values, by_symbol[0], by_symbol[1])
        return Coded(table + payload, bits, tables=8 * len(table))

    def decoded(self, payload: bytes, alphabet: Numbers, count: int) -> Numbers:
        """Return the symbols of codes. Raises ValueError where the payload is damaged."""
        lengths, size = _lengths(payload, alphabet.size)
        longest = int(lengths.max())
        order, _ = _canonical(lengths)
        spans = 1 << (longest - lengths[order])
        length_of = np.repeat(lengths[order], spans).astype(np.uint8)
        symbol_of = np.repeat(alphabet[order], spans).astype(np.uint32)
        found: Numbers = symbol_of[windows(payload[size:], length_of, count)]
        return found

    def predicted(self, symbols: Symbols) -> Coded:
        """Return the exact bit counts from how often each symbol occurs."""
        alphabet, counts = counted(symbols.values, symbols.bits)
        if alphabet.size < 2 or split(symbols):
            return super().predicted(symbols)
        lengths = code_lengths(counts)
        tables = len(alphabet_bytes(alphabet, symbols.bits)) + len(_table(lengths))
        coded = Coded(b"", int((counts * lengths).sum()), tables=8 * tables)
        return Coded(b"", *packed_cost(symbols)) if packs_better(symbols, coded) else coded


def code_lengths(counts: Numbers) -> Numbers:
    """Return the length of each symbol's code, at most 20, 0 for a symbol that is alone.

    `counts` are positive. Where a code would be longer, the counts are evened out first.
    """
    if counts.size < 2:
        return np.zeros(counts.size, np.int64)
    lengths = _depths(counts)
    while int(lengths.max()) > LONGEST:
        counts = (counts + 1) >> 1
        lengths = _depths(counts)
    return lengths


def _depths(counts: Numbers) -> Numbers:
    heap = [(weight, leaf) for leaf, weight in enumerate(counts.tolist())]
    heapq.heapify(heap)
    parents = np.zeros(2 * len(heap) - 1, np.int64)
    for node in range(len(heap), parents.size):
        light, left = heapq.heappop(heap)
        heavy, right = heap[0]
        parents[left] = parents[right] = node
        heapq.heapreplace(heap, (light + heavy, node))
    depths = np.zeros(parents.size, np.int64)
    for node in range(parents.size - 2, -1, -1):
        depths[node] = depths[parents[node]] + 1
    return depths[: counts.size]


def _canonical(lengths: Numbers) -> tuple[Numbers, Numbers]:
    """Return the order of the symbols by code, and in this order the codes."""
    order = np.argsort(lengths, kind="stable")
    longest = int(lengths[order[-1]])
    spans = 1 << (longest - lengths[order])
    starts = np.cumsum(spans) - spans
    return order, starts >> (longest - lengths[order])


def _table(lengths: Numbers) -> bytes:
    shortest = int(lengths.min())
    width = max(int(lengths.max() - shortest).bit_length(), 1)
    return _HEAD.pack(shortest, width) + packed(lengths - shortest, width).tobytes()


def _lengths(payload: bytes, symbols: int) -> tuple[Numbers, int]:
    if len(payload) < _HEAD.size:
        raise ValueError("the code lengths are missing")
    shortest, width = _HEAD.unpack_from(payload)
    end = _HEAD.size + packed_bytes(symbols, width)
    if not 1 <= width <= 8:
        raise ValueError("the code lengths are damaged")
    lengths = unpacked(payload[_HEAD.size : end], width, symbols).astype(np.int64) + shortest
    longest = int(lengths.max())
    if shortest < 1 or longest > LONGEST or (1 << (longest - lengths)).sum() != 1 << longest:
        raise ValueError("the code lengths are damaged")
    return lengths, end
