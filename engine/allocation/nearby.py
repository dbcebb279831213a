"""The best of the choices that differ from the priced one in options that cost little more."""

from dataclasses import dataclass

import numpy as np

from featherweight.engine.allocation.problem import Flags, Floats, Ints, Problem

# So many sets of changes are kept of each half of the items, and tried with all of the other.
WIDTH = 512


@dataclass(frozen=True)
class _Changes:
    """What sets of changes to some items lose and cost, and how each came from a smaller one."""

    losses: Floats
    costs: Floats
    steps: list[tuple[int, Ints, Ints]]
    whole: bool

    def make(self, at: int, choices: Ints) -> None:
        """Make the changes of one set, in place."""
        for item, origins, options in self.steps[::-1]:
            if options[at] >= 0:
                choices[item] = options[at]
            at = int(origins[at])


def nearby(problem: Problem, prices: Floats, least: float) -> tuple[Ints | None, bool]:
    """Return the best choice found within the limits, and whether there is none better.

    At prices every other option of an item is dearer than the cheapest by a surplus. A choice
    within the limits loses at least the bound + all its surpluses, so that only sets of changes
    matter whose surpluses sum up to at most `least`, which is finite. The sets of two halves of
    the items are listed, the least surpluses first, and matched (Horowitz and Sahni 1974).
    """
    rows = np.arange(problem.items)
    priced = problem.losses + np.tensordot(prices, problem.costs, 1)
    cheapest = priced.argmin(1)
    surplus = priced - priced[rows, cheapest][:, None]
    core = surplus <= least
    core[rows, cheapest] = False
    items = np.flatnonzero(core.any(1))
    items = items[np.argsort(np.where(core, surplus, np.inf)[items].min(1), kind="stable")]
    free = problem.limits - problem.costs[:, rows, cheapest].sum(1)
    halves = [_listed(problem, cheapest, surplus, core, items[half::2], least) for half in (0, 1)]
    first, second = halves
    fits: Flags = np.ones((len(first.losses), len(second.losses)), bool)
    for one, other, room in zip(first.costs, second.costs, free, strict=True):
        fits &= one[:, None] + other <= room
    sums = np.where(fits, first.losses[:, None] + second.losses, np.inf)
    place = np.unravel_index(int(sums.argmin()), sums.shape)
    whole = first.whole and second.whole
    if not np.isfinite(sums[place]):
        return None, whole
    choices: Ints = cheapest.copy()
    for half, at in zip(halves, place, strict=True):
        half.make(int(at), choices)
    return choices, whole


def _listed(
    problem: Problem, cheapest: Ints, surplus: Floats, core: Flags, items: Ints, least: float
) -> _Changes:
    """Return the sets of changes of some items with the least surpluses."""
    sums, losses = np.zeros(1), np.zeros(1)
    costs = np.zeros((len(problem.limits), 1))
    steps, whole = [], True
    for item in items:
        options = np.concatenate([[cheapest[item]], np.flatnonzero(core[item])])
        grown = (sums + surplus[item, options][:, None]).ravel()
        kept = np.flatnonzero(grown <= least)
        if len(kept) > WIDTH:
            whole = False
            kept = kept[np.argpartition(grown[kept], WIDTH)[:WIDTH]]
        place, origins = np.divmod(kept, len(sums))
        taken = options[place]
        before = cheapest[item]
        lost = problem.losses[item] - problem.losses[item, before]
        spent = problem.costs[:, item] - problem.costs[:, item, before][:, None]
        sums = grown[kept]
        losses = losses[origins] + lost[taken]
        costs = costs[:, origins] + spent[:, taken]
        steps.append((int(item), origins, np.where(place > 0, taken, -1)))
    return _Changes(losses, costs, steps, whole)
