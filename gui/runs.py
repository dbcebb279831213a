"""The job that runs: starting, watching, cancelling and resuming it."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
from PySide6.QtCore import QObject, Signal

from featherweight.engine.events import (
    Allocated,
    AnyEvent,
    Cancelled,
    Compressed,
    Exported,
    Failed,
    FlipsFound,
    GuiltyFound,
    IntegerOptions,
    JobStarted,
    LearningRateFound,
    Point,
    Progress,
    ReadingsTaken,
    SensitivityEstimated,
    SweepEnded,
)
from featherweight.engine.readings import AllocationRules, Limits, Resource, SweepPlan
from featherweight.engine.recipe import Recipe
from featherweight.engine.requests import (
    AnyRequest,
    Compress,
    EstimateSensitivity,
    ExportResult,
    FindFlips,
    FindGuilty,
    FindLearningRate,
    RefineAllocation,
    Sweep,
)
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.job import Job, JobKind, JobState
from featherweight.gui.project_file import Unfinished

ExportFormat = Literal["onnx", "onnx16", "pt2", "safetensors", "archive"]


class Runs(QObject):
    """At most one job, and the run that was left unfinished."""

    changed = Signal()
    touched = Signal()  # the project has something new to keep
    point_added = Signal(str, int, float)
    compressed = Signal(object)  # Result
    exported = Signal(object)  # Export
    estimated = Signal(object)  # SensitivityEstimated
    read = Signal(object)  # readings of a sweep
    swept = Signal(object)  # SweepSummary, None where the sweep was stopped before its end
    allocated = Signal(object)  # Allocation that the real network corrected
    blamed = Signal(object)  # layers that lose more than predicted
    rate_found = Signal(object)  # LearningRateFound
    flipped = Signal(object)  # FlipsFound, Failed, None where the comparison was stopped
    discarded = Signal()  # what the unfinished run has done is wanted no more
    noticed = Signal(str, str, str)

    def __init__(self, client: EngineClient, parent: QObject) -> None:
        super().__init__(parent)
        self.job: Job | None = None
        self.unfinished: Unfinished | None = None
        self._client = client

    @property
    def active(self) -> bool:
        """Whether a job is under way."""
        return self.job is not None and self.job.active

    def begin(self, unfinished: Unfinished | None) -> None:
        """Begin with the run that a project left unfinished."""
        self.unfinished = unfinished
        self.job = None
        if unfinished is not None:
            self.job = Job(
                request=0,
                kind="compress",
                name=unfinished.name,
                state="interrupted",
                step=unfinished.step,
                steps=unfinished.steps,
            )

    def compress(self, recipe: Recipe, name: str, folder: Path) -> None:
        """Run a recipe; the same again in the same folder goes on where it was stopped."""
        points = self.job.points if self._resumes(recipe, name) and self.job else {}
        folder.mkdir(parents=True, exist_ok=True)
        request = Compress(id=0, recipe=recipe, name=name, folder=str(folder))
        self.job = Job(
            request=self._client.send(request), kind="compress", name=name, points=points
        )
        self._set_unfinished(Unfinished(name=name, recipe=recipe))
        self.changed.emit()

    def export(
        self, archive: str, form: ExportFormat, path: Path, integers: IntegerOptions
    ) -> None:
        """Write a result to a file; `integers` are for ONNX files with 8-bit layers."""
        request = ExportResult(
            id=0, archive=archive, format=form, path=str(path), integers=integers
        )
        self._start(request, "export", path.name)

    def estimate(self) -> None:
        """Estimate how sensitive the layers are."""
        self._start(EstimateSensitivity(id=0), "sensitivity", "Sensitivity")

    def sweep(self, plan: SweepPlan, store: Path) -> None:
        """Read what is missing of a plan; readings are kept in `store`."""
        store.mkdir(parents=True, exist_ok=True)
        request = self._client.send(Sweep(id=0, plan=plan, store=str(store)))
        self.job = Job(request=request, kind="sweep", name=_sweep_name(plan))
        self.touched.emit()
        self.changed.emit()

    def refine(self, limits: Limits, rules: AllocationRules, least: Resource) -> None:
        """Correct an allocation with the real network."""
        request = RefineAllocation(id=0, limits=limits, rules=rules, least=least)
        self._start(request, "refine", "Refined budget")

    def blame(self, recipe: Recipe) -> None:
        """Name the layers of a recipe that lose more than was predicted."""
        self._start(FindGuilty(id=0, recipe=recipe), "blame", "Layers to blame")

    def find_rate(self, recipe: Recipe) -> None:
        """Try rising learning rates on the network that a recipe makes."""
        self._start(FindLearningRate(id=0, recipe=recipe), "rate", "Learning rates")

    def find_flips(self, before: str, after: str) -> None:
        """Compare the classes of two archives, or of the network where a path is empty."""
        self._start(FindFlips(id=0, after=after, before=before), "flips", "Flipped samples")

    def discard(self, job: Job) -> None:
        """Throw away a run, which is under way or was left unfinished, unless it has ended."""
        if job is not self.job or job.state in ("done", "failed"):
            return
        job.discarded = True
        if job.active:
            self.cancel()
        else:
            self._set_unfinished(None)
            self.discarded.emit()
            self.changed.emit()

    def cancel(self) -> None:
        """Ask the job to stop."""
        if self.job is not None and self.job.state == "running":
            self._set_state("cancelling")
            self._client.cancel(self.job.request)

    def finish(self) -> None:
        """Ask the run's training to end now; its result is of what it has."""
        job = self.job
        if job is not None and job.kind == "compress" and job.state == "running":
            job.finishing = True
            self._client.finish(job.request)
            self.changed.emit()

    def take(self, event: AnyEvent) -> bool:
        """Take an event of the job; False for any other."""
        job = self.job
        if job is None or not job.active or event.id != job.request:
            return False
        match event:
            case JobStarted():
                job.begin(event)
            case Progress():
                job.advance(event)
            case Point(series=series, step=step, value=value) if job.add_point(event):
                self.point_added.emit(series, step, value)
                return True
            case Compressed(result=result):
                self._set_unfinished(None)
                return self._end(self.compressed.emit, result)
            case Exported(export=export):
                return self._end(self.exported.emit, export)
            case SensitivityEstimated():
                return self._end(self.estimated.emit, event)
            case ReadingsTaken(readings=readings):
                self.read.emit(readings)
                return True
            case SweepEnded(summary=summary):
                return self._end(self.swept.emit, summary)
            case Allocated(allocation=allocation):
                return self._end(self.allocated.emit, allocation)
            case GuiltyFound(layers=layers):
                return self._end(self.blamed.emit, layers)
            case LearningRateFound():
                return self._end(self.rate_found.emit, event)
            case FlipsFound():
                return self._end(self.flipped.emit, event)
            case Cancelled(step=step):
                job.step = step
                self._stop("cancelled")
                return True
            case Failed(message=message, hint=hint, details=details):
                self._stop("failed", event)
                self.noticed.emit(message, hint, details)
                return True
        self.changed.emit()
        return True

    def lose_engine(self) -> None:
        """Note that the engine died: the job stands still until it is resumed."""
        if self.job is not None and self.active:
            self._stop("cancelled" if self.job.state == "cancelling" else "interrupted")

    def _start(self, request: AnyRequest, kind: JobKind, name: str) -> None:
        self.job = Job(request=self._client.send(request), kind=kind, name=name)
        self.changed.emit()

    def _end(self, tell: Callable[[object], None], outcome: object) -> bool:
        self._set_state("done")
        tell(outcome)
        return True

    def _stop(self, state: JobState, failure: Failed | None = None) -> None:
        job, left = self.job, self.unfinished
        if job is not None and job.kind == "compress" and left is not None:
            stopped = msgspec.structs.replace(left, step=job.step, steps=job.steps)
            over = state == "failed" or job.discarded
            self._set_unfinished(None if over else stopped)
        self._set_state(state)
        if job is not None and job.discarded:
            self.discarded.emit()
        if job is not None and job.kind == "sweep":
            self.swept.emit(None)
        if job is not None and job.kind == "flips":
            self.flipped.emit(failure)

    def _resumes(self, recipe: Recipe, name: str) -> bool:
        left = self.unfinished
        return left is not None and left.recipe == recipe and left.name == name

    def _set_state(self, state: JobState) -> None:
        if self.job is not None:
            self.job.state = state
            self.job.left = None
            self.changed.emit()

    def _set_unfinished(self, unfinished: Unfinished | None) -> None:
        self.unfinished = unfinished
        self.touched.emit()


def _sweep_name(plan: SweepPlan) -> str:
    """Return of what a sweep is: Sweep of 3 layers."""
    count = len(plan.layers)
    return f"Sweep of {plan.layers[0]}" if count == 1 else f"Sweep of {count or 'all'} layers"
