"""How sensitive the layers of a network are: what the loss would rise were one of them changed."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from featherweight.engine.atlas.proxies import expected_rise
from featherweight.engine.calibrating.collecting import Collector
from featherweight.engine.calibrating.gradients import gradient_lock
from featherweight.engine.errors import UserError
from featherweight.engine.evidence import Gradients, Need
from featherweight.engine.figures import Figure
from featherweight.engine.inspecting.calls import evaluating
from featherweight.engine.jobs import Job
from featherweight.engine.methods.method import PrecisionMethod
from featherweight.engine.network import Network
from featherweight.engine.task import Task

# So many samples steady the gradient's mean; large networks are asked on fewer, down to the least.
SAMPLES, LEAST_SAMPLES, SAMPLE_WEIGHTS = 256, 64, 2_000_000_000
# The evidence of so many weights is held at once, 640 MB; a larger layer goes alone.
WEIGHTS_AT_ONCE = 160_000_000
GRADIENTS: frozenset[Need] = frozenset({"gradients"})
STAGE = "Rounding the weights"
UNREACHED = "No gradient of the loss reaches its weights on this data."
NOT_FINITE = "Its weights or their gradients are not finite."


@dataclass(frozen=True)
class SensitivityReport:
    """The estimated rise of the loss by layer, and the reason of each layer without one.

    `loss` names the loss in words, `samples` is how many of the task's samples were asked.
    """

    layers: dict[str, Figure]
    reasons: dict[str, str]
    loss: str
    samples: int


def estimate(
    network: Network, task: Task, method: PrecisionMethod, job: Job, samples: int = 0
) -> SensitivityReport:
    """Estimate for every layer how much the loss rises where a method holds its weights alone.

    The layers are gone over in portions, each of which runs the network forwards and backwards on
    the first `samples` of the recovery data; 0 chooses 64 to 256, fewer for larger networks.
    Raises CancelledError, and UserError where the network gives no gradients or the data cannot be
    read.
    """
    _check_gradients(network)
    layers = dict(network.layers())
    reasons = {
        name: reason
        for name, layer in layers.items()
        if (reason := type(method).lock(layer) or gradient_lock(layer))
    }
    sizes = {
        name: layer.get_parameter("weight").numel()
        for name, layer in layers.items()
        if name not in reasons
    }
    parts = portions(sizes, WEIGHTS_AT_ONCE)
    bearable = SAMPLE_WEIGHTS // max(sum(sizes.values()), 1)
    samples = samples or max(LEAST_SAMPLES, min(SAMPLES, bearable))
    collector = Collector(task, min(samples, len(task.recovery)), job, by_batch=True)
    job.begin(len(parts) * collector.steps + len(sizes))
    scale = proxy_scale(task, collector.samples, job) if parts else 1.0
    rises: dict[str, float] = {}
    for part in parts:
        found = collector.collect(network, dict.fromkeys(part, GRADIENTS))
        for name in part:
            told = found[name]["weight"].gradients if name in found else None
            if told is not None and task.kind != "classification":
                # Those are gradients of outputs with random signs; the loss is at its minimum.
                told = replace(told, mean=None)
            weight = layers[name].get_parameter("weight").detach()
            if told is None or not told.squares.any():
                reasons[name] = UNREACHED
            else:
                rises[name] = scale * _rise(weight, method, told, job)
            job.advance(STAGE)
    reasons |= {name: NOT_FINITE for name, rise in rises.items() if not math.isfinite(rise)}
    return SensitivityReport(
        layers={
            name: Figure(rises[name], "", "estimated") for name in layers if name not in reasons
        },
        reasons={name: reasons[name] for name in layers if name in reasons},
        loss="cross entropy" if task.kind == "classification" else "relative squared error",
        samples=collector.samples,
    )


def samples_digest(task: Task, samples: int = SAMPLES) -> str:
    """Return a digest of the kind of a task and of all that `estimate` may ask of its data.

    Raises UserError where the data cannot be read.
    """
    digest = hashlib.blake2b(task.kind.encode(), digest_size=16)
    for indices in task.ranges(min(samples, len(task.recovery))):
        inputs, labels = task.recovery.batch(indices)
        for tensor in (*inputs, *(() if labels is None else (labels,))):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
            digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def portions(sizes: Mapping[str, int], most: int) -> list[tuple[str, ...]]:
    """Divide named sizes into few portions, none above `most` but of one name, each in order."""
    found: list[tuple[int, list[str]]] = []
    for name, size in sizes.items():
        place = next((at for at, (held, _) in enumerate(found) if held + size <= most), None)
        if place is None:
            found.append((size, [name]))
        else:
            held, names = found[place]
            found[place] = (held + size, [*names, name])
    return [tuple(names) for _, names in found]


@torch.no_grad()
def _rise(weight: Tensor, method: PrecisionMethod, gradients: Gradients, job: Job) -> float:
    held = method.trainable(weight, None, job.check)()
    return expected_rise(weight, held, gradients)


def gives_gradients(network: Network) -> bool:
    """Say whether gradients of a network's outputs can be told."""
    with torch.enable_grad(), evaluating(network.module):
        outputs = network.outputs(*network.example)
    return any(output.requires_grad for output in outputs)


def _check_gradients(network: Network) -> None:
    if not gives_gradients(network):
        raise UserError(
            "The network gives no gradients, and the sensitivity of its layers goes by them.",
            "Open it in a form that PyTorch computes, such as .pt2 or its code with its weights.",
        )


def proxy_scale(task: Task, samples: int, job: Job) -> float:
    """Return what turns the proxy into the loss of the task.

    Against a network's own outputs the gradients are those of the outputs themselves: half their
    squares are half the squared error, which the loss divides by the power of the outputs.
    """
    if task.kind == "classification":
        return 1.0
    power = sum(_powers(task, samples, job))
    return 2 * samples / power if power else 0.0


def _powers(task: Task, samples: int, job: Job) -> Iterator[float]:
    for indices in task.ranges(samples):
        job.check()
        _, targets = task.batch(task.recovery, indices)
        for target in targets:
            if target.is_floating_point():
                yield float(target.square().sum(dtype=torch.float64))
