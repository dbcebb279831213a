"""Symbols of which only so many of every few neighbours are not zero, as places and values.

Of M neighbours N stay in one of C(M, N) ways, so that a number below it tells all their places.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featherweight.engine.weight_forms import Symbols

Numbers = npt.NDArray[Any]

SIZES = (4, 8)
# What was kept may be zero by its precision, but of a pattern not most of it is.
FULL_SHARE = 0.75


@dataclass(frozen=True)
class Split:
    """`stay` of every `size` neighbours: which ones, a symbol for each group, and their values."""

    stay: int
    size: int
    places: Symbols
    values: Symbols


def split(symbols: Symbols) -> Split | None:
    """Return places and values of symbols that lie in a pattern, None where they lie in none.

    The last neighbours may be fewer. Where fewer than the pattern's are not zero, others of the
    group stand for them, zero as they are.
    """
    if symbols.zero is None:
        return None
    for size in SIZES:
        groups = _grouped(symbols.values, size, symbols.zero)
        used = groups != symbols.zero
        amounts = used.sum(1)
        stay = int(amounts.max(initial=0))
        if 0 < stay < size and int(amounts.sum()) >= FULL_SHARE * stay * len(groups):
            break
    else:
        return None
    # The places of what is not zero first, each kind in its order.
    chosen = np.sort(np.argsort(~used, axis=1, kind="stable")[:, :stay], axis=1)
    masks = (1 << chosen).sum(1)
    ways = _ways(stay, size)
    numbers = np.zeros(1 << size, np.uint32)
    numbers[(1 << ways).sum(1)] = np.arange(len(ways))
    row = symbols.row // size if symbols.row % size == 0 else 0
    return Split(
        stay,
        size,
        Symbols(numbers[masks], place_bits(stay, size), None, row),
        Symbols(np.take_along_axis(groups, chosen, 1).reshape(-1), symbols.bits, None, row * stay),
    )


def place_bits(stay: int, size: int) -> int:
    """Return the bits of the number that tells which ones stay."""
    return (math.comb(size, stay) - 1).bit_length()


def group_count(count: int, stay: int, size: int) -> int:
    """Return how many groups so many symbols fall into. Raises ValueError for no such pattern."""
    if size not in SIZES or not 0 < stay < size:
        raise ValueError(f"there is no pattern of {stay} in {size}")
    return -(-count // size)


def joined(places: Numbers, values: Numbers, pattern: tuple[int, int], like: Symbols) -> Symbols:
    """Return the symbols of places and values, for the count, bits and zero of `like`.

    `pattern` is how many stay of how many. Raises ValueError where the places are damaged.
    """
    ways = _ways(*pattern)
    if places.size and int(places.max()) >= len(ways):
        raise ValueError("a group has places of no pattern")
    groups = _grouped(like.values, pattern[1], 0)
    groups[:] = like.zero
    np.put_along_axis(groups, ways[places], values.reshape(-1, pattern[0]), 1)
    return Symbols(groups.reshape(-1)[: like.values.size], like.bits, like.zero)


def _ways(stay: int, size: int) -> Numbers:
    """Return the places of every way in which so many stay, (ways, stay)."""
    return np.array(list(itertools.combinations(range(size), stay)))


def _grouped(values: Numbers, size: int, zero: int) -> Numbers:
    """Return a copy in rows of `size`; what the last one lacks is zero."""
    groups = np.full((-(-values.size // size), size), zero, np.uint32)
    groups.reshape(-1)[: values.size] = values
    return groups
