"""A teacher: the network whose outputs another one learns, and what it says of them."""

from pathlib import Path

import torch
from torch import Tensor

from featherweight.engine.datasets.samples import Indices, Inputs
from featherweight.engine.errors import TrustNeededError, UserError
from featherweight.engine.events import Source
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network
from featherweight.engine.reading.examples import check_runs
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recovering.losses import form_loss, log_of, relative_error, soft_loss
from featherweight.engine.task import Outputs, Task, are_probabilities, evaluating
from featherweight.engine.trainings import FineTuning

MOST_KEPT_BYTES = 256 << 20


class Teacher:
    """A network to learn from. Where its outputs are few they are computed once for a run."""

    def __init__(self, network: Network, task: Task, settings: FineTuning) -> None:
        # Hooks go on modules, and the original may be asked something else meanwhile.
        self.network, self.task, self.settings = network.shell(), task, settings
        self._kept: Outputs | None = None
        with evaluating(self.network) as run:
            example = run(*task.reference.example)
        self._probabilities = task.kind == "classification" and are_probabilities(example[0])
        self._bytes = sum(4 * output[:1].numel() for output in example) * len(task.recovery)

    def prepare(self, job: Job) -> None:
        """Compute all outputs for the recovery samples, if they fit into 256 MB and stay the same.

        Batches are always the same, so that the outputs are too. Raises CancelledError.
        """
        changing = self.settings.hidden != "none" or self.settings.augmentation != "none"
        if changing or self._bytes > MOST_KEPT_BYTES:
            return
        found = []
        for indices in self.task.ranges(len(self.task.recovery)):
            job.check()
            found.append(self.outputs(self.task.recovery.batch(indices)[0]))
        self._kept = tuple(torch.cat(parts) for parts in zip(*found, strict=True))

    def outputs(self, inputs: Inputs) -> Outputs:
        """Return what the teacher gives, without gradients."""
        with evaluating(self.network) as run:
            return self.task.outputs_of(run, inputs)

    def targets(self, indices: Indices, inputs: Inputs) -> Outputs:
        """Return what the teacher gives for samples by their numbers."""
        if self._kept is None:
            return self.outputs(inputs)
        return tuple(output[list(indices)] for output in self._kept)

    def loss(self, outputs: Outputs, targets: Outputs) -> Tensor:
        """Return how far outputs are from the teacher's.

        Of a classification it is T² times the divergence of the probabilities at a temperature T.
        Else it is the squared error relative to the teacher's power and, by the share of
        distillation, how unlike in form they are: `form_loss`.
        """
        if self.task.kind == "classification":
            own = log_of(outputs[0]) if self.task.probabilities else outputs[0]
            wanted = log_of(targets[0]) if self._probabilities else targets[0]
            return soft_loss(own, wanted, self.settings.temperature)
        return torch.stack(
            [
                self._error(*pair)
                for pair in zip(outputs, targets, strict=True)
                if pair[1].is_floating_point()
            ]
        ).mean()

    def _error(self, output: Tensor, target: Tensor) -> Tensor:
        error, share = relative_error(output, target), self.settings.distillation
        if not share:
            return error
        return error + share * form_loss(output, target, self.settings.temperature)


def teacher_of(task: Task, settings: FineTuning) -> Teacher:
    """Return the teacher of a recovery: the original, or the network in the named file.

    A file is looked for beside the network's own first, so that a recipe and what it needs can go
    about together. Raises UserError where it cannot be opened by itself or is of another task.
    """
    if not settings.teacher:
        return Teacher(task.reference, task, settings)
    path = _found(settings.teacher, task)
    try:
        network = read_network(Source(path=path))
    except TrustNeededError as error:
        raise UserError(
            f"The teacher {path} needs code that was not allowed.",
            "Export it as an archive (.fwz) or ONNX, and name that.",
        ) from error
    outputs = check_runs(network.module, task.reference.example, path)
    with evaluating(task.reference) as run:
        wanted = run(*task.reference.example)
    if (given := _shapes(outputs)) != (needed := _shapes(wanted)):
        raise UserError(
            f"The teacher {path} gives {given} for a sample, and the network gives {needed}.",
            "Name a network of the same task.",
        )
    return Teacher(network, task, settings)


def _found(teacher: str, task: Task) -> str:
    """Return where a teacher's file is: beside the network's own, or by its path as it stands."""
    beside = Path(task.reference.origin.path).parent / teacher
    return str(beside) if beside.is_file() else teacher


def _shapes(outputs: Outputs) -> str:
    return ", ".join("×".join(map(str, output.shape[1:])) or "one number" for output in outputs)
