"""A task: what a network is for. Data to recover and to measure on, the metrics and the loss."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from featherweight.engine.datasets.formats import read_dataset
from featherweight.engine.datasets.samples import Dataset, Indices, Inputs, Samples
from featherweight.engine.errors import UserError
from featherweight.engine.events import TaskSource, TaskSummary
from featherweight.engine.figures import Figure
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.network import Network

Outputs = tuple[Tensor, ...]
Run = Callable[..., Outputs]
LARGEST_BATCH = 128
ELEMENTS_OF_A_BATCH = 4 * 1024 * 1024
# Differences below the rounding of float32 cannot be told from none.
ROUNDING = 2.0**-24


@dataclass
class Task:
    """Data with a metric and a loss for one network.

    A `classification` compares the first output, (N, classes), with labels. `fidelity` compares
    all outputs with those of `reference`, the network before compression. `probabilities` says
    that the outputs are probabilities already. Batches always come in the same order.
    """

    source: TaskSource
    kind: Literal["classification", "fidelity"]
    dataset: Dataset
    reference: Network
    classes: int = 0
    probabilities: bool = False
    has_labels: bool = field(init=False)
    has_floats: bool = field(init=False)

    def __post_init__(self) -> None:
        outputs = _example_outputs(self.reference)
        first = outputs[0]
        classes = first.shape[_class_axis(first)] if first.ndim >= 2 else 1
        self.has_labels = classes > 1 or not first.is_floating_point()
        self.has_floats = any(output.is_floating_point() for output in outputs)

    @property
    def recovery(self) -> Samples:
        """The samples to train on."""
        return self.dataset.recovery

    @property
    def measure(self) -> Samples:
        """The samples to measure on."""
        return self.dataset.measure

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size that the network takes; None where it takes any."""
        return None if self.reference.dynamic_batch else len(self.reference.example[0])

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the figures that `evaluate` gives."""
        if self.kind == "classification":
            return ("top1", "top5", "loss") if self.classes > 5 else ("top1", "loss")
        labels = ("agreement",) if self.has_labels else ()
        return (*labels, "snr", "relative_error") if self.has_floats else labels

    def summary(self) -> TaskSummary:
        """Return what a front end shows of the task."""
        return TaskSummary(
            source=self.source,
            recovery_samples=len(self.recovery),
            measure_samples=len(self.measure),
            classes=self.classes,
            metrics=self.metrics,
            class_names=self.dataset.class_names,
        )

    def batch(self, samples: Samples, indices: Indices) -> tuple[Inputs, Outputs]:
        """Return inputs and what the loss compares with: labels (N,), or the reference's outputs.

        Raises UserError where a sample cannot be read or its label has no output.
        """
        inputs, labels = samples.batch(indices)
        if self.kind == "fidelity":
            with evaluating(self.reference) as run:
                return inputs, self.outputs_of(run, inputs)
        if labels is None or int(labels.max()) >= self.classes:
            shown = "no label" if labels is None else f"the label {int(labels.max())}"
            raise UserError(
                f"{self.source.data}: a sample has {shown}, and the network "
                f"has {self.classes} outputs.",
                "Give every sample a label below the number of outputs.",
            )
        return inputs, (labels,)

    def loss(self, outputs: Outputs, targets: Outputs) -> Tensor:
        """Return the loss: cross entropy, or the squared error relative to the reference."""
        if self.kind == "classification":
            if self.probabilities:
                return functional.nll_loss(outputs[0].clamp_min(1e-12).log(), targets[0])
            return functional.cross_entropy(outputs[0], targets[0])
        error = sum(((output - target) ** 2).sum() for output, target in _floats(outputs, targets))
        power = sum((target**2).sum() for _, target in _floats(outputs, targets))
        return torch.as_tensor(error) / torch.as_tensor(power).clamp_min(1e-12)

    def evaluate(
        self,
        run: Run | Network,
        check: Check = unchecked,
        limit: int | None = None,
    ) -> dict[str, Figure]:
        """Measure a network, or anything that gives its outputs, on (the first `limit`) samples.

        `top1`, `top5` and `agreement` are in %, `snr` in dB (at most 144.5, the rounding of
        float32), `relative_error` is the largest error over the largest output. Calls `check`
        before every batch. Raises UserError where an output is not finite.
        """
        return self._scored(run, check, limit).figures()

    def _scored(self, run: Run | Network, check: Check, limit: int | None) -> "_Score":
        score = _Score(self)
        with evaluating(run) as outputs_of:
            for indices in self._measured(limit):
                check()
                inputs, targets = self.batch(self.measure, indices)
                outputs = self.outputs_of(outputs_of, inputs)
                if not all(bool(output.isfinite().all()) for output in outputs):
                    raise self._not_finite(run)
                score.add(outputs, targets)
        return score

    def _not_finite(self, run: Run | Network) -> UserError:
        if run is self.reference:
            return UserError(
                "The original network gives numbers that are not finite on this data.",
                "Look for weights or samples that are not finite or very large.",
            )
        return UserError(
            "The network gives numbers that are not finite.",
            "Choose milder methods for its layers or a lower learning rate.",
        )

    def standing(
        self, run: Run | Network, check: Check = unchecked, limit: int | None = None
    ) -> tuple[float, float]:
        """Return the loss and the accuracy (0 to 1) for a chart of training.

        The accuracy is top-1 or the agreement of labels; for outputs without classes it is the
        share of the reference's power that is reproduced.
        """
        score = self._scored(run, check, limit)
        if self.kind == "classification" or self.has_labels:
            accuracy = score.top1 / max(score.count, 1)
        else:
            accuracy = max(0.0, 1 - score.error / max(score.power, 1e-12))
        if self.kind == "classification":
            return score.loss / max(score.count, 1), accuracy
        return score.error / max(score.power, 1e-12), accuracy

    def labels(
        self,
        run: Run | Network,
        check: Check = unchecked,
        limit: int | None = None,
    ) -> npt.NDArray[np.int64]:
        """Return the label that a network gives every sample to measure on (largest output)."""
        found = []
        with evaluating(run) as outputs_of:
            for indices in self._measured(limit):
                check()
                inputs, _ = self.measure.batch(indices)
                found.append(labels_in(self.outputs_of(outputs_of, inputs)[0]).numpy())
        return np.concatenate(found)

    def measured_inputs(self, limit: int) -> Iterator[Inputs]:
        """Give the inputs of (the first `limit`) samples to measure on, batch by batch."""
        for indices in self._measured(limit):
            yield self.measure.batch(indices)[0]

    def ranges(
        self, count: int, most: int = LARGEST_BATCH, elements: int = ELEMENTS_OF_A_BATCH
    ) -> Iterator[range]:
        """Give the numbers of the first `count` samples, batch by batch.

        A batch has at most `most` samples and about `elements` numbers, or the fixed size.
        """
        of_one = sum(tensor[:1].numel() for tensor in self.reference.example)
        size = self.fixed_batch or max(1, min(most, elements // max(of_one, 1)))
        for start in range(0, count, size):
            yield range(start, min(start + size, count))

    def _measured(self, limit: int | None) -> Iterator[range]:
        return self.ranges(len(self.measure) if limit is None else min(limit, len(self.measure)))

    def outputs_of(self, run: Run, inputs: Inputs) -> Outputs:
        """Run a batch; where the network has a fixed one, fill it up and cut the outputs again."""
        count, fixed = len(inputs[0]), self.fixed_batch
        if fixed is None or count == fixed:
            return run(*inputs)
        filled = [torch.cat([t, t[-1:].expand(fixed - count, *t.shape[1:])]) for t in inputs]
        return tuple(output[:count] for output in run(*filled))


def read_task(source: TaskSource, network: Network) -> Task:
    """Read the data and check that it fits the network.

    Without data, or without labels, the task is `fidelity`. Raises UserError naming the file and
    the place where the data does not fit, TrustNeededError for a Python file not allowed yet.
    """
    dataset = read_dataset(source, network)
    if source.kind == "fidelity" or not dataset.labelled:
        return Task(source, "fidelity", dataset, network)
    output = _example_outputs(network)[0]
    if output.ndim != 2:
        shape = "×".join(map(str, output.shape[1:])) or "one number"
        raise UserError(
            f"{source.data} has labels, but the network gives {shape} for a sample.",
            "Choose the task fidelity: compare with the original network.",
        )
    classes = output.shape[1]
    if dataset.largest_label is not None and dataset.largest_label >= classes:
        raise UserError(
            f"{source.data} has the label {dataset.largest_label}, "
            f"and the network has {classes} outputs.",
            "Give labels below the number of outputs.",
        )
    sure = are_probabilities(output)
    return Task(source, "classification", dataset, network, classes, probabilities=sure)


def are_probabilities(output: Tensor) -> bool:
    """Say whether outputs (N, classes) are probabilities already, as after a softmax."""
    ones = torch.ones(len(output))
    return bool((output >= 0).all()) and torch.allclose(output.sum(1), ones, atol=1e-4)


class _Score:
    """Sums over batches, in float64."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.count = self.top1 = self.top5 = 0
        self.loss = self.error = self.power = self.largest_error = self.largest = 0.0

    def add(self, outputs: Outputs, targets: Outputs) -> None:
        if self.task.kind == "classification":
            self._add_labels(outputs, targets[0])
        else:
            self._add_outputs(outputs, targets)

    def _add_labels(self, outputs: Outputs, labels: Tensor) -> None:
        best = outputs[0].topk(min(5, self.task.classes), dim=1).indices == labels[:, None]
        self.count += len(labels)
        self.top1 += int(best[:, 0].sum())
        self.top5 += int(best.any(1).sum())
        self.loss += float(self.task.loss(outputs, (labels,))) * len(labels)

    def _add_outputs(self, outputs: Outputs, targets: Outputs) -> None:
        for output, target in _floats(outputs, targets):
            error, exact = (output.double() - target.double()).abs(), target.double().abs()
            self.error += float((error**2).sum())
            self.power += float((exact**2).sum())
            self.largest_error = max(self.largest_error, float(error.max()))
            self.largest = max(self.largest, float(exact.max()))
        if self.task.has_labels:
            same = labels_in(outputs[0]) == labels_in(targets[0])
            self.count += same.numel()
            self.top1 += int(same.sum())

    def figures(self) -> dict[str, Figure]:
        floor = ROUNDING**2 * self.power
        known = {
            "top1": (100 * self.top1 / max(self.count, 1), "%"),
            "top5": (100 * self.top5 / max(self.count, 1), "%"),
            "loss": (self.loss / max(self.count, 1), ""),
            "agreement": (100 * self.top1 / max(self.count, 1), "%"),
            "snr": (_decibels(self.power, max(self.error, floor)), "dB"),
            "relative_error": (self.largest_error / (self.largest or 1.0), ""),
        }
        return {name: Figure(*known[name], "measured") for name in self.task.metrics}


