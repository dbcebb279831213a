"""Readings along the strengths of one method, made to rise: more compression loses no less.

Isotonic regression by pooling adjacent violators (Ayer et al. 1955).
"""

from collections.abc import Sequence

from featherweight.engine.readings import Spread


def smoothed(damages: Sequence[Spread]) -> tuple[float, ...]:
    """Return the values nearest to readings that never fall, in order of rising strength.

    Near is the sum of squares, each divided by the square of the reading's standard error; a
    reading without error counts as much as the surest of the others with one.
    """
    surest = min((spread.error for spread in damages if spread.error > 0), default=1.0)
    # Each pool has its mean, its weight and how many readings it took in.
    pools: list[tuple[float, float, int]] = []
    for spread in damages:
        pool = (spread.value, (spread.error or surest) ** -2, 1)
        while pools and pools[-1][0] > pool[0]:
            before = pools.pop()
            weight = before[1] + pool[1]
            mean = (before[0] * before[1] + pool[0] * pool[1]) / weight
            pool = (mean, weight, before[2] + pool[2])
        pools.append(pool)
    return tuple(mean for mean, _, count in pools for _ in range(count))
