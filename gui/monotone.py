"""A curve that is known to rise or to fall only, drawn through readings that scatter."""

from collections.abc import Sequence

from featherweight.engine.readings import Spread
from featherweight.engine.smoothing import smoothed


def monotone(values: Sequence[float]) -> list[float]:
    """Return the nearest values (least squares) that only rise or only fall, whichever is nearer.

    Neighbours that go the wrong way are pooled to their mean until none do.
    """
    up = list(_rising(values))
    down = [-value for value in _rising([-value for value in values])]
    return up if _distance(values, up) <= _distance(values, down) else down


def _rising(values: Sequence[float]) -> tuple[float, ...]:
    return smoothed([Spread(value, 1.0) for value in values])


def _distance(values: Sequence[float], others: Sequence[float]) -> float:
    return sum((one - other) ** 2 for one, other in zip(values, others, strict=True))
