"""An allocation corrected by the real network.

It is a search over one coefficient for each layer, by which its damages are multiplied before the
knapsack is solved again; the real network decides which stay (SPDY: Frantar and Alistarh 2022,
arXiv 2201.13096). The budget holds at every step. What a person would try without any readings, one
choice everywhere or one family of methods, is tried as well, so that nothing simple is better.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from featherweight.engine.allocating.allocator import Allocator
from featherweight.engine.allocating.budgets import spent
from featherweight.engine.allocating.rivals import families, uniform
from featherweight.engine.allocating.true_networks import Measure, Truth
from featherweight.engine.errors import UserError
from featherweight.engine.jobs import Job
from featherweight.engine.readings import Allocation, AllocationRules, Limits, Resource

SEARCHES = 48
CHANGED = 0.2
# Of one choice everywhere so many are tried, those that should lose least.
UNIFORM = 3
# So many of the best are compared on more samples.
FINALISTS = 6
SEED = 20261124
TRYING, COMPARING = "Trying real networks", "Comparing the best"

Worth = tuple[float, float]


@dataclass(frozen=True)
class Wish:
    """What a person wants of a budget, and what tells which network is the better one.

    `allocate` asks an allocator for it. `measure` compares on a few samples, `surely` on more.
    """

    limits: Limits
    rules: AllocationRules
    least: Resource
    allocate: Callable[[Allocator, AllocationRules], Allocation]
    measure: Measure
    surely: Measure

    def worth(self, found: Allocation, truth: Truth) -> Worth:
        """Return what is the smaller the better: damage, of a wished drop what the network costs.

        A network that falls by more than was wished is worse than any that does not.
        """
        if self.limits.drop is None:
            return 0.0, truth.damage.value
        return max(truth.drop.value - self.limits.drop, 0.0), spent(found, self.least)


def refined(allocator: Allocator, wish: Wish, job: Job) -> Allocation:
    """Return the allocation whose real network is the best of those that the search meets.

    These are what the allocator takes, what single families of methods and one choice everywhere
    would give, and what it takes with other coefficients. The best of them are compared once more
    on more samples. Damage and drop of the result are measured. Raises UserError where nothing
    keeps the limits, and CancelledError.
    """
    others = [*families(allocator.options, wish.rules), *_mildest(allocator, wish)]
    job.add(1 + len(others) + SEARCHES + FINALISTS)
    met = _Met(wish)
    best = met.add(wish.allocate(allocator, wish.rules))
    job.advance(TRYING)
    for rules in others:
        with suppress(UserError):
            met.add(wish.allocate(allocator, rules))
        job.advance(TRYING)
    chance = random.Random(SEED)
    factors: dict[str, float] = {}
    for _ in range(SEARCHES):
        moved = _moved(factors, allocator.layers, chance)
        with suppress(UserError):
            worth = met.add(wish.allocate(allocator.with_factors(moved), wish.rules))
            if worth < best:
                best, factors = worth, moved
        job.advance(TRYING)
    return met.best(job)


class _Met:
    """The networks that a search met."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self._known: dict[bytes, tuple[Worth, Allocation]] = {}

    def add(self, found: Allocation) -> Worth:
        """Try a network that was not met yet. Raises UserError where it cannot be."""
        key = msgspec.json.encode(found.recipe)
        if key not in self._known:
            self._known[key] = self._wish.worth(found, self._wish.measure(found.recipe)), found
        return self._known[key][0]

    def best(self, job: Job) -> Allocation:
        """Compare the best once more, on more samples, and return the one that stays it."""
        finalists = sorted(self._known.values(), key=lambda each: each[0])[:FINALISTS]
        sure = []
        for _, found in finalists:
            truth = self._wish.surely(found.recipe)
            told = msgspec.structs.replace(
                found, damage=truth.damage.value, drop=truth.drop, measured=True
            )
            sure.append((self._wish.worth(found, truth), told))
            job.advance(COMPARING)
        return min(sure, key=lambda each: each[0])[1]


def _mildest(allocator: Allocator, wish: Wish) -> list[AllocationRules]:
    """Return rules of one choice everywhere, those that keep the limits and should lose least."""
    found: list[tuple[float, int, AllocationRules]] = []
    for rules in uniform(allocator.options, wish.rules):
        with suppress(UserError):
            told = allocator.allocate(wish.limits, rules, wish.least)
            found.append((told.damage, len(found), rules))
    return [rules for _, _, rules in sorted(found, key=lambda each: each[:2])[:UNIFORM]]


def _moved(
    factors: Mapping[str, float], layers: Sequence[str], chance: random.Random
) -> dict[str, float]:
    """Return other coefficients for a fifth of the layers, between a tenth and ten times."""
    count = max(1, round(CHANGED * len(layers)))
    moved = dict(factors)
    for name in chance.sample(list(layers), count):
        moved[name] = 10 ** chance.uniform(-1, 1)
    return moved
