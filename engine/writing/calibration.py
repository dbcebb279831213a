"""The samples on which ranges of activations are found."""

from collections.abc import Iterator

from featherweight.engine.jobs import Check
from featherweight.engine.network import Inputs
from featherweight.engine.task import Task

LEAST_SAMPLES, MOST_SAMPLES, ELEMENTS = 32, 512, 2**24
BATCH, BATCH_ELEMENTS = 64, 2**20


def calibration_batches(task: Task, check: Check) -> Iterator[Inputs]:
    """Give the first recovery samples in batches: 32 to 512, fewer where they are large."""
    elements = max(1, sum(tensor[:1].numel() for tensor in task.reference.example))
    wanted = max(LEAST_SAMPLES, min(MOST_SAMPLES, ELEMENTS // elements))
    size = task.fixed_batch or max(1, min(BATCH, BATCH_ELEMENTS // elements))
    count = min(wanted, len(task.recovery))
    for start in range(0, max(count - size + 1, 1), size):
        check()
        inputs, _ = task.recovery.batch(range(start, min(start + size, count)))
        yield inputs
