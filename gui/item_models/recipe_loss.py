"""What a recipe is predicted to lose, from the readings of its choices and from a frontier."""

from collections.abc import Mapping
from itertools import pairwise

from featherweight.engine.readings import Frontier, FrontierPoint, Reading, Spread
from featherweight.engine.recipe import Recipe
from featherweight.gui.atlas_readings import ChoiceKey, key_of

Readings = Mapping[str, Mapping[ChoiceKey, Reading]]


def damage_of(recipe: Recipe, readings: Readings) -> float | None:
    """Return the sum of what the choices of a recipe lose alone; None where one was not read."""
    total = 0.0
    counted: set[tuple[tuple[str, ...], ChoiceKey]] = set()
    for name, choice in recipe.layers.items():
        key = key_of(choice)
        reading = readings.get(name, {}).get(key)
        if reading is None or reading.damage is None:
            return None
        if (reading.layers, key) not in counted:
            counted.add((reading.layers, key))
            total += max(reading.damage.value, 0.0)
    return total


def drop_at(frontier: Frontier, damage: float) -> Spread | None:
    """Return the fall of the metric at a damage, between the points of a frontier."""
    points = sorted(frontier.points, key=lambda point: point.damage)
    if not points or any(point.drop is None for point in points):
        return None
    if not damage:
        return Spread(0.0, 0.0)
    first, last = points[0], points[-1]
    if damage <= first.damage or damage >= last.damage:
        return _spread(first if damage <= first.damage else last)
    below, above = next(pair for pair in pairwise(points) if damage <= pair[1].damage)
    share = (damage - below.damage) / (above.damage - below.damage)
    low, high = _spread(below), _spread(above)
    return Spread(
        low.value + share * (high.value - low.value), low.error + share * (high.error - low.error)
    )


def _spread(point: FrontierPoint) -> Spread:
    return Spread(point.drop or 0.0, point.error)
