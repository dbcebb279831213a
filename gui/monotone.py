"""A curve that is known to rise or to fall only, drawn through readings that scatter."""

from collections.abc import Sequence


def monotone(values: Sequence[float]) -> list[float]:
    """Return the nearest values (least squares) that only rise or only fall, whichever is nearer.

    Neighbours that go the wrong way are pooled to their mean until none do.
    """
    up = _rising(values)
    down = [-value for value in _rising([-value for value in values])]
    return up if _distance(values, up) <= _distance(values, down) else down


def _rising(values: Sequence[float]) -> list[float]:
    pools: list[tuple[float, int]] = []
    for value in values:
        mean, count = float(value), 1
        while pools and pools[-1][0] > mean:
            before, many = pools.pop()
            mean = (before * many + mean * count) / (many + count)
            count += many
        pools.append((mean, count))
    return [mean for mean, count in pools for _ in range(count)]


def _distance(values: Sequence[float], others: Sequence[float]) -> float:
    return sum((one - other) ** 2 for one, other in zip(values, others, strict=True))
