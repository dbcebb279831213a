"""Whole networks made by recipes, compared with the source on samples."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from featherweight.engine.allocating.true_networks import Truth
from featherweight.engine.applicability import chosen_methods
from featherweight.engine.atlas.changes import compressed
from featherweight.engine.atlas.damage import NOT_FINITE, Meter, Sums, sample_order
from featherweight.engine.compression import codings, halve_biases
from featherweight.engine.datasets.samples import Samples
from featherweight.engine.errors import UserError
from featherweight.engine.inspecting.coupling import Coupling
from featherweight.engine.jobs import Job
from featherweight.engine.network import Inputs, Network
from featherweight.engine.readings import Spread
from featherweight.engine.recipe import Recipe
from featherweight.engine.settled_norms import settle_norms
from featherweight.engine.task import Outputs, Task, evaluating
from featherweight.engine.weight_forms import settle
from featherweight.engine.writing.archive import write_archive

# What the source gives is kept up to so many numbers, 64 MB.
KEPT = 1 << 24


class Comparison:
    """Compares with the source on `samples`, of which up to so many are taken, evenly spaced."""

    def __init__(self, network: Network, coupling: Coupling, task: Task, samples: Samples) -> None:
        self._network, self._coupling, self._task = network, coupling, task
        self._samples = samples
        self._order = sample_order(len(samples))
        self._meter = Meter(task)
        self._source: dict[tuple[int, int], Outputs] = {}
        self._held = 0
        self._newest: tuple[Recipe, Network] | None = None

    def truth(self, recipe: Recipe, count: int, job: Job) -> Truth:
        """Compress by a recipe, without recovery, and return what that loses on so many samples.

        Raises UserError where the recipe cannot be carried out or outputs are not finite,
        CancelledError.
        """
        total = Sums()
        with evaluating(self._made(recipe, job)) as run:
            for at, inputs, labels in self._batches(count):
                job.check()
                outputs = self._task.outputs_of(run, inputs)
                total = total.plus(
                    self._meter.sums(self._source_outputs(at, inputs), outputs, labels)
                )
        if not total.finite:
            raise UserError(NOT_FINITE, "Choose milder methods for its layers.")
        losses = self._meter.losses(total)
        return Truth(losses.damage, losses.metric or Spread(0.0, 0.0))

    def most(self, count: int, job: Job) -> float:
        """Return by how many points the metric can fall: down to chance. Raises CancelledError."""
        right = samples = 0
        for at, inputs, labels in self._batches(count):
            job.check()
            source = self._source_outputs(at, inputs)
            right, samples = right + self._meter.right(source, labels), samples + len(source[0])
        return 100 * max(right / max(samples, 1) - self._meter.chance, 0.0)

    def file_bytes(self, recipe: Recipe, job: Job) -> int:
        """Return the size of the archive that a recipe gives without recovery.

        Raises UserError where the recipe cannot be carried out or no archive holds the network,
        CancelledError.
        """
        made = self._made(recipe, job)
        chosen = chosen_methods(self._network, self._coupling, recipe, job.check)
        halve_biases(made, chosen)
        settle(made)
        if recipe.side_bits == 16:
            settle_norms(made, chosen)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.fwz"
            return write_archive(made, codings(made, chosen), path).bytes

    def _made(self, recipe: Recipe, job: Job) -> Network:
        # A network is often asked for what it loses and for how large its file is.
        if self._newest is None or self._newest[0] != recipe:
            made = compressed(self._network, self._coupling, recipe, self._task, job)
            self._newest = recipe, made
        return self._newest[1]

    def _batches(self, count: int) -> Iterator[tuple[tuple[int, int], Inputs, Tensor | None]]:
        indices = sorted(self._order[:count])
        for positions in self._task.ranges(len(indices)):
            inputs, labels = self._samples.batch([indices[at] for at in positions])
            yield (len(indices), positions.start), inputs, labels

    def _source_outputs(self, place: tuple[int, int], inputs: Inputs) -> Outputs:
        if place not in self._source:
            with evaluating(self._network) as run:
                outputs = self._task.outputs_of(run, inputs)
            size = sum(value.numel() for value in outputs)
            if self._held + size > KEPT:
                return outputs
            self._held += size
            self._source[place] = outputs
        return self._source[place]
