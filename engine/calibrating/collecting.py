"""Runs a network on samples of the task and measures what methods ask for."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from featherweight.engine.calibrating.gradients import GradientSums
from featherweight.engine.calibrating.jacobians import JacobianRows
from featherweight.engine.calibrating.moments import MomentSums
from featherweight.engine.datasets.samples import Inputs
from featherweight.engine.evidence import Evidence, Found, Need
from featherweight.engine.inspecting.calls import evaluating
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network
from featherweight.engine.task import Outputs, Task

SEED = 20260101
LARGEST_BATCH = 64
ELEMENTS_OF_A_BATCH = 1 << 21
MOMENTS_STAGE = "Measuring the inputs of layers"
GRADIENTS_STAGE = "Measuring the gradients of layers"


@dataclass(frozen=True)
class Collector:
    """Measures on the first `samples` of the task's recovery data, always in the same order.

    All together are one step of the job, or with `by_batch` as many as there are batches.
    """

    task: Task
    samples: int
    job: Job
    by_batch: bool = False

    @property
    def steps(self) -> int:
        """The steps of the job that one collection takes."""
        return sum(1 for _ in self._ranges()) if self.by_batch else 1

    def collect(self, network: Network, wanted: Mapping[str, frozenset[Need]]) -> Found:
        """Return the evidence of each wanted layer's weight; nothing where nothing can be told.

        Raises CancelledError, and UserError where the data cannot be read.
        """
        if not any(wanted.values()):
            return {}
        moments = frozenset(name for name, needs in wanted.items() if "moments" in needs)
        gradients = frozenset(name for name, needs in wanted.items() if "gradients" in needs)
        sums = MomentSums(network, moments, self._count)
        squares = GradientSums(network, gradients)
        joint = frozenset(name for name, needs in wanted.items() if "jacobian" in needs)
        jacobian = JacobianRows(network, joint)
        stage = MOMENTS_STAGE if moments else GRADIENTS_STAGE
        with closing(sums), closing(squares), evaluating(network.module):
            for inputs, targets in self._batches():
                self.job.check()
                with torch.set_grad_enabled(bool(gradients or joint)):
                    outputs = self.task.outputs_of(network.outputs, inputs)
                if joint:
                    classes = self.task.kind == "classification"
                    jacobian.add(outputs[0], classes, self.job.check)
                if gradients:
                    self._loss(outputs, targets).backward()
                    network.module.zero_grad(set_to_none=True)
                    samples = len(inputs[0])
                    squares.add(samples, self.task.fixed_batch or samples, self.job.check)
                if self.by_batch:
                    self.job.advance(stage)
        if not self.by_batch:
            self.job.advance(stage)
        second, first, rows = sums.found(), squares.found(), jacobian.found()
        return {
            name: {"weight": Evidence(second.get(name), first.get(name), rows.get(name))}
            for name in wanted
            if name in second or name in first or name in rows
        }

    @property
    def _count(self) -> int:
        return min(self.samples, len(self.task.recovery))

    def _ranges(self) -> Iterator[range]:
        return self.task.ranges(self._count, LARGEST_BATCH, ELEMENTS_OF_A_BATCH)

    def _batches(self) -> Iterator[tuple[Inputs, Outputs]]:
        for indices in self._ranges():
            yield self.task.batch(self.task.recovery, indices)

    def _loss(self, outputs: Outputs, targets: Outputs) -> Tensor:
        """Return the sum of the samples' losses.

        Against a network's own outputs the loss is flat; random signs on the outputs give the
        Gauss-Newton curvature of the squared error instead (Hutchinson 1990).
        """
        if self.task.kind == "classification":
            return self.task.loss(outputs, targets) * len(targets[0])
        generator = torch.Generator().manual_seed(SEED)
        signs = [torch.randint(0, 2, output.shape, generator=generator) for output in outputs]
        parts = [
            (output * (2 * sign - 1)).sum()
            for output, sign in zip(outputs, signs, strict=True)
            if output.is_floating_point()
        ]
        return torch.stack(parts).sum()
