"""Recipes tried on the real network: what they lose together, and which layers are to blame."""

import math
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from featherweight.engine.allocating.accuracy import Tried
from featherweight.engine.allocating.allocator import Allocator
from featherweight.engine.errors import UserError
from featherweight.engine.jobs import Job
from featherweight.engine.readings import AllocationRules, Guilt, Spread
from featherweight.engine.recipe import Choice, Recipe

POINTS = 8
# Damages between which whole networks are tried.
LEAST, MOST = 1e-3, 1.0
BLAMED = 6
SEED = 20261124


@dataclass(frozen=True)
class Truth:
    """What a real network loses: damage of its outputs, and by how many points the metric falls."""

    damage: Spread
    drop: Spread


# Compresses the network by a recipe, without recovery, and compares it with the source.
Measure = Callable[[Recipe], Truth]


def tried_out(allocator: Allocator, measure: Measure, job: Job) -> tuple[Tried, ...]:
    """Return networks spread over the frontier of stored bits, and others of the same budgets.

    They lie evenly by the logarithm of their damage, where a person may want to be.
    Raises CancelledError.
    """
    points = allocator.frontier("bits", AllocationRules()).points
    damages = np.asarray([point.damage for point in points])
    wanted = np.geomspace(LEAST, min(MOST, max(float(damages.max()), LEAST)), POINTS)
    places = sorted({int(np.abs(damages - damage).argmin()) for damage in wanted})
    chance = random.Random(SEED)
    job.add(2 * len(places))
    found = []
    for place in places:
        factors = {name: 10 ** chance.uniform(-1.5, 1.5) for name in allocator.layers}
        for one in (allocator, allocator.with_factors(factors)):
            recipe = one.on_frontier(points[place].budget).recipe
            job.advance("Trying whole networks")
            # A network that gives no numbers any more tells nothing of the others.
            with suppress(UserError):
                truth = measure(recipe)
                parts = allocator.losses.parts(recipe)
                found.append(Tried(parts, truth.damage.value, truth.drop.value))
    return tuple(found)


def guilty(recipe: Recipe, allocator: Allocator, measure: Measure, job: Job) -> tuple[Guilt, ...]:
    """Name the layers that lose more in the whole network than their readings said, worst first.

    Halves of the network are put back and measured, then halves of the half that was off more,
    until single layers are left. Empty where the network loses what was predicted.
    Raises CancelledError.
    """
    names = [name for name, choice in recipe.layers.items() if not choice.empty]
    alone = {name: allocator.losses.alone(name, recipe.choice(name)) or 0.0 for name in names}
    job.add(2 * BLAMED * max(1, len(names)).bit_length())
    whole = measure(recipe).damage
    excess: dict[tuple[str, ...], float] = {tuple(names): math.inf}
    found: list[Guilt] = []
    while excess and len(found) < BLAMED:
        worst = max(excess, key=lambda each: excess[each])
        del excess[worst]
        for part in _halves(worst):
            job.advance("Putting layers back")
            fall = whole.value - measure(_without(recipe, part)).damage.value
            expected = sum(alone[name] for name in part)
            if fall - expected <= 2 * whole.error:
                continue
            if len(part) > 1:
                excess[part] = fall - expected
                continue
            milder = allocator.losses.milder(part[0], recipe.choice(part[0]))
            found.append(Guilt(part[0], expected, fall, milder))
    return tuple(sorted(found, key=lambda guilt: guilt.predicted - guilt.found))


def _halves(names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    middle = len(names) // 2
    return tuple(half for half in (names[:middle], names[middle:]) if half)


def _without(recipe: Recipe, names: Sequence[str]) -> Recipe:
    for name in names:
        recipe = recipe.with_choice(name, Choice())
    return recipe
