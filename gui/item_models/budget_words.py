"""What is said of a budget: what a recipe is predicted to cost and lose, and what it really did."""

from collections.abc import Sequence
from typing import NamedTuple

from featherweight.engine.readings import (
    Allocation,
    Frontier,
    Guilt,
    Resource,
    Spread,
)
from featherweight.engine.results import Cost, Result
from featherweight.gui import wording
from featherweight.gui.budget_text import budget_words, ratio_words
from featherweight.gui.holds import Holds
from featherweight.gui.item_models.layer_words import LayerWords
from featherweight.gui.widgets.frontier_chart import FrontierDot, loss_at
from featherweight.gui.widgets.guilt_list import Blamed


class Outcome(NamedTuple):
    """What a run of a recipe really gave; `drop` in points, None where it is not known."""

    bytes: float
    macs: float
    drop: float | None


def dots_of(frontier: Frontier) -> tuple[FrontierDot, ...]:
    """Return a frontier for the chart: points of the metric where all are known, else damage."""
    known = tells_drop(frontier)
    return tuple(
        FrontierDot(point.budget, point.drop or 0.0, point.error)
        if known
        else FrontierDot(point.budget, point.damage)
        for point in frontier.points
    )


def tells_drop(frontier: Frontier) -> bool:
    """Whether a frontier knows how far the metric falls."""
    return bool(frontier.points) and all(point.drop is not None for point in frontier.points)


def metric_title(metric: str) -> str:
    """Return the title of what falls, where nothing counts labels of the loss of agreement."""
    return wording.title_of(metric) if metric else "Accuracy"


def frontier_tip(frontier: Frontier, budget: float, damage: str) -> str:
    """Return what the best within a budget loses."""
    at = loss_at(dots_of(frontier), budget)
    words = budget_words(frontier.resource, budget)
    share = ratio_words(budget / frontier.source) if frontier.source else ""
    if at is None:
        return f"{words} ({share}): less than any choice gives"
    if tells_drop(frontier):
        metric = metric_title(frontier.metric)
        return f"{words} ({share}): {metric} falls by {points(Spread(at.loss, at.error))} points"
    return f"{words} ({share}): {damage} {wording.rise(at.loss)}"


def points(drop: Spread) -> str:
    """Return points of a metric with their error."""
    error = f" ± {_digits(drop.error)}" if drop.error else ""
    return f"{_digits(drop.value)}{error}"


def cost_of(allocation: Allocation, resource: Resource) -> float | None:
    """Return what an allocation costs of a resource, None where that is not known."""
    return (
        allocation.latency if resource == "latency" else float(getattr(allocation.cost, resource))
    )


def outcome_of(result: Result, metric: str) -> Outcome:
    """Return what a run gave; `metric` names what falls."""
    before, after = result.before.figures, result.after.figures
    drop = None
    if metric in before and metric in after:
        scale = 1.0 if after[metric].unit == "%" else 100.0
        drop = (before[metric].value - after[metric].value) * scale
    octets = after["bytes"].value if "bytes" in after else float(result.ledger.bytes)
    macs = after["macs"].value if "macs" in after else float(result.predicted.macs)
    return Outcome(octets, macs, drop)


def gap_words(predicted: Spread, actual: float, recovered: bool) -> tuple[str, bool]:
    """Return how the actual fall compares with the predicted one, and whether it is worse."""
    gap = actual - predicted.value
    after = " with recovery" if recovered else ""
    if abs(gap) <= predicted.error:
        return f"As predicted{after}: {_digits(abs(gap))} points apart, within the error.", False
    side = "more" if gap > 0 else "less"
    return f"It fell by {_digits(abs(gap))} points {side} than predicted{after}.", gap > 0


def blamed_of(guilt: Guilt, words: LayerWords, relaxed: bool) -> Blamed:
    """Return the line of a guilty layer."""
    said = f"{wording.rise(guilt.found)} instead of {wording.rise(guilt.predicted)}"
    milder = " → ".join(words.chosen(guilt.milder)) if guilt.milder else ""
    return Blamed(guilt.layer, said, milder or "leave it as it is", relaxed)


def held_words(holds: Holds, unread: Sequence[str] = ()) -> str:
    """Return how many layers budgets do not change, and of which choices no loss is known."""
    parts = []
    if holds.kept:
        parts.append(f"{_layers(len(holds.kept))} kept")
    if holds.left:
        parts.append(f"{_layers(len(holds.left))} left as in the source")
    held = ", ".join(parts) or "Every layer may change"
    if not unread:
        return held
    names = unread[0] if len(unread) == 1 else _layers(len(unread))
    return f"{held}. Nothing was read of the choice of {names}: what it loses is not counted"


def size_note(before: Cost, after: Cost) -> str:
    """Return by how much the stored size changes, and the rate of it."""
    if before.bits == after.bits:
        return ""
    rate = wording.factor(before.bits / after.bits if after.bits else float("inf"))
    return f"{wording.change(before.bits, after.bits)}, {rate}"


def _layers(number: int) -> str:
    return f"{number} layer{'s' if number != 1 else ''}"


def _digits(value: float) -> str:
    return f"{value:.{2 if abs(value) < 1 else 1}f}".replace("-", wording.MINUS)
