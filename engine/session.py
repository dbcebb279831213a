"""The one façade of the engine: open, inspect, predict, compress, export.

The window's process, the command line and a script all use a Session, so a recipe gives the same
bytes whoever runs it.
"""

import datetime
import hashlib
from pathlib import Path
from typing import Literal

import msgspec

from featherweight.engine.applicability import chosen_methods, locks
from featherweight.engine.compression import codings, constrain, restructured
from featherweight.engine.errors import UserError
from featherweight.engine.events import Source, TaskSource, TaskSummary
from featherweight.engine.figures import Figure
from featherweight.engine.inspecting.coupling import Coupling, analyse
from featherweight.engine.inspecting.latency import measure
from featherweight.engine.inspecting.statistics import details
from featherweight.engine.inspecting.survey import survey
from featherweight.engine.jobs import Job
from featherweight.engine.layer import LayerDetails, NetworkSummary
from featherweight.engine.ledger import Ledger
from featherweight.engine.methods.registry import methods
from featherweight.engine.network import Network
from featherweight.engine.options import MethodDescription
from featherweight.engine.prediction import Predictor
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recipe import Recipe, recipe_to_yaml
from featherweight.engine.recovering.fine_tuning import fine_tune, steps_of
from featherweight.engine.results import Cost, Export, Measures, Prediction, Result
from featherweight.engine.task import Task, read_task
from featherweight.engine.weight_forms import settle
from featherweight.engine.writing.archive import write_archive

ExportFormat = Literal["onnx", "pt2", "archive"]
FIXED_STEPS = 4


class Session:
    """One open network with its task. Methods that take long take a Job and can be cancelled."""

    def __init__(self) -> None:
        self._network: Network | None = None
        self._coupling: Coupling | None = None
        self._predictor: Predictor | None = None
        self._summary: NetworkSummary | None = None
        self._task: Task | None = None
        self._before: dict[str, Figure] = {}

    @staticmethod
    def methods() -> tuple[MethodDescription, ...]:
        """Return the description of every method."""
        return tuple(kind.description() for kind in methods().values())

    def open(self, source: Source) -> NetworkSummary:
        """Read a network and look at it. Raises UserError or TrustNeededError."""
        network = read_network(source)
        coupling = analyse(network)
        predictor = Predictor(network, coupling)
        summary = self._summarised(network, coupling, source)
        # Only now, so that a file that cannot be read leaves what is open as it is.
        self._network, self._coupling, self._predictor = network, coupling, predictor
        self._summary, self._task, self._before = summary, None, {}
        return summary

    def set_task(self, source: TaskSource) -> TaskSummary:
        """Read the data of the task. Raises UserError or TrustNeededError."""
        self._task, self._before = read_task(source, self.network), {}
        return self._task.summary

    @property
    def network(self) -> Network:
        """The open network. Raises UserError where none is open."""
        if self._network is None:
            raise UserError("No network is open.", "Open one first.")
        return self._network

    @property
    def task(self) -> Task:
        """The task; without data, fidelity to the open network on random inputs."""
        if self._task is None:
            self._task = read_task(TaskSource(kind="fidelity"), self.network)
        return self._task

    def measure_latency(self, job: Job) -> LatencyReport:
        """Time every layer of the open network on the example inputs."""
        return measure(self.network, job)

    def details(self, layer: str) -> LayerDetails:
        """Return statistics, histogram and spectrum of a layer. Raises UserError if unknown."""
        if layer not in dict(self.network.layers()):
            raise UserError(f"The network has no layer {layer}.")
        return details(self.network, layer)

    def predict(self, recipe: Recipe, layers: tuple[str, ...] = ()) -> Prediction:
        """Return what a recipe would give; `layers` limits the per-layer part, empty for all."""
        predictor, chosen = self._predictor, self._chosen(recipe)
        assert predictor is not None
        prediction = predictor.predict(recipe, chosen)
        if not layers:
            return prediction
        shown = {name: prediction.layers[name] for name in layers if name in prediction.layers}
        return msgspec.structs.replace(prediction, layers=shown)

    def compress(self, recipe: Recipe, name: str, folder: str, job: Job) -> Result:
        """Run a recipe on the open network and write the result's archive into `folder`.

        The same recipe on the same network and task in the same folder goes on from the last
        checkpoint where it was cancelled or killed. Raises UserError, CancelledError.
        """
        chosen = self._chosen(recipe)
        predicted = self.predict(recipe).after
        place, identity = Path(folder), self._identity(recipe)
        place.mkdir(parents=True, exist_ok=True)
        training = steps_of(self.task, recipe.recovery) if recipe.recovery else 0
        job.begin(training + FIXED_STEPS)
        before = self._measured_before(job)
        job.advance("Measuring the original")
        made = restructured(self.network, self._graph_coupling, chosen, job.check)
        constrain(made, chosen, job.check)
        job.advance("Compressing the layers")
        curve: tuple[tuple[int, float, float], ...] = ()
        if recipe.recovery and training:
            checkpoints = place / f"{identity}.checkpoint"
            curve = fine_tune(made, self.task, recipe.recovery, recipe.seed, checkpoints, job)
        settle(made)
        after = self.task.evaluate(made, job.check)
        job.advance("Measuring the result")
        archive = place / f"{identity}.fwz"
        ledger = write_archive(made, codings(made, chosen), archive)
        job.advance("Writing the archive")
        return Result(
            identity=identity,
            name=name,
            parent="",
            recipe=recipe,
            archive=archive.name,
            before=before,
            after=_measures(after, cost_of(made), ledger.bytes),
            predicted=predicted,
            ledger=ledger,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            curve=curve,
        )

    def export(self, archive: str, kind: ExportFormat, path: str, job: Job) -> Export:
        """Write a result, or the open network where `archive` is empty, and check what was written.

        Raises UserError where the form cannot hold the network or the check fails.
        """
        network = read_network(Source(path=archive)) if archive else self.network
        target = Path(path)
        if kind == "onnx":
            return write_onnx(network, target, self._task, self._network, job)
        if kind == "pt2":
            return write_exported_program(network, target, job)
        return write_checked_archive(network, archive, target)

    @property
    def _graph_coupling(self) -> Coupling:
        assert self._coupling is not None
        return self._coupling

    def _chosen(self, recipe: Recipe) -> dict[str, Chosen]:
        return chosen_methods(self.network, self._graph_coupling, recipe)

    def _identity(self, recipe: Recipe) -> str:
        parts = (fingerprint(self.network), recipe_to_yaml(recipe), self.task.fingerprint)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]

    def _measured_before(self, job: Job) -> Measures:
        if not self._before:
            self._before = self.task.evaluate(self.network, job.check)
        assert self._summary is not None
        return _measures(self._before, cost_of(self.network), self._summary.file_bytes)

    @staticmethod
    def _summarised(network: Network, coupling: Coupling, source: Source) -> NetworkSummary:
        summary = survey(network)
        locked = locks(network, coupling)
        layers = tuple(
            msgspec.structs.replace(
                layer,
                coupled=coupling.coupled(layer.name),
                locks=locked.get(layer.name, {}),
            )
            for layer in summary.layers
        )
        return msgspec.structs.replace(summary, layers=layers)


def _measures(quality: dict[str, Figure], cost: Cost, file_bytes: int) -> Measures:
    figures = {
        **quality,
        "parameters": Figure(cost.parameters, "", "measured"),
        "macs": Figure(cost.macs, "MACs", "estimated"),
        "bytes": Figure(file_bytes, "B", "measured"),
    }
    return Measures(figures=figures)
