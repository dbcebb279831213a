"""Ranks chosen for many layers at once, so that all together cost no more than before.

Idelbayev, Carreira-Perpiñán: Low-Rank Compression of Neural Nets: Learning the Rank of Each Layer
(CVPR 2020): r* = argmin μ/2 Σ s² of all singular values s beyond r + λ·cost(r), here with
the λ at which the cost holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
HALVINGS = 100


@dataclass(frozen=True)
class Ladder:
    """The ranks that one layer may have, in any order; `own` is the place of its present one.

    `errors` are squared errors, `costs` parameters, `bits` stored bits of each.
    """

    errors: Numbers
    costs: Numbers
    bits: Numbers
    own: int


def chosen_ranks(ladders: Sequence[Ladder]) -> list[int]:
    """Return the place of every layer's rank: the sum of errors is small for the present cost.

    Neither parameters nor bits are more than those of the present ranks together, and the error is
    never larger than theirs.
    """
    own = [ladder.own for ladder in ladders]
    # With no price errors are least; a price of this makes everything as cheap as it can be.
    low, high = 0.0, 1.0
    while not _fits(ladders, _best(ladders, high)) and high < np.finfo(np.float64).max / 2:
        high *= 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _fits(ladders, _best(ladders, middle)):
            high = middle
        else:
            low = middle
    found = _best(ladders, high)
    found = _filled(ladders, found if _fits(ladders, found) else own)
    return found if _error(ladders, found) <= _error(ladders, own) else own


def _best(ladders: Sequence[Ladder], price: float) -> list[int]:
    """Return each layer's best place at a price of a parameter; of equals the cheapest."""
    scores = [ladder.errors + price * ladder.costs for ladder in ladders]
    return [
        int(np.lexsort((ladder.costs, score))[0])
        for ladder, score in zip(ladders, scores, strict=True)
    ]


def _filled(ladders: Sequence[Ladder], places: list[int]) -> list[int]:
    """Spend what is left, the step first that saves most error for its parameters."""
    places = list(places)
    while True:
        parameters, bits = _left(ladders, places)
        best, step = 0.0, (0, 0)
        for number, (ladder, place) in enumerate(zip(ladders, places, strict=True)):
            more = ladder.costs - ladder.costs[place]
            fits = (more <= parameters) & (ladder.bits - ladder.bits[place] <= bits)
            gains = (ladder.errors[place] - ladder.errors) / np.maximum(more, 1.0)
            gains = np.where(fits, gains, 0.0)
            if gains.max() > best:
                best, step = float(gains.max()), (number, int(gains.argmax()))
        if not best:
            return places
        places[step[0]] = step[1]


def _left(ladders: Sequence[Ladder], places: Sequence[int]) -> tuple[float, float]:
    """Return how many parameters and bits fewer than the present ranks these cost."""
    pairs = list(zip(ladders, places, strict=True))
    return (
        float(sum(ladder.costs[ladder.own] - ladder.costs[place] for ladder, place in pairs)),
        float(sum(ladder.bits[ladder.own] - ladder.bits[place] for ladder, place in pairs)),
    )


def _fits(ladders: Sequence[Ladder], places: Sequence[int]) -> bool:
    return min(_left(ladders, places)) >= 0


def _error(ladders: Sequence[Ladder], places: Sequence[int]) -> float:
    return float(sum(ladder.errors[place] for ladder, place in zip(ladders, places, strict=True)))
