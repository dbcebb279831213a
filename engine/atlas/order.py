"""In which order settings are read: first those that could change an allocation most."""

from collections.abc import Mapping, Sequence

from featherweight.engine.atlas.changes import Change
from featherweight.engine.results import Cost

# Each portion runs the source anew, which is little beside so many settings.
PORTIONS, SMALLEST = 4, 64


def portions(
    changes: Sequence[Change],
    damages: Mapping[Change, float],
    costs: Mapping[Change, Cost],
    hopeless: float,
) -> list[list[Change]]:
    """Return changes in a few portions, those that an allocation may take first.

    It takes what no other choice of the same layers betters, in damage and in bits: the nearer to
    that by what is known of the damages, the earlier, and of the like what saves most. Changes of
    which nothing is known come first, those beyond any use last.
    """
    rivals: dict[tuple[str, ...], list[Change]] = {}
    for change in changes:
        rivals.setdefault(change.layers, []).append(change)

    def worth(change: Change) -> tuple[bool, float, int]:
        bits, known = costs[change].bits, damages.get(change)
        if known is None:
            return False, 1.0, bits
        least = min(
            damages[other]
            for other in rivals[change.layers]
            if other in damages and costs[other].bits <= bits
        )
        return known >= hopeless, known / least if least > 0 else float(known > 0), bits

    order = sorted(changes, key=worth)
    count = min(PORTIONS, max(1, len(order) // SMALLEST))
    return [order[len(order) * at // count : len(order) * (at + 1) // count] for at in range(count)]
