"""How many points of the metric a damage costs, learned from networks that were measured.

The fall is taken as a·u + b·u² with u = log(1 + 50·damage), which rises from zero and flattens
where nothing is left to lose; a and b are found by least squares and are not negative.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featherweight.engine.readings import Spread

SCALE = 50.0
FEWEST = 4
# Of a few networks no error is told smaller than this, in points.
SMALLEST_ERROR = 0.1


@dataclass(frozen=True)
class Fall:
    """One network that was measured: what it was said to lose, and by how many points it fell."""

    damage: float
    drop: float


@dataclass(frozen=True)
class AccuracyCurve:
    """Points of the metric by damage: `linear`·u + `square`·u², with the error in its middle."""

    linear: float
    square: float
    error: float
    largest: float

    def drop(self, damage: float) -> Spread:
        """Return the fall at a damage; never more than the largest that can be."""
        u = math.log1p(SCALE * max(damage, 0.0))
        value = min(self.linear * u + self.square * u * u, self.largest)
        # What was off by a point in the middle is off by less near zero, where nothing changes.
        return Spread(value, max(SMALLEST_ERROR, self.error * min(1.0, u)))

    def damage(self, drop: float) -> float:
        """Return the damage at which the metric falls by so many points."""
        if drop <= 0:
            return 0.0
        root = math.sqrt(self.linear**2 + 4 * self.square * drop)
        u = 2 * drop / (self.linear + root) if root else math.inf
        return math.expm1(min(u, 50.0)) / SCALE


def fitted(falls: Sequence[Fall], largest: float) -> AccuracyCurve | None:
    """Return the curve nearest to what was measured; None of too few networks or no fall at all.

    Small damages count more, because there a person chooses.
    """
    from scipy.optimize import nnls

    known = [fall for fall in falls if math.isfinite(fall.damage) and math.isfinite(fall.drop)]
    if len(known) < FEWEST:
        return None
    u = np.log1p(SCALE * np.asarray([max(fall.damage, 0.0) for fall in known]))
    drops = np.asarray([fall.drop for fall in known])
    weights = 1 / (0.3 + u)
    (linear, square), _ = nnls(np.stack([u, u * u], 1) * weights[:, None], drops * weights)
    if not linear + square:
        return None
    off = (linear * u + square * u * u - drops) * np.minimum(1.0, 1 / np.maximum(u, 1e-9))
    return AccuracyCurve(float(linear), float(square), float(np.sqrt(np.mean(off**2))), largest)
