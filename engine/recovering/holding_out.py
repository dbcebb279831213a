"""Recovery samples that are not trained on, and what they say: which weights were best."""

from dataclasses import replace

from featherweight.engine.datasets.samples import Dataset, Subset, shuffled
from featherweight.engine.errors import UserError
from featherweight.engine.recovering.checkpoint import Best
from featherweight.engine.task import Task
from featherweight.engine.trainings import FineTuning

TO_HOLD_OUT = "Hold out a share of the recovery data, for example 0.1"


def check_held_out(settings: FineTuning) -> None:
    """Raise UserError where samples held out are to decide, and none are."""
    if settings.held_out:
        return
    if settings.keep == "best":
        raise UserError(
            "The recovery keeps the best weights, and no samples are held out to tell them by.",
            f"{TO_HOLD_OUT}, or keep the last.",
        )
    if settings.patience:
        raise UserError(
            "The recovery has patience, and no samples are held out to end it by.",
            f"{TO_HOLD_OUT}, or set the patience to 0.",
        )


def held_count(settings: FineTuning, samples: int) -> int:
    """Return how many of the recovery samples are held out: one at least, never all."""
    if not settings.held_out:
        return 0
    return min(max(1, round(samples * settings.held_out)), samples - 1)


def parted(task: Task, settings: FineTuning, seed: int) -> tuple[Task, Task | None]:
    """Return the task with fewer samples to recover on, and one that measures on the others.

    The seed chooses them. Without any held out the task is the same.
    """
    count = len(task.recovery)
    held = held_count(settings, count)
    if not held:
        return task, None
    order = shuffled(count, seed)
    # In the order of chance, for only the first of them are measured on where they are many.
    apart = Subset(task.recovery, order[:held])
    left = Subset(task.recovery, sorted(order[held:]))
    return (
        replace(task, dataset=Dataset(left, task.measure, task.dataset.labelled)),
        replace(task, dataset=Dataset(left, apart, task.dataset.labelled)),
    )


def beats(task: Task, standing: tuple[float, float], best: Best | None) -> bool:
    """Say whether a standing (loss, accuracy) is better than the best so far.

    Of a classification the accuracy counts and, where it is the same, the loss; else the loss.
    """
    if best is None:
        return True
    loss, accuracy = standing
    if task.kind == "classification" and accuracy != best.accuracy:
        return accuracy > best.accuracy
    return loss < best.loss
