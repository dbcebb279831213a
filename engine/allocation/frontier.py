"""The best for every budget of one resource: the steps of all items, the most worthwhile first."""

from dataclasses import dataclass

import numpy as np

from featherweight.engine.allocation.problem import Floats, Ints


@dataclass(frozen=True)
class Frontier:
    """Steps from the cheapest choice to the best one, along the convex hull of each item.

    `start` is the option of each item with the least cost. Step k changes item `items[k]` to
    `options[k]`; after it the whole costs `costs[k + 1]` and loses `losses[k + 1]`, which are
    convex: no other choice of the same cost loses less by more than a part of one step.
    """

    start: Ints
    items: Ints
    options: Ints
    costs: Floats
    losses: Floats

    def steps_within(self, budget: float) -> int:
        """Return how many steps a budget allows; -1 where not even the start does."""
        return int(np.searchsorted(self.costs, budget, side="right")) - 1

    def choices(self, steps: int) -> Ints:
        """Return the option of every item after so many steps."""
        found = self.start.copy()
        # Of several steps of one item the last one counts, which is how assignment works.
        found[self.items[:steps]] = self.options[:steps]
        return found


def frontier(losses: Floats, costs: Floats) -> Frontier:
    """Return the frontier of items, (items, options) each; options of infinite loss are none."""
    known = np.isfinite(losses)
    costs = np.where(known, costs, np.inf)
    rows = np.arange(len(losses))
    cheapest = costs.min(1, keepdims=True)
    start = np.where(costs == cheapest, losses, np.inf).argmin(1)
    at, slopes, items, options = start.copy(), [], [], []
    active = rows
    while len(active):
        here = at[active]
        gain = losses[active, here][:, None] - losses[active]
        more = costs[active] - costs[active, here][:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.where((gain > 0) & np.isfinite(more) & (more > 0), gain / more, -np.inf)
        best = slope.max(1)
        # Of steps as steep the longest, so that no step of the same slope is left behind.
        longest = np.where(slope == best[:, None], more, -np.inf).argmax(1)
        goes = np.isfinite(best)
        active, longest = active[goes], longest[goes]
        slopes.append(best[goes])
        items.append(active)
        options.append(longest)
        at[active] = longest
    order = np.argsort(-np.concatenate([*slopes, np.empty(0)]), kind="stable")
    item = np.concatenate([*items, np.empty(0, np.int64)])[order].astype(np.int64)
    option = np.concatenate([*options, np.empty(0, np.int64)])[order].astype(np.int64)
    before = _before(start, item, option)
    spent = costs[item, option] - costs[item, before]
    won = losses[item, option] - losses[item, before]
    return Frontier(
        start,
        item,
        option,
        np.concatenate([[0.0], np.cumsum(spent)]) + costs[rows, start].sum(),
        np.concatenate([[0.0], np.cumsum(won)]) + losses[rows, start].sum(),
    )


def _before(start: Ints, items: Ints, options: Ints) -> Ints:
    """Return the option that each step's item has before it."""
    order = np.argsort(items, kind="stable")
    ordered, chosen = items[order], options[order]
    first = np.ones(len(order), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    previous = np.where(first, start[ordered], np.concatenate([[0], chosen[:-1]])[: len(order)])
    found = np.empty_like(options)
    found[order] = previous
    return found
