"""Things matched in pairs at the least cost, by a greedy start and exchanges between pairs."""

import numpy as np
import numpy.typing as npt

from featherweight.engine.jobs import Check, unchecked

Costs = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

MOST_SWEEPS = 20
# Gains below this share of all costs are rounding.
LEAST_GAIN = 1e-12


def cheapest_pairs(costs: Costs, count: int, check: Check = unchecked) -> tuple[Places, Places]:
    """Return `count` disjoint pairs whose sum of costs no exchange between two pairs makes less.

    `costs` is symmetric, n×n; `count` is at most n // 2. The places of a pair stand at the same
    position of both results, the lower one in the first; the pairs are in the order of the first.
    """
    costs = costs.copy()
    np.fill_diagonal(costs, np.inf)
    first, second = _greedy(costs, check)
    order = np.argsort(costs[first, second], kind="stable")[:count]
    first, second = _exchanged(costs, first[order], second[order], check)
    low, high = np.minimum(first, second), np.maximum(first, second)
    order = np.argsort(low)
    return low[order], high[order]


def _greedy(costs: Costs, check: Check) -> tuple[Places, Places]:
    """Return pairs of all places: the cheapest first, then the cheapest of what is left, on."""
    left = np.arange(len(costs))
    found = [np.zeros((0, 2), np.int64)]
    while len(left) > 1:
        check()
        among = costs[np.ix_(left, left)]
        nearest = among.argmin(1)
        here = np.arange(len(left))
        # The cheapest pair is one of those that are each other's nearest.
        mutual = np.flatnonzero((nearest[nearest] == here) & (here < nearest))
        if not len(mutual):
            mutual = np.array([among.min(1).argmin()])
        taken = np.stack([mutual, nearest[mutual]], 1)
        found.append(left[taken])
        left = np.delete(left, taken.reshape(-1))
    pairs = np.concatenate(found)
    return pairs[:, 0], pairs[:, 1]


def _exchanged(costs: Costs, first: Places, second: Places, check: Check) -> tuple[Places, Places]:
    """Let pairs exchange places with each other and with single ones while that costs less."""
    count, nobody = len(costs), len(costs)
    single = np.setdiff1d(np.arange(count), np.concatenate([first, second]))
    wide = np.pad(costs, (0, 1))
    wide[nobody, nobody] = np.inf
    one = np.concatenate([first, single])
    other = np.concatenate([second, np.full(len(single), nobody)])
    own = wide[one, other]
    least = LEAST_GAIN * float(own.sum())
    for _ in range(MOST_SWEEPS):
        before = own.sum()
        for at in range(len(one)):
            check()
            crossed = wide[one[at], one] + wide[other[at], other]
            twisted = wide[one[at], other] + wide[other[at], one]
            gains = own + own[at] - np.minimum(crossed, twisted)
            gains[at] = -np.inf
            best = int(gains.argmax())
            if not gains[best] > least:
                continue
            if crossed[best] <= twisted[best]:
                other[at], one[best] = one[best], other[at]
            else:
                other[at], other[best] = other[best], other[at]
            own[[at, best]] = wide[one[[at, best]], other[[at, best]]]
        if not before - own.sum() > least:
            break
    real = (one != nobody) & (other != nobody)
    return one[real], other[real]
