"""The open network and all that is known of it: what a session asks first."""

import dataclasses
import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import msgspec

from featherweight.engine.allocating.comparing import Comparison
from featherweight.engine.allocating.desk import AllocationDesk
from featherweight.engine.allocating.planner import Planner
from featherweight.engine.applicability import Chosen, chosen_methods, locks
from featherweight.engine.atlas.atlas import Atlas
from featherweight.engine.atlas.sensitivity import samples_digest
from featherweight.engine.atlas.strength import Data, StrengthTracer
from featherweight.engine.events import TaskSource
from featherweight.engine.figures import Figure
from featherweight.engine.inspecting.coupling import Coupling, analyse
from featherweight.engine.inspecting.graph_outline import outline
from featherweight.engine.inspecting.latency import LatencyReport
from featherweight.engine.inspecting.survey import FUNCTIONS_LOCK, survey
from featherweight.engine.jobs import Check, Job, unchecked
from featherweight.engine.layer import NetworkSummary
from featherweight.engine.methods.registry import methods
from featherweight.engine.network import Network, fingerprint
from featherweight.engine.prediction import Predictor
from featherweight.engine.recipe import Recipe, recipe_to_yaml
from featherweight.engine.results import Cost, Measures
from featherweight.engine.task import Task, read_task
from featherweight.engine.weight_forms import CompactLayer, densified

UNPACKED = (
    "Its weights were stored in few bits and are float32 here: choose a precision again for layers "
    "that you compress further."
)


class OpenedNetwork:
    """The open network and what is known of it.

    `stored` is as it was read; `network` has its weights unpacked, for looking and compressing.
    """

    def __init__(self, stored: Network, errors: dict[bytes, float]) -> None:
        """Look at a network; `errors` keeps those that strengths were traced by."""
        self.stored = stored
        self.network = network = _unpacked(stored)
        self.coupling = analyse(network)
        self.predictor = Predictor(network, self.coupling)
        self.task: Task | None = None
        self._data: Data | None = None
        self._atlas: Atlas | None = None
        self._desk: tuple[Atlas, AllocationDesk] | None = None
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

    @property
    def atlas(self) -> Atlas:
        """What was read of its layers on the task, and what reads more."""
        task = self.any_task()
        if self._atlas is None or self._atlas.task is not task:
            self._atlas = Atlas(self.network, self.coupling, self.predictor, task)
        return self._atlas

    @property
    def desk(self) -> AllocationDesk:
        """What makes recipes of the atlas."""
        atlas, network, task = self.atlas, self.network, self.any_task()
        if self._desk is None or self._desk[0] is not atlas:
            planner = Planner(network, self.coupling, self.predictor, self.summary.layers, task)
            desk = AllocationDesk(
                planner,
                lambda: tuple(atlas.readings.values()),
                Comparison(network, self.coupling, task, task.recovery),
                Comparison(network, self.coupling, task, task.measure),
                atlas.meter.metric,
            )
            self._desk = atlas, desk
        return self._desk[1]

    def chosen(self, recipe: Recipe, check: Check = unchecked) -> dict[str, Chosen]:
        """Return the methods of a recipe. Raises UserError where they cannot be carried out."""
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
        return measures_of(self.quality, self.predictor.before, self.summary.file_bytes)

    def add_latency(self, report: LatencyReport) -> None:
        """Let the summary carry measured times."""
        layers = tuple(
            msgspec.structs.replace(
                layer, latency=report.layers.get(layer.name), share=report.shares.get(layer.name)
            )
            for layer in self.summary.layers
        )
        self.summary = msgspec.structs.replace(self.summary, layers=layers)

    def add_sensitivity(self, layers: Mapping[str, Figure], reasons: Mapping[str, str]) -> None:
        """Let the summary carry sensitivities, or none where both are empty."""
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


def measures_of(quality: Mapping[str, Figure], cost: Cost, file_bytes: int) -> Measures:
    """Return the figures of a network: those of its task, its counts and its size."""
    figures = {
        **quality,
        "parameters": Figure(cost.parameters, "", "measured"),
        "macs": Figure(cost.macs, "MACs", "measured"),
        "bytes": Figure(file_bytes, "B", "measured"),
    }
    return Measures(figures=figures)
