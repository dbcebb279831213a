"""What a network learns from a teacher: its outputs, and what its hidden layers say.

Soft targets: Hinton, Vinyals, Dean (2015). Outputs of hidden layers: Romero et al.: FitNets (2015),
without a regressor, for layers of equal shape. Attention: Zagoruyko, Komodakis: Paying More
Attention to Attention (2017).
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from featherweight.engine.datasets.samples import Indices, Inputs
from featherweight.engine.errors import TrustNeededError, UserError
from featherweight.engine.events import Source
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network
from featherweight.engine.reading.examples import check_runs
from featherweight.engine.reading.formats import read_network
from featherweight.engine.task import Outputs, Task, are_probabilities, evaluating
from featherweight.engine.trainings import FineTuning

MOST_KEPT_BYTES = 256 << 20
STAGE = "Asking the teacher"
# Places where a teacher says next to nothing would outweigh all others.
LEAST_POWER = 1e-3


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
        """Compute all outputs for the recovery samples, if they fit into 256 MB.

        Batches are always the same, so that the outputs are too. Raises CancelledError.
        """
        if self.settings.hidden != "none" or self._bytes > MOST_KEPT_BYTES:
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

        Of a classification it is T² times the divergence of the probabilities at a temperature T,
        else the squared error relative to the teacher's power.
        """
        if self.task.kind == "classification":
            own = _logits(outputs[0], self.task.probabilities)
            wanted = _logits(targets[0], self._probabilities)
            return soft_loss(own, wanted, self.settings.temperature)
        floats = [
            pair for pair in zip(outputs, targets, strict=True) if pair[1].is_floating_point()
        ]
        return torch.stack([relative_error(*pair) for pair in floats]).mean()


@dataclass
class Hints:
    """Hidden layers of a network and of its teacher that are compared, as hooks catch them."""

    kind: Literal["outputs", "attention", "representation", "relations"]
    own: dict[str, Tensor] = field(default_factory=dict)
    taught: dict[str, Tensor] = field(default_factory=dict)
    handles: list[RemovableHandle] = field(default_factory=list)

    def loss(self) -> Tensor:
        """Return the mean difference of the layers in the last batch of both networks."""
        compare = relative_error if self.kind == "outputs" else attention_loss
        return torch.stack([compare(self.own[name], self.taught[name]) for name in self.own]).mean()

    def close(self) -> None:
        """Let go of the layers."""
        for handle in self.handles:
            handle.remove()


def teacher_of(task: Task, settings: FineTuning) -> Teacher:
    """Return the teacher of a recovery: the original, or the network in the named file.

    Raises UserError where the file cannot be opened by itself or is of another task.
    """
    if not settings.teacher:
        return Teacher(task.reference, task, settings)
    path = settings.teacher
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


def hints_between(network: Network, teacher: Teacher) -> Hints | None:
    """Return the hidden layers that both networks have; None where none are asked for.

    They go by the names of the source's layers, the last one left out, and agree in shape; for
    attention in places only. Raises UserError where there are none.
    """
    kind = teacher.settings.hidden
    if kind == "none":
        return None
    hints = Hints(kind)
    source = dict(teacher.network.layers())
    common = [
        (name, parts[-1]) for name, parts in network.parts.items() if name in source and parts
    ]
    for name, part in common[:-1]:
        hints.handles.append(_caught(network.layer(part), hints.own, name))
        hints.handles.append(_caught(source[name], hints.taught, name))
    example = teacher.task.reference.example
    with evaluating(network) as own, evaluating(teacher.network) as taught:
        own(*example)
        taught(*example)
    compared = [name for name in hints.own if _comparable(hints, name)]
    hints.close()
    hints.handles.clear()
    hints.own.clear()
    hints.taught.clear()
    if not compared:
        raise UserError(
            "No hidden layer of the network can be compared with its teacher's.",
            "Set hidden to none, or name a teacher whose layers have the same names and shapes.",
        )
    for name in compared:
        hints.handles.append(_caught(network.layer(network.parts[name][-1]), hints.own, name))
        hints.handles.append(_caught(source[name], hints.taught, name))
    return hints


def soft_loss(own: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Return T² KL(softmax(wanted / T) ‖ softmax(own / T)), mean over samples; (N, classes)."""
    log = functional.log_softmax(own / temperature, 1)
    target = functional.log_softmax(wanted / temperature, 1)
    return temperature**2 * functional.kl_div(log, target, reduction="batchmean", log_target=True)


def relative_error(output: Tensor, target: Tensor) -> Tensor:
    """Return ‖output - target‖² / ‖target‖².

    Where outputs are maps, (N, C, positions …), every position counts alike.
    """
    places = (0, 1) if target.ndim > 2 else tuple(range(target.ndim))
    error, power = ((output - target) ** 2).sum(places), (target**2).sum(places)
    return (error / power.clamp_min(LEAST_POWER * float(power.mean()) + 1e-12)).mean()


def attention_loss(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean ‖q / ‖q‖ - q' / ‖q'‖‖² of attention maps q = Σ F² over channels."""
    own, wanted = (functional.normalize((x**2).sum(1).flatten(1), dim=1) for x in (output, target))
    return ((own - wanted) ** 2).sum(1).mean()


def _logits(output: Tensor, probabilities: bool) -> Tensor:
    return output.clamp_min(1e-12).log() if probabilities else output


def _shapes(outputs: Outputs) -> str:
    return ", ".join("×".join(map(str, output.shape[1:])) or "one number" for output in outputs)


def _caught(layer: nn.Module, into: dict[str, Tensor], name: str) -> RemovableHandle:
    def keep(_: nn.Module, __: object, output: object) -> None:
        if isinstance(output, Tensor):
            into[name] = output

    return layer.register_forward_hook(keep)


def _comparable(hints: Hints, name: str) -> bool:
    own, taught = hints.own[name], hints.taught.get(name)
    if taught is None or not own.is_floating_point():
        return False
    if hints.kind == "outputs":
        return own.shape == taught.shape
    return own.ndim > 2 and own.shape[2:] == taught.shape[2:]
