"""Items with options, of which each takes one: a multiple-choice knapsack with several limits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
# A limit may be passed by this share of itself, and by what sums in another order may differ.
TOLERANCE, ROUNDING = 1e-9, 1e-13


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
        sums = np.abs(self.costs).max(2, initial=0.0).sum(1)
        return np.asarray(self.limits + TOLERANCE * np.abs(self.limits) + ROUNDING * sums)


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


def swapped(problem: Problem, resource: int, most: float) -> Problem:
    """Return the problem of the least of one resource, losing at most so much.

    The losses become the last of the resources; all limits stay.
    """
    known = np.isfinite(problem.losses)
    losses = np.where(known, problem.losses, 0.0)
    return Problem(
        np.where(known, problem.costs[resource], np.inf),
        np.concatenate([problem.costs, losses[None]]),
        np.append(problem.limits, most),
    )


def solution(problem: Problem, choices: Ints) -> Solution:
    """Return a choice with its sums."""
    return Solution(choices, problem.loss(choices), problem.totals(choices))
