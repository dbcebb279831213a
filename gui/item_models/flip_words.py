"""What is said of flipped samples: how many, in which direction, and whether that is chance."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

from featherweight.engine.events import TaskSummary
from featherweight.engine.results import Flip
from featherweight.gui import wording

Direction = Literal["lost", "won", "moved"]
DIRECTIONS: tuple[Direction, ...] = ("lost", "won", "moved")
# The right class is the label, or without labels the one that the original network gives.
LABELLED: dict[Direction, str] = {
    "lost": "Right → wrong",
    "won": "Wrong → right",
    "moved": "Wrong → other wrong",
}
LIKENED: dict[Direction, str] = {
    "lost": "Original's → other",
    "won": "Other → original's",
    "moved": "Other → another",
}
# Below it a difference is taken for more than chance.
LEVEL = 0.05


class FlipCounts(NamedTuple):
    """How many of `of` samples flipped in each direction."""

    lost: int
    won: int
    moved: int
    of: int


class ClassNames:
    """What the classes of a task are called: by the data's own names, else by their numbers."""

    def __init__(self, task: TaskSummary | None) -> None:
        self._names = task.class_names if task else ()

    def __call__(self, label: int) -> str:
        return self._names[label] if 0 <= label < len(self._names) else str(label)


def direction_of(flip: Flip) -> Direction:
    """Return in which direction a sample flipped."""
    if flip.before == flip.label:
        return "lost"
    return "won" if flip.after == flip.label else "moved"


def counted(flips: Iterable[Flip], of: int) -> FlipCounts:
    """Count flips by direction."""
    found = Counter(map(direction_of, flips))
    return FlipCounts(found["lost"], found["won"], found["moved"], of)


def titles(labelled: bool) -> dict[Direction, str]:
    """Return what the directions are called."""
    return LABELLED if labelled else LIKENED


def headline(counts: FlipCounts, labelled: bool) -> str:
    """Return how many flipped."""
    lost, won, _, of = (f"{number:,}" for number in counts)
    if not any(counts[:3]):
        return f"None of {of} samples has another class (measured)"
    if labelled:
        return f"{lost} of {of} went from right to wrong, {won} from wrong to right (measured)"
    if not counts.won and not counts.moved:
        return f"{lost} of {of} have another class than from the original network (measured)"
    return f"{lost} of {of} left the original's class, {won} came back to it (measured)"


def verdict(counts: FlipCounts, labelled: bool) -> str:
    """Return what the difference is worth, and what else flipped."""
    sentences = []
    if counts.won or (labelled and counts.lost):
        points = 100 * (counts.won - counts.lost) / counts.of
        sign = wording.MINUS if points < 0 else "+"
        p = chance(counts.lost, counts.won)
        than = "more than chance" if p < LEVEL else "within chance"
        sentences.append(
            f"The difference, {sign}{abs(points):.2f} points, is {than} (McNemar, {_shown(p)})."
        )
    if counts.moved:
        wrong = "from one wrong class to another" if labelled else "between two other classes"
        sentences.append(f"{counts.moved:,} more went {wrong}.")
    return " ".join(sentences)


def chance(lost: int, won: int) -> float:
    """Return how often chance alone parts as many flips as unevenly: McNemar's exact test.

    The p-value of both sides, of the binomial distribution with a half (McNemar 1947).
    """
    total, fewer = lost + won, min(lost, won)
    whole = math.lgamma(total + 1) - total * math.log(2)
    tail = sum(
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(total - k + 1)) for k in range(fewer + 1)
    )
    return min(1.0, 2 * tail)


def _shown(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
