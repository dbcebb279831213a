"""What a changed network loses on samples: sums that grow sample by sample, and their means.

Samples come from the task's recovery data, never from those that results are judged by.
"""

import math

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor
from torch.nn import functional

from featherweight.engine.datasets.samples import Indices
from featherweight.engine.readings import DamageOf, Spread
from featherweight.engine.task import Outputs, Task, evaluating, labels_in

# Multiples of it, without their whole part, lie evenly between 0 and 1 (Weyl 1916).
GOLDEN = (math.sqrt(5) - 1) / 2
SMALLEST = 1e-12
NOT_FINITE = "The changed network gives numbers that are not finite."
# Classes lie on the last axis of outputs of so many dimensions; beyond these are images.
CLASS_DIMENSIONS = (2, 3)


class Sums(Struct, frozen=True, array_like=True):
    """Sums over `samples` of damage, rise of the loss and fall of the metric, and of their squares.

    `power` is the sum of what output errors are divided by.
    """

    samples: int = 0
    power: float = 0.0
    damage: tuple[float, float] = (0.0, 0.0)
    loss: tuple[float, float] = (0.0, 0.0)
    metric: tuple[float, float] = (0.0, 0.0)

    def plus(self, other: "Sums") -> "Sums":
        """Return the sums over both."""
        return Sums(
            self.samples + other.samples,
            self.power + other.power,
            _added(self.damage, other.damage),
            _added(self.loss, other.loss),
            _added(self.metric, other.metric),
        )

    @property
    def finite(self) -> bool:
        """Whether every sum is a number."""
        return all(map(math.isfinite, (self.power, *self.damage, *self.loss, *self.metric)))


class Losses(Struct, frozen=True):
    """Means of what is lost: damage, rise of the loss, and points by which the metric falls."""

    damage: Spread
    loss: Spread
    metric: Spread | None


class Meter:
    """Measures what one task says of outputs beside those of the source.

    `damage` says what damage is here, `metric` names what falls, empty where nothing counts labels.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        with evaluating(task.reference) as run:
            first = run(*task.reference.example)[0]
        classes = task.has_labels and first.is_floating_point() and first.ndim in CLASS_DIMENSIONS
        self._labelled = task.kind == "classification"
        self.damage: DamageOf = "divergence" if self._labelled or classes else "output error"
        # The share that is right where outputs say nothing of the inputs any more.
        self.chance = 1 / task.classes if task.classes > 1 else 0.0
        self.metric = "top1" if self._labelled else "agreement" if task.has_labels else ""

    def sums(self, source: Outputs, made: Outputs, labels: Tensor | None) -> Sums:
        """Return the sums of a batch; not finite where the outputs are not."""
        with torch.no_grad():
            errors, powers = _errors(source, made)
            damage = errors if self.damage == "output error" else self._divergence(source, made)
            loss = self._rises(source[0], made[0], labels) if self._labelled else errors
            fall = self._falls(source[0], made[0], labels)
        return Sums(
            len(source[0]), float(powers.sum()), _sums(damage), _sums(loss), _sums(100 * fall)
        )

    def losses(self, sums: Sums) -> Losses:
        """Return the means with their standard errors."""
        power = max(sums.power / max(sums.samples, 1), SMALLEST)
        return Losses(
            _spread(sums.damage, sums.samples, power if self.damage == "output error" else 1.0),
            _spread(sums.loss, sums.samples, 1.0 if self._labelled else power),
            _spread(sums.metric, sums.samples, 1.0) if self.metric else None,
        )

    def right(self, source: Outputs, labels: Tensor | None) -> int:
        """Return on how many samples the source is right; where it is the measure, on all."""
        if not self._labelled:
            return len(source[0])
        assert labels is not None
        return int(labels_in(source[0]).eq(labels).sum())

    def _divergence(self, source: Outputs, made: Outputs) -> Tensor:
        exact, now = self._logs(source[0]), self._logs(made[0])
        found = (exact.exp() * (exact - now)).sum(-1)
        return found.reshape(len(found), -1).mean(1)

    def _logs(self, output: Tensor) -> Tensor:
        output = output.double()
        if self.task.probabilities:
            return output.clamp_min(SMALLEST).log()
        return functional.log_softmax(output, -1)

    def _rises(self, source: Tensor, made: Tensor, labels: Tensor | None) -> Tensor:
        assert labels is not None
        was, now = self._logs(source), self._logs(made)
        return (was - now).gather(1, labels[:, None])[:, 0]

    def _falls(self, source: Tensor, made: Tensor, labels: Tensor | None) -> Tensor:
        if not self.metric:
            return torch.zeros(len(source))
        was, now = labels_in(source), labels_in(made)
        if self._labelled:
            assert labels is not None
            return was.eq(labels).double() - now.eq(labels).double()
        return was.ne(now).double().reshape(len(was), -1).mean(1)


def sample_order(count: int) -> Indices:
    """Return the numbers 0 … count-1 so that every beginning of them lies evenly over all."""
    places = np.arange(count) * GOLDEN % 1.0
    return [int(place) for place in np.argsort(places, kind="stable")]


def _added(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return one[0] + other[0], one[1] + other[1]


def _sums(values: Tensor) -> tuple[float, float]:
    values = values.double()
    return float(values.sum()), float(values.square().sum())


def _spread(sums: tuple[float, float], samples: int, scale: float) -> Spread:
    if not samples:
        return Spread(0.0, 0.0)
    mean = sums[0] / samples
    variance = max(sums[1] / samples - mean * mean, 0.0)
    # Of one sample nobody knows how far others are.
    error = math.sqrt(variance / (samples - 1)) if samples > 1 else abs(mean)
    return Spread(mean / scale, error / scale)


def _errors(source: Outputs, made: Outputs) -> tuple[Tensor, Tensor]:
    """Return ‖Δ‖² and ‖outputs‖² of every sample, over all outputs."""
    errors = torch.zeros(len(source[0]), dtype=torch.float64)
    powers = torch.zeros_like(errors)
    for exact, now in zip(source, made, strict=True):
        was = exact.double().reshape(len(exact), -1)
        errors += (now.double().reshape(len(exact), -1) - was).square().sum(1)
        powers += was.square().sum(1)
    return errors, powers
