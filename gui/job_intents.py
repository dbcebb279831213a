"""What is wanted of a document's jobs: they are started, cancelled and resumed here."""

from pathlib import Path

from PySide6.QtCore import QObject

from featherweight.engine.events import IntegerOptions, TaskSummary
from featherweight.engine.layer import NetworkSummary
from featherweight.engine.readings import SweepPlan
from featherweight.engine.results import Result
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.flips import Flips, has_classes
from featherweight.gui.job import Job
from featherweight.gui.kept_results import drop_checkpoints, free_name
from featherweight.gui.project_file import Unfinished
from featherweight.gui.recipe_intents import RecipeIntents
from featherweight.gui.runs import ExportFormat, Runs

INTEGERS = IntegerOptions()


class JobIntents(RecipeIntents):
    """The part of a document that views run jobs by, at most one at a time."""

    def __init__(self, client: EngineClient, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.network: NetworkSummary | None = None
        self.task: TaskSummary | None = None
        self.results: tuple[Result, ...] = ()
        self.flips = Flips(client, self)
        self._runs = Runs(client, self)
        self._runs.flipped.connect(self.flips.end)
        self._runs.rate_found.connect(self.rate_found)
        self._runs.discarded.connect(self._drop_checkpoints)

    @property
    def results_folder(self) -> Path:
        """The folder of archives and checkpoints."""
        raise NotImplementedError

    @property
    def atlas_folder(self) -> Path:
        """The folder of what sweeps read, of all projects: readings go by network and data."""
        raise NotImplementedError

    @property
    def job(self) -> Job | None:
        """The job that runs, or the last one."""
        return self._runs.job

    @property
    def unfinished(self) -> Unfinished | None:
        """The run that was cancelled or interrupted and can be resumed, or that runs now."""
        return self._runs.unfinished

    @property
    def idle(self) -> bool:
        """Whether a network is open and no job is under way."""
        return self.network is not None and not self._runs.active

    @property
    def can_estimate(self) -> bool:
        """Whether there is a task to estimate sensitivity on, and no job under way."""
        return self.idle and self.task is not None

    @property
    def can_compress(self) -> bool:
        """Whether there is a task, something to do, and no job under way."""
        wanted = bool(self.recipe.layers) or self.recipe.recovery is not None
        return self.idle and self.task is not None and wanted

    @property
    def can_resume(self) -> bool:
        """Whether a run was left unfinished and no job is under way."""
        return self.idle and self.task is not None and self.unfinished is not None

    @property
    def can_find_rate(self) -> bool:
        """Whether there are a task and a recovery to find a learning rate for, and no job."""
        return self.idle and self.task is not None and self.recipe.recovery is not None

    @property
    def can_sweep(self) -> bool:
        """Whether there is a task to read settings on, and no job under way."""
        return self.idle and self.task is not None

    @property
    def can_find_flips(self) -> bool:
        """Whether there is a task with classes, and no job under way."""
        return self.idle and has_classes(self.task)

    def compress(self, name: str = "") -> None:
        """Run the recipe; its result is added to `results`."""
        if self.can_compress:
            self._runs.compress(self.recipe, name or free_name(self.results), self.results_folder)

    def cancel(self) -> None:
        """Ask the job to stop; a run can be resumed."""
        self._runs.cancel()

    def finish(self) -> None:
        """Ask the run's training to end now; its result is of what it has."""
        self._runs.finish()

    def discard(self, job: Job) -> None:
        """Throw away what a run has done that is under way or was left unfinished."""
        self._runs.discard(job)

    def resume(self) -> None:
        """Go on with the run that was cancelled or interrupted."""
        if self.can_resume and (left := self.unfinished):
            self._runs.compress(left.recipe, left.name, self.results_folder)

    def export(
        self,
        archive: str,
        form: ExportFormat,
        path: Path,
        integers: IntegerOptions = INTEGERS,
    ) -> None:
        """Write a result (its `archive`; empty for the source network); see `exported`."""
        if self.idle:
            full = str(self.results_folder / archive) if archive else ""
            self._runs.export(full, form, path, integers)

    def estimate_sensitivity(self) -> None:
        """Estimate on the task how sensitive layers are, a job; see `sensitivity_changed`."""
        if self.can_estimate:
            self._runs.estimate()

    def find_learning_rate(self) -> None:
        """Try rising learning rates for the recovery, a job; see `rate_found`."""
        if self.can_find_rate:
            self._runs.find_rate(self.recipe)

    def find_flips(self, before: str, after: str) -> None:
        """Compare the classes of two results by their archives, empty ones for the original.

        It is a job; see `flips`.
        """
        if self.can_find_flips:
            places = [str(self.results_folder / name) if name else "" for name in (before, after)]
            self.flips.begin(before, after)
            self._runs.find_flips(*places)

    def sweep(self, plan: SweepPlan) -> None:
        """Read what is missing of a plan, a job; started again it goes on where it was."""
        if self.can_sweep:
            self._runs.sweep(plan, self.atlas_folder)

    def _drop_checkpoints(self) -> None:
        drop_checkpoints(self.results_folder)
