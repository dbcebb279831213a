"""How results recovered, side by side: their curves with those of controls, and what came out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from featherweight.engine.events import TaskSummary
from featherweight.engine.figures import Figure
from featherweight.engine.results import Control, Result
from featherweight.gui import wording
from featherweight.gui.item_models.run_curves import accuracy_of, share_of
from featherweight.gui.widgets.line_style import Dash, Line
from featherweight.gui.widgets.plain_table import Cell

FEWEST, MOST = 2, 4
DASHES: dict[Literal["dense", "hard labels"], Dash] = {"dense": "dashed", "hard labels": "dotted"}
HEADS = ("Result", "Accuracy", "Against source", "Known", "File size", "Against source", "Epochs")
Shown = Literal["accuracy", "loss"]
Points = tuple[tuple[float, float], ...]


class Curve(NamedTuple):
    """A line with its points (step or epoch, loss or accuracy)."""

    line: Line
    points: Points


def curves_of(results: Sequence[Result], shown: Shown, task: TaskSummary | None) -> list[Curve]:
    """Return the curves of results and controls, over epochs of a task or, without it, steps.

    A result has the colour of its place and its controls have it too, with dashes. The source
    stands among accuracies where all results were made from the same one.
    """
    made = []
    for place, result in enumerate(results):
        each = 1 / steps_of_an_epoch(result, task) if task is not None else 1.0
        made.append(Curve(Line(result.name, place), _points(result.curve, shown, each)))
        for control in result.controls:
            line = Line(control_name(result, control), place, DASHES[control.kind])
            made.append(Curve(line, _points(control.curve, shown, each)))
    made = [curve for curve in made if curve.points]
    sources = {accuracy_of(result.before.figures) for result in results}
    source = sources.pop() if len(sources) == 1 else None
    if made and shown == "accuracy" and source is not None:
        level = Line("Source", None, "dashed", level=True)
        made.append(Curve(level, ((0.0, share_of(source)),)))
    return made


def steps_of_an_epoch(result: Result, task: TaskSummary) -> int:
    """Return how many steps of a result's recovery are a pass over the recovery data."""
    recovery = result.recipe.recovery
    if recovery is None:
        return 1
    trained = max(1, task.recovery_samples - round(task.recovery_samples * recovery.held_out))
    return max(1, trained // min(recovery.batch_size, trained))


def control_name(result: Result, control: Control) -> str:
    """Return what a control is called beside its result."""
    return f"{result.name}, {control.kind}"


def outcome_lines(results: Sequence[Result]) -> list[list[Cell]]:
    """Return a line of a table for every result and control, under HEADS."""
    lines = []
    for result in results:
        before, after = result.before.figures, result.after.figures
        recovery = result.recipe.recovery
        epochs = recovery.epochs if recovery is not None else 0
        sizes = (before.get("bytes"), after.get("bytes"))
        accuracies = (accuracy_of(before), accuracy_of(after))
        lines.append([(result.name, result.name), *_cells(accuracies, sizes, epochs)])
        for control in result.controls:
            name = control_name(result, control)
            accuracies = (accuracy_of(before), accuracy_of(control.figures))
            sizes = (before.get("bytes"), control.figures.get("bytes"))
            lines.append([(name, name), *_cells(accuracies, sizes, epochs)])
    return lines


def _points(curve: Sequence[tuple[int, float, float]], shown: Shown, each: float) -> Points:
    value: Mapping[Shown, Callable[[tuple[int, float, float]], float]] = {
        "loss": lambda point: point[1],
        "accuracy": lambda point: point[2],
    }
    return tuple((point[0] * each, value[shown](point)) for point in curve)


def _cells(
    accuracies: tuple[Figure | None, Figure | None],
    sizes: tuple[Figure | None, Figure | None],
    epochs: int,
) -> Iterator[Cell]:
    known = accuracies[1].basis if accuracies[1] is not None else ""
    yield from _moved("accuracy", *accuracies)
    yield known, known
    yield from _moved("bytes", *sizes)
    yield epochs, str(epochs)


def _moved(name: str, before: Figure | None, after: Figure | None) -> Iterator[Cell]:
    """Yield a figure, and how it moved."""
    if after is None:
        yield from ((float("-inf"), wording.NONE),) * 2
        return
    yield after.value, wording.figure(name, after)
    if before is None:
        yield float("-inf"), wording.NONE
    else:
        yield after.value - before.value, wording.moved(name, before, after)
