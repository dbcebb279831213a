"""The options that can be in a better choice than the known one, and the best among them."""

import numpy as np
import numpy.typing as npt

from featherweight.engine.allocation.problem import Floats, Ints, Problem

Flags = npt.NDArray[np.bool_]
BUCKETS = 4000
# Items by options by buckets: beyond it the table takes longer than a hand on a slider waits.
MOST_CELLS = 8_000_000


def undominated(problem: Problem) -> Flags:
    """Return the options that no other of their item betters in loss and every limited cost."""
    limited = np.isfinite(problem.limits)
    measures = np.concatenate([problem.losses[None], problem.costs[limited]])
    known = np.isfinite(problem.losses)
    kept = known.copy()
    places = np.arange(problem.losses.shape[1])
    for place in places:
        one = measures[:, :, place : place + 1]
        no_worse = (measures <= one).all(0) & known
        # Of twins the first stays.
        better = no_worse & ((measures < one).any(0) | (places < place))
        kept[:, place] &= ~better.any(1)
    return kept


def compacted(problem: Problem) -> tuple[Problem, Ints]:
    """Return the problem of the undominated options alone, and which they were, (items, options).

    The cheapest option of every resource stays, so that what can be met at all still can.
    """
    kept = undominated(problem)
    widest = int(kept.sum(1).max(initial=1))
    order = np.argsort(~kept, axis=1, kind="stable")[:, :widest]
    rows = np.arange(problem.items)[:, None]
    losses = np.where(kept[rows, order], problem.losses[rows, order], np.inf)
    return Problem(losses, problem.costs[:, rows, order], problem.limits), order


def refined(problem: Problem, prices: Floats, known: Ints) -> Ints:
    """Return a choice at least as good as the known one, which is within the limits.

    At prices of the resources, every choice of all items costs at least what the cheapest options
    come to. An option that is dearer than its item's cheapest by more than the known choice is
    over that bound is in no better choice (Pisinger 1995); what is left is decided by dynamic
    programming over one limited resource. With several limits, the known choice comes back.
    """
    limited = np.flatnonzero(np.isfinite(problem.limits))
    if len(limited) != 1:
        return known
    costs, budget = problem.costs[limited[0]], float(problem.bounds()[limited[0]])
    reduced = problem.losses + prices[limited[0]] * costs
    cheapest = reduced.min(1)
    room = problem.loss(known) - (cheapest.sum() - prices[limited[0]] * budget)
    core = np.isfinite(problem.losses) & (reduced - cheapest[:, None] <= room)
    core[np.arange(problem.items), known] = True
    items = np.flatnonzero(core.sum(1) > 1)
    if not len(items) or core[items].sum() * BUCKETS > MOST_CELLS:
        return known
    fixed = np.delete(costs[np.arange(problem.items), known], items).sum()
    options = [np.flatnonzero(core[item]) for item in items]
    chosen = _table(
        [problem.losses[item, each] for item, each in zip(items, options, strict=True)],
        [costs[item, each] for item, each in zip(items, options, strict=True)],
        budget - fixed,
    )
    if chosen is None:
        return known
    better = known.copy()
    better[items] = [each[place] for each, place in zip(options, chosen, strict=True)]
    return better if problem.fits(better) and problem.loss(better) < problem.loss(known) else known


def _table(losses: list[Floats], costs: list[Floats], budget: float) -> list[int] | None:
    """Return the best option of each item within the budget, whose costs are rounded up."""
    least = [each.min() for each in costs]
    free = budget - sum(least)
    if free < 0:
        return None
    most = sum(float(each.max()) for each in costs) - sum(least)
    unit = min(free, most) / BUCKETS
    width = BUCKETS + 1
    best = np.zeros(width)
    taken = np.empty((len(losses), width), np.int32)
    for place, (lost, spent, low) in enumerate(zip(losses, costs, least, strict=True)):
        steps = np.ceil((spent - low) / unit - 1e-9).astype(np.int64) if unit else spent * 0
        table = np.full((len(lost), width), np.inf)
        for option, step in enumerate(steps.astype(np.int64)):
            if step < width:
                table[option, step:] = best[: width - step] + lost[option]
        taken[place] = table.argmin(0)
        best = table.min(0)
    at, chosen = BUCKETS, []
    for place in range(len(losses) - 1, -1, -1):
        option = int(taken[place, at])
        chosen.append(option)
        spent, low = costs[place][option], least[place]
        at -= int(np.ceil((spent - low) / unit - 1e-9)) if unit else 0
    return chosen[::-1]
