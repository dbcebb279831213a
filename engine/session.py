"""The one façade of the engine: open, inspect, predict, compress, export.

The window's process, the command line and a script all use a Session, so a recipe gives the same
bytes whoever runs it.
"""

import dataclasses
import datetime
import hashlib
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import msgspec

from featherweight.engine.applicability import (
    Chosen,
    check_trainable,
    chosen_methods,
    locks,
)
from featherweight.engine.archive_export import export_archive
from featherweight.engine.atlas.sensitivity import SensitivityReport, estimate, samples_digest
from featherweight.engine.atlas.strength import Data, StrengthTracer, Tell
from featherweight.engine.calibrating.collecting import Collector
from featherweight.engine.compression import codings, constrain, passes, restructured
from featherweight.engine.errors import UserError
from featherweight.engine.events import (
    ExportFormat,
    IntegerOptions,
    Source,
    TaskSource,
    TaskSummary,
)
from featherweight.engine.figures import Figure
from featherweight.engine.inspecting.coupling import Coupling, analyse
from featherweight.engine.inspecting.graph_outline import outline
from featherweight.engine.inspecting.latency import LatencyReport, measure
from featherweight.engine.inspecting.statistics import details
from featherweight.engine.inspecting.survey import FUNCTIONS_LOCK, survey
from featherweight.engine.jobs import Check, Job, unchecked
from featherweight.engine.layer import LayerDetails, NetworkSummary
from featherweight.engine.methods.precision.integer import Integer
from featherweight.engine.methods.registry import methods
from featherweight.engine.network import Network, fingerprint
from featherweight.engine.options import MethodDescription, Slot
from featherweight.engine.prediction import Predictor, cost_of
from featherweight.engine.reading.archive import read_result
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recipe import Recipe, recipe_to_yaml
from featherweight.engine.recovering.fine_tuning import fine_tune, steps_of
from featherweight.engine.recovering.gradual import at_once, soften
from featherweight.engine.results import Cost, Export, Measures, Prediction, Result
from featherweight.engine.task import Task, read_task
from featherweight.engine.weight_forms import CompactLayer, densified, settle
from featherweight.engine.writing.archive import storable_graph, write_archive
from featherweight.engine.writing.exported_program import write_exported_program
from featherweight.engine.writing.files import check_target, make_folder
from featherweight.engine.writing.onnx import write_onnx
from featherweight.engine.writing.onnx_half import write_half_onnx
from featherweight.engine.writing.onnx_opaque import write_opaque_onnx
from featherweight.engine.writing.safetensors import write_safetensors
from featherweight.engine.writing.state_dict import write_state_dict

FIXED_STEPS = 4
INTEGERS = IntegerOptions()
# Sensitivity is told of what is strong enough to tell layers apart and small enough for a proxy.
SENSITIVE_TO = Integer(bits=4)
UNPACKED = (
    "Its weights were stored in few bits and are float32 here: choose a precision again for layers "
    "that you compress further."
)


