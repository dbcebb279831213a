"""One open network with its data, on which recipes are run and compared pair by pair."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from featherweight.engine.events import Source, TaskSource
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network
from featherweight.engine.reading.archive import read_result
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recipe import Choice, Recipe
from featherweight.engine.recovering.controls import without_compression
from featherweight.engine.results import Export, Result
from featherweight.engine.session import Session
from featherweight.engine.task import Run, read_task
from featherweight.engine.trainings import FineTuning

Right = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Measured:
    """A measured figure with its standard error, where it has one."""

    value: float
    error: float | None = None


@dataclass(frozen=True)
class Trial:
    """What is done to a network: a recipe, of which the name is no part."""

    layers: Mapping[str, Choice] = field(default_factory=dict)
    recovery: FineTuning | None = None
    calibration: int = 4096

    @property
    def recipe(self) -> Recipe:
        """The recipe."""
        return Recipe(
            layers=dict(self.layers), recovery=self.recovery, calibration=self.calibration
        )


class Bench:
    """A network and its data. Trials run in the session that the window uses too.

    The dense network that had the same extra training, by labels alone, is the control of a trial
    that trains.
    """

    def __init__(self, source: Source, data: TaskSource, folder: Path) -> None:
        self.session = Session()
        self.session.open(source)
        self.session.set_task(data)
        self.folder = folder
        self.network = read_network(source)
        self.task = read_task(data, self.network)
        self._controls: dict[FineTuning | None, Right] = {}

    def compress(self, trial: Trial) -> Result:
        """Run a trial and write its archive."""
        return self.session.compress(trial.recipe, "row", str(self.folder), Job())

    def in_passes(self, trials: Sequence[Trial]) -> Result:
        """Run trials one after the other, each on the result of the one before."""
        result = self.compress(trials[0])
        for trial in trials[1:]:
            session = Session()
            session.open(Source(path=str(self.folder / result.archive)))
            session.set_task(self.task.source)
            result = session.compress(trial.recipe, "row", str(self.folder), Job())
        return result

    def result(self, result: Result) -> Network:
        """Return what an archive holds."""
        return read_result(self.folder / result.archive, self.network)

    def right(self, network: Network | Run) -> Right:
        """Say of every measured sample whether a network gives its label."""
        count = len(self.task.measure)
        _, labels = self.task.measure.batch(range(count))
        if labels is None:
            raise ValueError(f"{self.task.source.data} has no labels")
        found: Right = self.task.labels(network) == labels.numpy()
        return found

    def control(self, recovery: FineTuning | None) -> Right:
        """Return what the dense network gets right after as much extra training by labels."""
        if recovery:
            recovery = without_compression(recovery)
        if recovery not in self._controls:
            network = self.network
            if recovery:
                network = self.result(self.compress(Trial(recovery=recovery)))
            self._controls[recovery] = self.right(network)
        return self._controls[recovery]

    def export(self, result: Result) -> Export:
        """Export a result as ONNX and check the file."""
        path = str(self.folder / f"{result.identity}.onnx")
        return self.session.export(str(self.folder / result.archive), "onnx", path, Job())

    def cosine(self, network: Network) -> Measured:
        """Return the mean cosine of a network's outputs with the original's, with its error."""
        cosines = []
        with torch.no_grad():
            for inputs in self.task.measured_inputs(len(self.task.measure)):
                pair = self.network.outputs(*inputs)[0], network.outputs(*inputs)[0]
                cosines.append(functional.cosine_similarity(*pair, dim=1))
        every = torch.cat(cosines)
        return Measured(float(every.mean()), float(every.std()) / math.sqrt(len(every)))


def difference(first: Right, second: Right) -> Measured:
    """Return by how many points `first` gets more right: a paired comparison, as McNemar's.

    Its error is that of the mean of the differences, which samples that both get right or both
    get wrong do not raise.
    """
    pairs = first.astype(np.float64) - second
    return Measured(100 * float(pairs.mean()), 100 * float(pairs.std()) / math.sqrt(len(pairs)))


def share_wrong(right: Right) -> Measured:
    """Return the share of samples, in %, that are wrong."""
    wrong = 1 - float(right.mean())
    return Measured(100 * wrong, 100 * math.sqrt(wrong * (1 - wrong) / len(right)))
