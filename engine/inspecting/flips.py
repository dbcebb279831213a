"""Which samples two networks put into different classes."""

from typing import NamedTuple

from torch import Tensor

from featherweight.engine.errors import UserError
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network
from featherweight.engine.results import Flip
from featherweight.engine.task import Outputs, Task, evaluating, labels_in

OTHERWISE = "Compare the figures of the results instead."


class FlipReport(NamedTuple):
    """The samples whose class differs, in the order of the data, and how many were compared."""

    flips: tuple[Flip, ...]
    of: int


def find_flips(task: Task, before: Network, after: Network, job: Job) -> FlipReport:
    """Compare the classes of two networks on every sample to measure on.

    A sample's own class is its label, or what the original network says where there are none. A
    step of the job is one batch. Raises UserError where the outputs are no classes, or a sample
    has more than one; CancelledError.
    """
    if not task.has_labels:
        raise UserError("The outputs of the network are no classes, so none can flip.", OTHERWISE)
    count = len(task.measure)
    batches = list(task.ranges(count))
    job.begin(len(batches))
    flips: list[Flip] = []
    with evaluating(before) as run_before, evaluating(after) as run_after:
        for numbers in batches:
            job.check()
            inputs, targets = task.batch(task.measure, numbers)
            told = task.kind == "fidelity" and before is task.reference
            first = targets if told else task.outputs_of(run_before, inputs)
            found = [_classes(first), _classes(task.outputs_of(run_after, inputs))]
            own = targets[0] if task.kind == "classification" else _classes(targets)
            flips += _differing(numbers, own, *found)
            job.advance("Comparing classes")
    return FlipReport(tuple(flips), count)


def _classes(outputs: Outputs) -> Tensor:
    """Return the class of every sample, (N,). Raises UserError where a sample has several."""
    classes = labels_in(outputs[0])
    if classes.ndim != 1:
        places = "×".join(map(str, classes.shape[1:]))
        raise UserError(f"The network gives {places} classes for a sample, not one.", OTHERWISE)
    return classes


def _differing(numbers: range, own: Tensor, before: Tensor, after: Tensor) -> list[Flip]:
    columns = (column.tolist() for column in (own, before, after))
    return [
        Flip(sample=sample, label=label, before=first, after=second)
        for sample, label, first, second in zip(numbers, *columns, strict=True)
        if first != second
    ]
