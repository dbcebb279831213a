"""Whole networks made by recipes, compared with the source on samples."""

from featherweight.engine.allocating.true_networks import Truth
from featherweight.engine.atlas.changes import compressed
from featherweight.engine.atlas.damage import NOT_FINITE, Meter, Sums, sample_order
from featherweight.engine.datasets.samples import Samples
from featherweight.engine.errors import UserError
from featherweight.engine.inspecting.coupling import Coupling
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network
from featherweight.engine.readings import Spread
from featherweight.engine.recipe import Recipe
from featherweight.engine.task import Outputs, Task, evaluating

# What the source gives is kept up to so many numbers, 64 MB.
KEPT = 1 << 24


class Comparison:
    """Compares with the source on up to `count` samples, evenly spaced over `samples`."""

    def __init__(
        self, network: Network, coupling: Coupling, task: Task, samples: Samples, count: int
    ) -> None:
        self._network, self._coupling, self._task = network, coupling, task
        self._samples = samples
        self._indices = sorted(sample_order(len(samples))[:count])
        self._meter = Meter(task)
        self._source: dict[int, Outputs] = {}

    def truth(self, recipe: Recipe, job: Job) -> Truth:
        """Compress by a recipe, without recovery, and return what that loses.

        Raises UserError where the recipe cannot be carried out or outputs are not finite,
        CancelledError.
        """
        made = compressed(self._network, self._coupling, recipe, self._task, job)
        total = Sums()
        with evaluating(made) as run:
            for positions in self._task.ranges(len(self._indices)):
                job.check()
                inputs, labels = self._samples.batch([self._indices[at] for at in positions])
                outputs = self._task.outputs_of(run, inputs)
                source = self._source_outputs(positions.start, inputs)
                total = total.plus(self._meter.sums(source, outputs, labels))
        if not total.finite:
            raise UserError(NOT_FINITE, "Choose milder methods for its layers.")
        losses = self._meter.losses(total)
        return Truth(losses.damage, losses.metric or Spread(0.0, 0.0))

    def _source_outputs(self, place: int, inputs: Outputs) -> Outputs:
        if place not in self._source:
            with evaluating(self._network) as run:
                outputs = self._task.outputs_of(run, inputs)
            held = sum(value.numel() for kept in self._source.values() for value in kept)
            if held > KEPT:
                return outputs
            self._source[place] = outputs
        return self._source[place]
