"""How many samples a setting is read on: growing subsets, after each of which some are done.

A setting goes on only while more samples could still change what an allocation makes of it. That is
decided between two levels, from sums over the same samples of all settings, so that a sweep which
was interrupted decides as one that was not.
"""

from collections.abc import Iterator, Mapping, Sequence

from featherweight.engine.atlas.changes import Change
from featherweight.engine.readings import DamageOf, Spread
from featherweight.engine.results import Cost

FIRST = 128
# A mean is settled once its standard error is below this share of it, or that of a damage which
# nobody would notice.
PRECISE, UNNOTICED = 0.12, 0.25
# Bounds lie so many standard errors from the mean.
SURE = 2.0
CERTAIN = 3.0
# Damage of a whole network that nobody would notice, and that of one layer beyond any use.
NEGLIGIBLE: Mapping[DamageOf, float] = {"divergence": 0.01, "output error": 0.002}
HOPELESS: Mapping[DamageOf, float] = {"divergence": 0.7, "output error": 0.5}


def levels(samples: int) -> Iterator[int]:
    """Give the numbers of samples after which settings are compared, the last is all of them."""
    level = FIRST
    while level < samples:
        yield level
        level *= 2
    yield samples


def going_on(
    damages: Mapping[Change, Spread], costs: Mapping[Change, Cost], kind: DamageOf, items: int
) -> list[Change]:
    """Return the changes that need more samples: of all changes that were read at this level.

    `items` is how many layers, or groups of coupled ones, share what nobody would notice. Done are
    those that are precise, harmless or hopeless with what is known, and those that surely lose more
    than another of the same layers that costs no more of anything.
    """
    least = NEGLIGIBLE[kind] / max(items, 1)
    rivals: dict[tuple[str, ...], list[Change]] = {}
    for change in damages:
        rivals.setdefault(change.layers, []).append(change)
    return [
        change
        for change, spread in damages.items()
        if not _settled(spread, least, HOPELESS[kind])
        and not _dominated(change, rivals[change.layers], damages, costs)
    ]


def _settled(spread: Spread, least: float, hopeless: float) -> bool:
    mean, error = abs(spread.value), spread.error
    precise = error <= max(PRECISE * mean, UNNOTICED * least)
    return precise or mean + SURE * error <= least or spread.value - SURE * error >= hopeless


def _dominated(
    change: Change,
    rivals: Sequence[Change],
    damages: Mapping[Change, Spread],
    costs: Mapping[Change, Cost],
) -> bool:
    bound = damages[change].value - CERTAIN * damages[change].error
    mine = costs[change]
    return any(
        damages[other].value + CERTAIN * damages[other].error < bound
        and costs[other].bits <= mine.bits
        and costs[other].parameters <= mine.parameters
        and costs[other].macs <= mine.macs
        for other in rivals
    )
