"""The job that runs: starting, watching, cancelling and resuming it."""

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
    GuiltyFound,
    IntegerOptions,
    JobStarted,
    Point,
    Progress,
    ReadingsTaken,
    SensitivityEstimated,
    SweepEnded,
)
from featherweight.engine.readings import AllocationRules, Limits, SweepPlan
from featherweight.engine.recipe import Recipe
from featherweight.engine.requests import (
    AnyRequest,
    Compress,
    EstimateSensitivity,
    ExportResult,
    FindGuilty,
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
        self.job = Job(request=request, kind="sweep", name="Sweep")
        self.touched.emit()
        self.changed.emit()

    def refine(self, limits: Limits, rules: AllocationRules) -> None:
        """Correct an allocation with the real network."""
        self._start(RefineAllocation(id=0, limits=limits, rules=rules), "refine", "Refined budget")

    def blame(self, recipe: Recipe) -> None:
        """Name the layers of a recipe that lose more than was predicted."""
        self._start(FindGuilty(id=0, recipe=recipe), "blame", "Layers to blame")

    def cancel(self) -> None:
        """Ask the job to stop."""
        if self.job is not None and self.job.state == "running":
            self._set_state("cancelling")
            self._client.cancel(self.job.request)

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
                self._set_state("done")
                self.compressed.emit(result)
                return True
            case Exported(export=export):
                self._set_state("done")
                self.exported.emit(export)
                return True
            case SensitivityEstimated():
                self._set_state("done")
                self.estimated.emit(event)
                return True
            case ReadingsTaken(readings=readings):
                self.read.emit(readings)
                return True
            case SweepEnded(summary=summary):
                self._set_state("done")
                self.swept.emit(summary)
                return True
            case Allocated(allocation=allocation):
                self._set_state("done")
                self.allocated.emit(allocation)
                return True
            case GuiltyFound(layers=layers):
                self._set_state("done")
                self.blamed.emit(layers)
                return True
            case Cancelled(step=step):
                job.step = step
                self._stop("cancelled")
                return True
            case Failed(message=message, hint=hint, details=details):
                self._stop("failed")
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

    def _stop(self, state: JobState) -> None:
        job, left = self.job, self.unfinished
        if job is not None and job.kind == "compress" and left is not None:
            stopped = msgspec.structs.replace(left, step=job.step, steps=job.steps)
            self._set_unfinished(None if state == "failed" else stopped)
        self._set_state(state)
        if job is not None and job.kind == "sweep":
            self.swept.emit(None)

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
