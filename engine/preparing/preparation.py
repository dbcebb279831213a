"""A network trained before it is compressed, in the way that its recipe names."""

from pathlib import Path

from featherweight.engine.jobs import Job
from featherweight.engine.preparing.ground import Ground
from featherweight.engine.preparing.learning_compression import learn_compression
from featherweight.engine.preparing.prepared import Prepared
from featherweight.engine.preparing.sparse_training import train_sparse
from featherweight.engine.recovering.batches import Batches, batch_size
from featherweight.engine.task import Task
from featherweight.engine.trainings import Preparation


def prepared(
    ground: Ground, settings: Preparation, seed: int, folder: Path | None, job: Job
) -> Prepared:
    """Return a trained copy of the network, of the same shape, that hardly misses what goes.

    With it come the methods of its layers, whose ranks a learning-compression chooses anew.

    The same ground, settings and seed give the same weights, bit for bit, also where the run was
    cancelled and goes on from its checkpoint in `folder`. Advances `job` by `steps_of` steps, and
    sends points `loss`, `accuracy` (0 to 1), `rate` and `density` (0 to 1: the share of weights
    that are not about zero in the layers that take part).
    Raises CancelledError, and UserError where no layer takes part, the loss is no number any more,
    nothing can be trained or a checkpoint cannot be written.
    """
    if settings.way == "learning-compression":
        return learn_compression(ground, settings, seed, folder, job)
    return Prepared(train_sparse(ground, settings, seed, folder, job), dict(ground.chosen))


def steps_of(settings: Preparation, task: Task) -> int:
    """Return how many steps a preparation takes."""
    size = batch_size(settings.batch_size, task)
    return settings.epochs * Batches(len(task.recovery), size, 0).steps
