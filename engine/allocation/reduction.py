"""What of a problem there is to decide, in numbers of one size."""

from dataclasses import dataclass

import numpy as np

from featherweight.engine.allocation.problem import Flags, Ints, Problem


@dataclass(frozen=True)
class Reduced:
    """A problem of costs from 0 up and limits of 1, or of 0 where nothing is left to spend.

    Losses run from 0 for each item and sum up to at most 1. A loss x of it is `unit`·x + `least`
    of the whole problem. Options that fit with no choice of the other items lose inf.
    """

    problem: Problem
    unit: float
    least: float


def reduced(problem: Problem) -> Reduced | None:
    """Return what is to decide within the limits; None where one cannot be met whatever is done."""
    limited = np.isfinite(problem.limits)
    costs, losses = problem.costs[limited], problem.losses.copy()
    # Not quite all that rounding may add, so that the sums of what is found fit again.
    bounds = problem.limits[limited]
    bounds = bounds + 0.99 * (problem.bounds()[limited] - bounds)
    while True:
        known = np.isfinite(losses)
        if not known.any(1).all():
            return None
        low = np.where(known, costs, np.inf).min(2, initial=np.inf)
        room = bounds - low.sum(1)
        if (room < 0).any():
            return None
        over = (costs - low[:, :, None] > room[:, None, None]).any(0) & known
        if not over.any():
            break
        losses[over] = np.inf
    scale = np.where(room > 0, room, 1.0)
    spent = np.where(known, costs - low[:, :, None], 0.0) / scale[:, None, None]
    best = losses.min(1)
    lost = losses - best[:, None]
    unit = float(lost.max(1, where=known, initial=0.0).sum()) or 1.0
    small = Problem(lost / unit, spent, np.where(room > 0, 1.0, 0.0))
    return Reduced(small, unit, float(best.sum()))


class Known:
    """The best choice found so far, (items,), and its loss, both of the reduced problem."""

    def __init__(self, whole: Reduced, share: float) -> None:
        self._whole, self._share = whole, share
        self.choices: Ints | None = None
        self.loss = np.inf

    @property
    def aim(self) -> float:
        """The loss from which on a choice is not better by enough.

        Enough is a share of the whole loss, or of a millionth of its range where that is more.
        """
        if self.choices is None:
            return np.inf
        whole = self.loss + self._whole.least / self._whole.unit
        return self.loss - self._share * max(abs(whole), 1e-6)

    def offer(self, choices: Ints) -> None:
        """Keep a choice where it is the best and within the limits."""
        problem = self._whole.problem
        loss = problem.loss(choices)
        if loss < self.loss and (problem.totals(choices) <= problem.limits).all():
            self.choices, self.loss = choices, loss


@dataclass(frozen=True)
class Part:
    """The items and options of a reduced problem that are in question; the others are settled.

    `items` is (kept items,), `options` (kept items, options) with -1 where there is none, and
    `settled` has an option for every item. `lost` is what the settled items lose.
    """

    problem: Problem
    items: Ints
    options: Ints
    settled: Ints
    lost: float

    def whole(self, choices: Ints) -> Ints:
        """Return the choice of all items, of one of those in question."""
        found = self.settled.copy()
        found[self.items] = self.options[np.arange(len(self.items)), choices]
        return found

    def part(self, choices: Ints) -> Ints:
        """Return those of whole choices, (choices, items), that are of this part, as its own."""
        same = self.options == choices[:, self.items, None]
        return np.asarray(same.argmax(2)[same.any(2).all(1)])


def parted(problem: Problem, core: Flags, settled: Ints) -> Part:
    """Return the part of a problem in which options are flagged, (items, options)."""
    items = np.flatnonzero(core.sum(1) > 1)
    widest = int(core.sum(1).max(initial=1))
    order = np.argsort(~core[items], axis=1, kind="stable")[:, :widest]
    rows = items[:, None]
    options = np.where(core[rows, order], order, -1)
    others = np.delete(np.arange(problem.items), items)
    left = problem.limits - problem.costs[:, others, settled[others]].sum(1)
    losses = np.where(options >= 0, problem.losses[rows, order], np.inf)
    costs = np.where(options >= 0, problem.costs[:, rows, order], 0.0)
    lost = float(problem.losses[others, settled[others]].sum())
    return Part(Problem(losses, costs, left), items, options, settled, lost)