class Session:
    """One open network with its task. What takes long takes a Job and can be cancelled."""

    def __init__(self) -> None:
        self._open: _Open | None = None
        self._sensitivities: dict[str, SensitivityReport] = {}
        self._errors: dict[bytes, float] = {}

    @staticmethod
    def methods() -> tuple[MethodDescription, ...]:
        """Return the description of every method."""
        return tuple(kind.description() for kind in methods().values())

    def open(self, source: Source) -> NetworkSummary:
        """Read a network and look at it; a file that cannot be read leaves what is open.

        Raises UserError, and TrustNeededError where the file needs code that is not allowed.
        """
        self._open = _Open(read_network(source), self._errors)
        return self._open.summary

    @property
    def summary(self) -> NetworkSummary:
        """The open network as plain data. Raises UserError where none is open."""
        return self._opened.summary

    def set_task(self, source: TaskSource) -> TaskSummary:
        """Read the task's data. Raises UserError or TrustNeededError."""
        opened = self._opened
        opened.task, opened.quality = read_task(source, opened.network), {}
        opened.add_sensitivity({}, {})
        return opened.task.summary()

    def measure_latency(self, job: Job) -> LatencyReport:
        """Time every layer of the open network on its example; the summary carries it then."""
        # Timing hooks the modules, and questions may be asked of the network at the same time.
        opened = self._opened
        report = measure(opened.network.shell(), job)
        opened.add_latency(report)
        return report

    def estimate_sensitivity(self, job: Job) -> SensitivityReport:
        """Estimate on the task how much the loss rises with each layer alone in 4-bit integers.

        The summary carries it then. The same network with the same data is not asked again.
        Raises UserError where there is no task, or the network gives no gradients; CancelledError.
        """
        opened = self._opened
        if opened.task is None:
            raise UserError(
                "The sensitivity of layers is estimated on data, and none was chosen.",
                "Choose it with --data.",
            )
        asked = f"{opened.fingerprint} {samples_digest(opened.task)}"
        if asked not in self._sensitivities:
            # Hooks go on the modules, and questions may be asked of the network at the same time.
            shell = opened.network.shell()
            self._sensitivities[asked] = estimate(shell, opened.task, SENSITIVE_TO, job)
        report = self._sensitivities[asked]
        opened.add_sensitivity(report.layers, report.reasons)
        return report

    def details(self, layer: str) -> LayerDetails:
        """Return statistics, histogram and spectrum of a layer. Raises UserError if unknown."""
        network = self._opened.network
        if layer not in dict(network.layers()):
            raise UserError(f"The network has no layer {layer} with weights.")
        return details(network, layer)

    def predict(self, recipe: Recipe, layers: tuple[str, ...] = ()) -> Prediction:
        """Return what a recipe would give; `layers` limits the per-layer part, empty for all."""
        # Another network may be opened meanwhile: everything is asked of the same one.
        opened = self._opened
        prediction = opened.predictor.predict(recipe, opened.chosen(recipe))
        if not layers:
            return prediction
        shown = {name: prediction.layers[name] for name in layers if name in prediction.layers}
        return msgspec.structs.replace(prediction, layers=shown)

    def trace_strength(
        self, recipe: Recipe, layers: tuple[str, ...], slot: Slot, job: Job, tell: Tell
    ) -> None:
        """Tell how far off layers are with their choices, as the strength in a slot moves.

        `tell` gets what is known so far of each layer, again and again; see StrengthTracer. With a
        task the errors are of outputs on its data. Layers are left out that the network lacks, or
        whose choice is empty. Raises UserError, CancelledError.
        """
        opened = self._opened
        names = tuple(name for name in layers if not recipe.choice(name).empty)
        opened.tracer.trace(recipe, names, slot, opened.data, job, tell)

    def compress(self, recipe: Recipe, name: str, folder: str, job: Job) -> Result:
        """Run a recipe on the open network and write the result's archive into `folder`.

        The same recipe on the same network and task in the same folder goes on from its last
        checkpoint where it was cancelled or killed. Raises UserError, CancelledError.
        """
        check_trainable(self._opened.network, recipe)
        opened, chosen = self._opened, self._opened.chosen(recipe, job.check)
        task, place, identity = opened.any_task(), Path(folder), opened.identity(recipe)
        predicted = opened.predictor.predict(recipe, chosen).after
        make_folder(place)
        archive, checkpoints = place / f"{identity}.fwz", place / f"{identity}.checkpoint"
        storable_graph(opened.network, archive)
        training = steps_of(recipe.recovery, task) if recipe.recovery else 0
        first = at_once(chosen, recipe.recovery)
        job.begin(FIXED_STEPS + passes(first) + training)
        before = opened.measures(job)
        job.advance("Measuring the original")
        collect = Collector(task, recipe.calibration, job).collect
        made = restructured(opened.network, opened.coupling, chosen, job.check, collect)
        constrain(made, first, job.check, collect)
        soften(made, chosen, recipe.recovery)
        job.advance("Compressing the layers")
        curve: tuple[tuple[int, float, float], ...] = ()
        if recipe.recovery and recipe.recovery.acts:
            trained = fine_tune(made, task, recipe.recovery, recipe.seed, checkpoints, job)
            curve = tuple(trained)
        settle(made)
        quality = task.evaluate(made, job.check)
        job.advance("Measuring the result")
        ledger = write_archive(made, codings(made, chosen), archive)
        shutil.rmtree(checkpoints, ignore_errors=True)
        job.advance("Writing the archive")
        return Result(
            identity=identity,
            name=name,
            parent="",
            recipe=recipe,
            archive=archive.name,
            before=before,
            after=_measures(quality, cost_of(densified(made)), ledger.bytes),
            predicted=predicted,
            ledger=ledger,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            curve=curve,
        )

    def export(
        self,
        archive: str,
        form: ExportFormat,
        path: str,
        job: Job,
        integers: IntegerOptions = INTEGERS,
    ) -> Export:
        """Write a result, or the open network where `archive` is empty, and check what was written.

        `integers` say how ONNX files compute 8-bit layers.

        Raises UserError where the form cannot hold the network, the check fails, or `path` is the
        network's own file or the task's; then `path` is left as it was.
        """
        opened, target = self._opened, Path(path)
        check_target(target, (archive, *opened.read_from))
        network = read_result(Path(archive), opened.network) if archive else opened.stored
        if network.graph_lock and form not in opened.summary.forms:
            other = "ONNX, " if "onnx" in opened.summary.forms else ""
            raise UserError(
                f"{target} cannot hold the network: {network.graph_lock}.",
                f"Export {other}the archive, or its weights as safetensors.",
            )
        if form == "onnx" and network.graph_lock:
            return write_opaque_onnx(network, target, opened.task, opened.network, job)
        if form == "onnx":
            return write_onnx(network, target, opened.task, opened.network, job, integers)
        if form == "onnx16":
            return write_half_onnx(network, target, opened.task, opened.network, job)
        if form == "safetensors" and network.graph_lock:
            return write_state_dict(network, target, job)
        if form == "safetensors":
            return write_safetensors(network, target, job)
        if form == "pt2":
            return write_exported_program(network, target, job)
        return export_archive(network, archive, target, job)

    @property
    def _opened(self) -> "_Open":
        if self._open is None:
            raise UserError("No network is open.", "Open one first.")
        return self._open


