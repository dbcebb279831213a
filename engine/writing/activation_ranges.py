"""The range in which an activation is held in integers, chosen from a histogram of its values.

Jacob et al. 2018 (arXiv 1712.05877) for minimum and maximum; Migacz: 8-bit Inference with TensorRT
(2017) for the least divergence between the histogram and what integers leave of it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featherweight.engine.events import IntegerOptions

Floats = npt.NDArray[np.float64]
MOST_BINS = 4096
FINEST = -140
SHRINKING = tuple(0.97**step for step in range(64))


@dataclass(frozen=True)
class Range:
    """The scale and the zero point of an activation: q of 0 to `top` is scale * (q - zero)."""

    scale: float
    zero: int
    top: int


class Observed:
    """What was seen of one activation: its ends, which enclose 0.0, and a histogram between them.

    Bins are as wide as a power of two and begin at multiples of it, so that wider ones are sums of
    finer ones when the range grows. Exact zeros, which every range holds, are counted apart.
    """

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self.zeros = 0
        self._counts = np.zeros(1, np.int64)
        self._first, self._exponent = 0, FINEST

    def add(self, values: npt.NDArray[np.floating]) -> None:
        """Take values of any shape; what is not finite is left out."""
        found = values.reshape(-1).astype(np.float64)
        found = found[np.isfinite(found)]
        self.zeros += int((found == 0.0).sum())
        found = found[found != 0.0]
        if not found.size:
            return
        self.low = min(self.low, float(found.min()))
        self.high = max(self.high, float(found.max()))
        self._widen(math.ceil(math.log2((self.high - self.low) / MOST_BINS)))
        width = 2.0**self._exponent
        first, last = math.floor(self.low / width), math.floor(self.high / width)
        counts = np.zeros(last - first + 1, np.int64)
        start = self._first - first
        counts[start : start + len(self._counts)] = self._counts
        places = np.floor(found / width).astype(np.int64) - first
        self._counts = counts + np.bincount(places, minlength=len(counts))
        self._first = first

    @property
    def counts(self) -> Floats:
        """How many values but exact zeros each bin has."""
        return self._counts.astype(np.float64)

    @property
    def centres(self) -> Floats:
        """The middle of every bin, within the ends."""
        middles = (self._first + np.arange(len(self._counts)) + 0.5) * 2.0**self._exponent
        return middles.clip(self.low, self.high)

    def quantile(self, share: float) -> float:
        """Return below which value so large a share of all values lies."""
        counts = self._counts.copy()
        counts[-self._first] += self.zeros
        below = np.concatenate(([0], counts.cumsum()))
        edges = (self._first + np.arange(len(below))) * 2.0**self._exponent
        found = float(np.interp(share * below[-1], below, edges))
        return min(max(found, self.low), self.high)

    def _widen(self, exponent: int) -> None:
        if exponent <= self._exponent:
            return
        places = (self._first + np.arange(len(self._counts))) >> (exponent - self._exponent)
        self._first, self._exponent = int(places[0]), exponent
        self._counts = np.bincount(places - places[0], self._counts).astype(np.int64)


def chosen_range(observed: Observed, options: IntegerOptions, top: int) -> Range:
    """Return the range of an activation by the way that the options name, for integers to `top`."""
    low, high = observed.low, observed.high
    if options.ranges == "percentile":
        share = options.percentile / 100
        low, high = min(observed.quantile(1 - share), 0.0), max(observed.quantile(share), 0.0)
    elif options.ranges == "error":
        low, high = _searched(observed, squared_error, top)
    elif options.ranges == "entropy":
        low, high = _searched(observed, divergence, top)
    return range_between(low, high, top)


def range_between(low: float, high: float, top: int) -> Range:
    """Return the range of a scale such that `top` steps reach from one end to the other."""
    scale = (high - low) / top or 1.0
    return Range(scale, round(-low / scale), top)


def squared_error(observed: Observed, range_: Range) -> float:
    """Return the sum of squared errors that this range makes of what was observed."""
    centres, whole = observed.centres, _levels(observed.centres, range_)
    return float((observed.counts * (centres - range_.scale * (whole - range_.zero)) ** 2).sum())


def divergence(observed: Observed, range_: Range) -> float:
    """Return Kullback and Leibler's divergence of what the range leaves from what it was, in nats.

    Values beyond the range count as its ends at first, and are lost in what is left.
    """
    centres, counts = observed.centres, observed.counts
    low = range_.scale * (-range_.zero - 0.5)
    high = range_.scale * (range_.top - range_.zero + 0.5)
    inside = (centres >= low) & (centres <= high)
    if not counts[inside].any():
        return math.inf
    kept, levels = counts[inside], _levels(centres[inside], range_)
    wanted = kept.copy()
    wanted[0] += counts[centres < low].sum()
    wanted[-1] += counts[centres > high].sum()
    filled = kept > 0
    sums = np.bincount(levels, kept, minlength=range_.top + 1)
    sharing = np.bincount(levels, filled, minlength=range_.top + 1)
    left = np.where(filled, sums[levels] / sharing[levels].clip(1), 0.0)
    # What the ends took up where nothing was before has no share in what is left.
    left = np.where((wanted > 0) & ~filled, 1e-9, left)
    some = wanted > 0
    wanted, left = wanted[some] / wanted.sum(), left[some] / left.sum()
    return float((wanted * np.log(wanted / left)).sum())


def _levels(centres: Floats, range_: Range) -> npt.NDArray[np.int64]:
    whole = np.rint(centres / range_.scale) + range_.zero
    return whole.clip(0, range_.top).astype(np.int64)


def _searched(
    observed: Observed, cost: Callable[[Observed, Range], float], top: int
) -> tuple[float, float]:
    """Return the ends of the least cost: both shrunk alike, then each alone."""
    low, high = observed.low, observed.high

    def least(ends: list[tuple[float, float]]) -> tuple[float, float]:
        return min(ends, key=lambda pair: cost(observed, range_between(pair[0], pair[1], top)))

    low, high = least([(low * factor, high * factor) for factor in SHRINKING])
    if low < 0.0 < high:
        low, high = least([(low, observed.high * factor) for factor in SHRINKING])
        low, high = least([(observed.low * factor, high) for factor in SHRINKING])
    return low, high
