"""Items with options, of which each takes one: a multiple-choice knapsack with several limits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# Sums of many floats in another order may be off by this share of the limit.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Problem:
    """What every option of every item is worth.

    `losses` is (items, options) and `costs` (resources, items, options), float64; where an item
    has fewer options than others, its losses are inf behind its last. `limits` is (resources,),
    inf where there is none.
    """

    losses: Floats
    costs: Floats
    limits: Floats

    @property
    def items(self) -> int:
        """How many items choose."""
        return len(self.losses)

    def totals(self, choices: Ints) -> Floats:
        """Return what a choice for every item costs of each resource, (resources,)."""
        return np.asarray(self.costs[:, np.arange(self.items), choices].sum(1))

    def loss(self, choices: Ints) -> float:
        """Return the summed loss of a choice for every item."""
        return float(self.losses[np.arange(self.items), choices].sum())

    def fits(self, choices: Ints) -> bool:
        """Say whether a choice stays within the limits."""
        return bool((self.totals(choices) <= self.bounds()).all())

    def bounds(self) -> Floats:
        """Return the limits with what rounding may add."""
        return np.asarray(self.limits + np.abs(self.limits) * TOLERANCE)

    def least(self) -> Floats:
        """Return the least that each resource can cost, whatever the others then do."""
        known = np.where(np.isfinite(self.losses), self.costs, np.inf)
        return np.asarray(known.min(2).sum(1))


@dataclass(frozen=True)
class Solution:
    """The option of every item, (items,) int64, with its summed loss and costs, (resources,)."""

    choices: Ints
    loss: float
    costs: Floats


def problem_of(
    losses: Sequence[Sequence[float]],
    costs: Sequence[Sequence[Sequence[float]]],
    limits: Sequence[float],
) -> Problem:
    """Return the problem of items with different numbers of options.

    `costs` has a list for each item, of which each has the costs of an option by resource. Raises
    ValueError where an item has no option or a number is not finite.
    """
    if not all(losses):
        raise ValueError("an item has no option")
    widest = max(map(len, losses), default=1)
    padded = np.full((len(losses), widest), np.inf)
    spent = np.zeros((len(limits), len(losses), widest))
    for place, (one, each) in enumerate(zip(losses, costs, strict=True)):
        padded[place, : len(one)] = one
        spent[:, place, : len(one)] = np.asarray(each, dtype=np.float64).T
    given = np.asarray([value for one in losses for value in one])
    if not (np.isfinite(given).all() and np.isfinite(spent).all()):
        raise ValueError("a loss or a cost is not finite")
    return Problem(padded, spent, np.asarray(limits, dtype=np.float64))


def solution(problem: Problem, choices: Ints) -> Solution:
    """Return a choice with its sums."""
    return Solution(choices, problem.loss(choices), problem.totals(choices))