@contextmanager
def evaluating(run: Run | Network) -> Iterator[Run]:
    """Give what maps inputs to outputs; a network is in eval mode meanwhile."""
    with torch.no_grad():
        if not isinstance(run, Network):
            yield run
            return
        training = run.module.training
        run.module.eval()
        try:
            yield run.outputs
        finally:
            run.module.train(training)


def _example_outputs(network: Network) -> Outputs:
    with evaluating(network) as run:
        return run(*network.example)


def labels_in(output: Tensor) -> Tensor:
    """Return the labels in an output: the largest of the classes of (N, C), (N, T, C), (N, C, …).

    An output of one dimension, or of whole numbers, is returned as it is.
    """
    scored = output.ndim >= 2 and output.is_floating_point()
    return output.argmax(_class_axis(output)) if scored else output


def _class_axis(output: Tensor) -> int:
    """Classes are last in (N, C) and (N, T, C), and second in (N, C, H, W)."""
    return 1 if output.ndim > 3 else output.ndim - 1


def _floats(outputs: Outputs, targets: Outputs) -> Iterator[tuple[Tensor, Tensor]]:
    for output, target in zip(outputs, targets, strict=True):
        if output.is_floating_point():
            yield output, target


def _decibels(power: float, error: float) -> float:
    return 10 * math.log10(power / error) if power and error else 0.0
