"""The one façade of the engine: open, inspect, predict, compress, export.

The window's process, the command line and a script all use a Session, so a recipe gives the same
bytes whoever runs it.
"""

from pathlib import Path

import msgspec

from featherweight.engine.allocating.kept_plan import keep_plan, kept_plan
from featherweight.engine.archive_export import export_archive
from featherweight.engine.atlas.sensitivity import SensitivityReport, estimate, samples_digest
from featherweight.engine.atlas.strength import Tell
from featherweight.engine.atlas.sweep import Tell as TellReadings
from featherweight.engine.compressing import run_recipe, try_rates
from featherweight.engine.datasets.pictures import Gallery
from featherweight.engine.errors import UserError
from featherweight.engine.events import (
    ExportFormat,
    IntegerOptions,
    Source,
    TaskSource,
    TaskSummary,
)
from featherweight.engine.inspecting.flips import FlipReport, find_flips
from featherweight.engine.inspecting.latency import LatencyReport, measure
from featherweight.engine.inspecting.statistics import details
from featherweight.engine.jobs import Job
from featherweight.engine.layer import LayerDetails, NetworkSummary
from featherweight.engine.methods.precision.integer import Integer
from featherweight.engine.methods.registry import methods
from featherweight.engine.opened_network import OpenedNetwork
from featherweight.engine.options import MethodDescription, Slot
from featherweight.engine.reading.archive import read_result
from featherweight.engine.reading.formats import read_network
from featherweight.engine.readings import (
    Allocation,
    AllocationRules,
    Frontier,
    Guilt,
    Limits,
    RecipeLoss,
    Resource,
    SweepEstimate,
    SweepPlan,
    SweepSummary,
)
from featherweight.engine.recipe import Recipe
from featherweight.engine.results import Cost, Export, Picture, Prediction, Result
from featherweight.engine.task import read_task
from featherweight.engine.writing.exported_program import write_exported_program
from featherweight.engine.writing.files import check_target
from featherweight.engine.writing.onnx import write_onnx
from featherweight.engine.writing.onnx_half import write_half_onnx
from featherweight.engine.writing.onnx_opaque import write_opaque_onnx
from featherweight.engine.writing.safetensors import write_safetensors
from featherweight.engine.writing.state_dict import write_state_dict

FIXED_STEPS = 4
INTEGERS = IntegerOptions()
RULES = AllocationRules()
NO_JOB = Job()
# Sensitivity is told of what is strong enough to tell layers apart and small enough for a proxy.
SENSITIVE_TO = Integer(bits=4)


