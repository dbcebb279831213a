"""What a network learns from a batch: by labels, by the original, and by what a teacher says."""

import torch
from torch import Tensor

from featherweight.engine.datasets.samples import Samples
from featherweight.engine.jobs import Check, Job
from featherweight.engine.network import Network, fingerprint
from featherweight.engine.recovering.arithmetic import computing, wide
from featherweight.engine.recovering.augmenting import Augmented
from featherweight.engine.recovering.batches import batch_size
from featherweight.engine.recovering.devices import HOME, Stage, device
from featherweight.engine.recovering.distilling import teacher_of
from featherweight.engine.recovering.hints import hints_between
from featherweight.engine.task import Task
from featherweight.engine.trainings import FineTuning


class Lesson:
    """The loss of a network on recovery samples, as a recovery's settings want it.

    `stage` has the network and its teacher where they train, `bfloat16` says whether the
    network computes in it. Raises UserError where the teacher does not fit.
    """

    def __init__(self, network: Network, task: Task, settings: FineTuning, seed: int) -> None:
        self.network, self.task, self.settings = network, task, settings
        self.bfloat16 = False
        self.samples: Samples | Augmented = task.recovery
        if settings.augmentation != "none":
            self.samples = Augmented(task.recovery, settings, seed)
        learns = settings.learns and settings.epochs > 0
        self.teacher = teacher_of(task, settings) if learns else None
        samples = batch_size(settings.batch_size, task)
        self.stage = Stage(device(), network)
        if self.teacher and self.stage.where != HOME:
            # The original stays where it is asked other things meanwhile.
            self.teacher.network = self.teacher.network.copy()
            self.stage.networks += (self.teacher.network,)
        self.hints = hints_between(network, self.teacher, samples) if self.teacher else None

    @property
    def identity(self) -> str:
        """What tells the teacher from any other; empty without one."""
        return fingerprint(self.teacher.network) if self.teacher else ""

    def prepare(self, job: Job) -> None:
        """Ask the teacher once for all where that is cheaper. Raises CancelledError."""
        if self.teacher:
            self.teacher.prepare(job)

    def renew(self, check: Check) -> dict[str, Tensor]:
        """Do what is due before an epoch; return what a checkpoint keeps. Raises CancelledError."""
        return self.hints.renew(check) if self.hints else {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on with what a checkpoint kept."""
        if self.hints:
            self.hints.restore(tensors)

    def close(self) -> None:
        """Let go of the layers that are compared with a teacher's."""
        if self.hints:
            self.hints.close()

    def loss(self, indices: list[int], step: int) -> Tensor:
        """Return the loss on samples by their numbers, of no dimension, in training mode.

        The step chooses how samples are changed where they are.
        """
        if isinstance(self.samples, Augmented):
            self.samples.step = step
        share = self.settings.distillation if self.teacher else 0.0
        labelled = self.task.kind == "classification"
        # Without labels the teacher's outputs are all there is to go by.
        if self.teacher and not labelled:
            share = 1.0
        if self.teacher is None or (labelled and share < 1.0):
            inputs, targets = self.task.batch(self.samples, indices)
        else:
            inputs, targets = self.samples.batch(indices)[0], ()
        inputs, targets = self.stage.moved(inputs), self.stage.moved(targets)
        taught: tuple[Tensor, ...] = ()
        if self.teacher and (share or self.hints):
            taught = self.stage.moved(self.teacher.targets(indices, inputs))
        with computing(self.bfloat16, self.stage.where):
            outputs = tuple(map(wide, self.network.outputs(*inputs)))
        parts = [] if share == 1.0 else [(1 - share) * self.task.loss(outputs, targets)]
        if self.teacher and share:
            parts.append(share * self.teacher.loss(outputs, taught))
        if self.hints:
            parts.append(self.settings.hidden_weight * self.hints.loss())
        return torch.stack(parts).sum() if len(parts) > 1 else parts[0]