class _Open:
    """The open network and what is known of it.

    `stored` is as it was read; `network` has its weights unpacked, for looking and compressing.
    """

    def __init__(self, stored: Network, errors: dict[bytes, float]) -> None:
        self.stored = stored
        self.network = network = _unpacked(stored)
        self.coupling = analyse(network)
        self.predictor = Predictor(network, self.coupling)
        self.task: Task | None = None
        self._data: Data | None = None
        self.quality: dict[str, Figure] = {}
        summary = _with_coupling(survey(network), network, self.coupling)
        nodes, edges = outline(network, {layer.name for layer in summary.layers})
        self.summary = msgspec.structs.replace(summary, nodes=nodes, edges=edges)
        shapes = {layer.name: layer.input_shape for layer in summary.layers}
        self.tracer = StrengthTracer(network, self.coupling, shapes, errors)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of all weights."""
        return fingerprint(self.network)

    @property
    def data(self) -> Data | None:
        """The task's data, None without a task."""
        task = self.task
        if task is None:
            return None
        if self._data is None or self._data.task is not task:
            self._data = Data(task, samples_digest(task))
        return self._data

    def chosen(self, recipe: Recipe, check: Check = unchecked) -> dict[str, Chosen]:
        return chosen_methods(self.network, self.coupling, recipe, check)

    def any_task(self) -> Task:
        """The task; without data, fidelity to the network itself on random inputs."""
        if self.task is None:
            self.task = read_task(TaskSource(kind="fidelity"), self.network)
        return self.task

    def identity(self, recipe: Recipe) -> str:
        """Tell this run from every other: network, recipe and task."""
        task = self.any_task()
        data = str(Path(task.source.data).resolve()) if task.source.data else ""
        text = "\n".join((self.fingerprint, recipe_to_yaml(recipe), task.kind, data))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def read_from(self) -> tuple[str, ...]:
        """The files that hold the person's network and data."""
        return self.summary.path, self.task.source.data if self.task else ""

    def measures(self, job: Job) -> Measures:
        """Measure the network as it is, once for a task."""
        if not self.quality:
            self.quality = self.any_task().evaluate(self.network, job.check)
        return _measures(self.quality, self.predictor.before, self.summary.file_bytes)

    def add_latency(self, report: LatencyReport) -> None:
        layers = tuple(
            msgspec.structs.replace(
                layer, latency=report.layers.get(layer.name), share=report.shares.get(layer.name)
            )
            for layer in self.summary.layers
        )
        self.summary = msgspec.structs.replace(self.summary, layers=layers)

    def add_sensitivity(self, layers: Mapping[str, Figure], reasons: Mapping[str, str]) -> None:
        known = tuple(
            msgspec.structs.replace(
                layer,
                sensitivity=layers.get(layer.name),
                sensitivity_lock=reasons.get(layer.name, ""),
            )
            for layer in self.summary.layers
        )
        self.summary = msgspec.structs.replace(self.summary, layers=known)


def _unpacked(stored: Network) -> Network:
    if not any(isinstance(layer, CompactLayer) for _, layer in stored.layers()):
        return stored
    unpacked = densified(stored)
    return dataclasses.replace(unpacked, notes=(*stored.notes, UNPACKED))


def _with_coupling(summary: NetworkSummary, network: Network, coupling: Coupling) -> NetworkSummary:
    locked = locks(network, coupling)
    everything = dict.fromkeys(methods(), FUNCTIONS_LOCK)
    layers = tuple(
        msgspec.structs.replace(
            layer,
            coupled=coupling.coupled(layer.name) if layer.name in locked else (),
            locks=locked.get(layer.name, everything),
        )
        for layer in summary.layers
    )
    return msgspec.structs.replace(summary, layers=layers)


def _measures(quality: Mapping[str, Figure], cost: Cost, file_bytes: int) -> Measures:
    figures = {
        **quality,
        "parameters": Figure(cost.parameters, "", "measured"),
        "macs": Figure(cost.macs, "MACs", "measured"),
        "bytes": Figure(file_bytes, "B", "measured"),
    }
    return Measures(figures=figures)