class Session:
    """One open network with its task. What takes long takes a Job and can be cancelled."""

    def __init__(self) -> None:
        self._open: OpenedNetwork | None = None
        self._sensitivities: dict[str, SensitivityReport] = {}
        self._errors: dict[bytes, float] = {}
        self._gallery: Gallery | None = None

    @staticmethod
    def methods() -> tuple[MethodDescription, ...]:
        """Return the description of every method."""
        return tuple(kind.description() for kind in methods().values())

    def open(self, source: Source) -> NetworkSummary:
        """Read a network and look at it; a file that cannot be read leaves what is open.

        Raises UserError, and TrustNeededError where the file needs code that is not allowed.
        """
        self._open = OpenedNetwork(read_network(source), self._errors)
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

    def plan_sweep(
        self, plan: SweepPlan | None = None, store: str = ""
    ) -> tuple[SweepPlan, SweepEstimate]:
        """Return a plan, without one a sensible one, and what it takes beside what a store has.

        Without a store that of the newest sweep counts. Raises UserError where the plan names what
        is not there.
        """
        atlas = self._opened.atlas
        plan = atlas.plan() if plan is None else plan
        return plan, atlas.estimate(plan, store)

    def sweep(self, plan: SweepPlan, store: str, job: Job, tell: TellReadings) -> SweepSummary:
        """Read what layers lose by the choices of a plan, what the folder `store` lacks of it.

        `tell` gets readings at most 20 times a second: what is known, estimates, then what is
        measured. In the end choices of several slots are read where an allocation would take them,
        and a few whole networks are tried, to learn how the metric falls with the damage.

        Raises UserError, CancelledError.
        """
        opened = self._opened
        keep_plan(self._kept(store, "plan"), plan)
        summary = opened.atlas.sweep(plan, store, job, tell)
        if plan.latency:
            opened.desk.time_layers(Path(store), bool(opened.any_task().source.data), job.check)
        opened.atlas.sweep_more(opened.desk.combinations(job.check), plan, job, tell)
        if summary.metric:
            opened.desk.calibrate(self._kept(store, "networks"), job)
        return summary

    def recall_sweep(self, store: str, job: Job) -> None:
        """Take up what sweeps have read into a folder; what is missing of their plan is read.

        Raises UserError without any, CancelledError.
        """
        plan = kept_plan(self._kept(store, "plan"))
        if plan is None:
            raise UserError(
                f"{store} has no readings of this network on this data.", "Run `sweep` first."
            )
        self.sweep(plan, store, job, lambda _: None)

    @property
    def cost(self) -> Cost:
        """What the open network costs. Raises UserError where none is open."""
        return self._opened.predictor.before

    @property
    def latency(self) -> float:
        """Milliseconds of all layers; zero while no sweep has timed them."""
        return self._opened.desk.latency

    def allocate(
        self,
        limits: Limits,
        rules: AllocationRules = RULES,
        least: Resource = "bits",
        job: Job = NO_JOB,
    ) -> Allocation:
        """Return the best choices within limits, by the readings that there are.

        Raises UserError where nothing was read, or no choice keeps the limits; CancelledError.
        """
        return self._opened.desk.allocate(limits, rules, least, job)

    def frontier(
        self, resource: Resource, rules: AllocationRules = RULES, job: Job = NO_JOB
    ) -> Frontier:
        """Return the least damage for every budget.

        Raises UserError where nothing was read or timed, CancelledError.
        """
        return self._opened.desk.frontier(resource, rules, job)

    def predict_loss(self, recipe: Recipe, job: Job = NO_JOB) -> RecipeLoss:
        """Return what a recipe is predicted to lose, by the readings that there are.

        Raises UserError where nothing was read, CancelledError.
        """
        return self._opened.desk.loss(recipe, job)

    def refine_allocation(
        self, limits: Limits, rules: AllocationRules, job: Job, least: Resource = "bits"
    ) -> Allocation:
        """Correct an allocation with the real network. Raises UserError, CancelledError."""
        return self._opened.desk.refine(limits, rules, least, job)

    def find_guilty(self, recipe: Recipe, job: Job) -> tuple[Guilt, ...]:
        """Name the layers that lose more than predicted. Raises UserError, CancelledError."""
        return self._opened.desk.blame(recipe, job)

    def compress(self, recipe: Recipe, name: str, folder: str, job: Job) -> Result:
        """Run a recipe on the open network and write the result's archive into `folder`.

        The same recipe on the same network and task in the same folder goes on from its last
        checkpoint where it was cancelled or killed. Raises UserError, CancelledError.
        """
        return run_recipe(self._opened, recipe, name, Path(folder), job)

    def find_learning_rate(
        self, recipe: Recipe, job: Job
    ) -> tuple[list[tuple[float, float]], float]:
        """Return (rate, loss) at rising learning rates, and the rate that they speak for.

        They are tried on the network as the recipe compresses it, for at most 100 steps; nothing
        is kept of them. Raises UserError where the recipe has no recovery, CancelledError.
        """
        return try_rates(self._opened, recipe, job)

    def find_flips(self, after: str, before: str, job: Job) -> FlipReport:
        """Compare the classes of two results, sample by sample of those to measure on.

        Both are archives of results of the open network, which an empty path stands for. Raises
        UserError where its outputs are no classes, CancelledError.
        """
        opened = self._opened
        first, second = (
            read_result(Path(archive), opened.network) if archive else opened.network
            for archive in (before, after)
        )
        return find_flips(opened.any_task(), first, second, job)

    def pictures(self, samples: tuple[int, ...]) -> tuple[Picture, ...]:
        """Return samples to measure on as pictures, none of what is no image; see Gallery.

        Raises UserError for more than 200, or for one that cannot be read.
        """
        measured = self._opened.any_task().measure
        if self._gallery is None or self._gallery.samples is not measured:
            self._gallery = Gallery(measured)
        return self._gallery.pictures(samples)

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

    def _kept(self, store: str, what: str) -> Path:
        """Return where a folder keeps something of this network on this task."""
        return Path(store) / f"{self._opened.identity(Recipe())}.{what}.json"

    @property
    def _opened(self) -> OpenedNetwork:
        if self._open is None:
            raise UserError("No network is open.", "Open one first.")
        return self._open
