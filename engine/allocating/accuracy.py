"""How many points of the metric a damage costs, learned from networks that were measured.

The fall is taken as a·u + b·u² + c·u³ with u = log(1 + 50·damage), which rises from zero; what can
be lost at most bounds it. The three are found by least squares and are not negative.
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
# Small falls are as uncertain as half a point is.
HALF_POINT = 0.5
# Of u; a damage of e²⁵ is more than any network does.
LARGEST = 25.0
POWERS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
# Another power than 1 must tell this much better.
WORTH = 0.9
SMALLEST_DAMAGE = 1e-4


@dataclass(frozen=True)
class Tried:
    """A whole network that was measured: what its choices lose alone, and what it loses.

    `damage` is of its outputs, `drop` by how many points its metric falls.
    """

    parts: tuple[float, ...]
    damage: float
    drop: float


@dataclass(frozen=True)
class Fall:
    """What a network was predicted to lose, and by how many points its metric fell."""

    damage: float
    drop: float


@dataclass(frozen=True)
class AccuracyCurve:
    """Points of the metric by damage: `terms` of u, u² and u³, and the error as a share of them."""

    terms: tuple[float, float, float]
    error: float
    largest: float

    def drop(self, damage: float) -> Spread:
        """Return the fall at a damage; never more than the largest that can be."""
        u = math.log1p(SCALE * max(damage, 0.0))
        value = min(_value(self.terms, u), self.largest)
        return Spread(value, max(SMALLEST_ERROR, self.error * (value + HALF_POINT)))

    def damage(self, drop: float) -> float:
        """Return the damage at which the metric falls by so many points."""
        if drop <= 0:
            return 0.0
        low, high = 0.0, LARGEST
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if _value(self.terms, middle) <= drop else (low, middle)
        return math.expm1(low) / SCALE


def total(parts: Sequence[float], power: float) -> float:
    """Return what parts lose together: (Σ dᵖ)^(1/p).

    Errors that have nothing to do with each other add up (p = 1); where they lean to the same
    side their amplitudes do, of which damages are the squares (p = ½).
    """
    return float(sum(max(part, 0.0) ** power for part in parts) ** (1 / power))


def power_of(tried: Sequence[Tried]) -> float:
    """Return the power by which damages of parts tell best what networks lose; 1 of too few."""
    known = [each for each in tried if each.damage > SMALLEST_DAMAGE and any(each.parts)]
    if len(known) < FEWEST:
        return 1.0
    true = np.log([each.damage for each in known])
    off = {
        power: float(np.std(true - np.log([total(each.parts, power) for each in known])))
        for power in POWERS
    }
    best = min(POWERS, key=lambda power: off[power])
    return best if off[best] < WORTH * off[1.0] else 1.0


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
    weights = 1 / (0.1 + u) ** 1.5
    powers = np.stack([u, u**2, u**3], 1)
    terms, _ = nnls(powers * weights[:, None], drops * weights)
    if not terms.any():
        return None
    off = (powers @ terms - drops) / (powers @ terms + HALF_POINT)
    found = float(terms[0]), float(terms[1]), float(terms[2])
    return AccuracyCurve(found, float(np.sqrt(np.mean(off**2))), largest)


def _value(terms: tuple[float, float, float], u: float) -> float:
    return terms[0] * u + terms[1] * u**2 + terms[2] * u**3
