"""Networks trained beside a recovery, to tell what compression and the teacher do in it.

A compressed network that was trained for longer than its source must be compared with the source
trained for as long; one that learned from a teacher, with itself trained by labels alone.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from featherweight.engine.jobs import Job
from featherweight.engine.network import Network
from featherweight.engine.recovering.fine_tuning import fine_tune, steps_of
from featherweight.engine.results import Control
from featherweight.engine.task import Task
from featherweight.engine.trainings import FineTuning
from featherweight.engine.writing.files import write_file

DENSE, HARD = "control", "labels"


class Controls:
    """The controls that a recovery asks for, those left out that would tell nothing.

    A source is the measure of a task without labels already, and a recovery without a teacher is
    its own control by hard labels. The dense control is kept in the file `kept` and taken up from
    there, for it depends on the source, the task and the training only.
    """

    def __init__(
        self, recovery: FineTuning | None, task: Task, seed: int, kept: Path, checkpoints: Path
    ) -> None:
        asked = recovery.control if recovery is not None and recovery.epochs else "none"
        self._recovery = recovery if recovery is not None else FineTuning()
        self._task, self._seed, self._kept = task, seed, kept
        self._checkpoints = checkpoints
        labelled = task.kind == "classification"
        self._dense = labelled and asked in ("dense", "both")
        self._hard = self._recovery.learns and asked in ("hard labels", "both")
        self._known = _read(kept) if self._dense else None

    @property
    def steps(self) -> int:
        """How many steps they advance a job."""
        trained = steps_of(self._recovery, self._task) + 1
        return trained * (int(self._dense and self._known is None) + int(self._hard))

    def start(self, compressed: Network) -> Network | None:
        """Return a copy of the network before its recovery where `run` needs one."""
        return compressed.copy() if self._hard else None

    def run(
        self, source: Network, start: Network | None, settle: Callable[[Network], None], job: Job
    ) -> tuple[Control, ...]:
        """Train and measure them; `settle` gives a recovered network its final form, in place.

        They resume to the same bytes from checkpoints of their own. Nothing is told where the
        recovery was asked to end, or is meanwhile: no control for as long exists then.
        Raises UserError, CancelledError.
        """
        found = []
        if self._dense and not job.finishing:
            found.append(self._dense_control(source, job))
        if start is not None and not job.finishing:
            made = self._trained("hard labels", start, by_labels(self._recovery), job)
            settle(start)
            found.append(self._measured(made, start, job))
        return () if job.finishing else tuple(found)

    def _dense_control(self, source: Network, job: Job) -> Control:
        if self._known is not None:
            for step, _, accuracy in self._known.curve:
                job.point(DENSE, step, accuracy)
            return self._known
        network = source.copy()
        made = self._trained("dense", network, without_compression(self._recovery), job)
        made = self._measured(made, network, job)
        if not job.finishing:
            write_file(self._kept, msgspec.json.encode(made))
        return made

    def _trained(self, kind: str, network: Network, settings: FineTuning, job: Job) -> Control:
        dense = kind == "dense"
        series, title = (DENSE, "Dense control") if dense else (HARD, "Control by labels")
        folder = self._checkpoints / series
        beside = _Beside(job, series, title)
        curve = fine_tune(network, self._task, settings, self._seed, folder, beside)
        return Control(kind="dense" if dense else "hard labels", figures={}, curve=tuple(curve))

    def _measured(self, control: Control, network: Network, job: Job) -> Control:
        figures = self._task.evaluate(network, job.check)
        job.advance("Measuring the control")
        return msgspec.structs.replace(control, figures=figures)


def by_labels(recovery: FineTuning) -> FineTuning:
    """Return the same training without a teacher."""
    usual = FineTuning()
    return msgspec.structs.replace(
        recovery,
        distillation=0.0,
        temperature=usual.temperature,
        hidden="none",
        hidden_weight=usual.hidden_weight,
        teacher="",
        start="own",
        control="none",
    )


def without_compression(recovery: FineTuning) -> FineTuning:
    """Return the same training of the source: by labels, and with nothing to lose or to round."""
    return msgspec.structs.replace(by_labels(recovery), gradual=0.0, activations="float")


class _Beside(Job):
    """A part of a job in which a control trains: its accuracy is a series of its own."""

    def __init__(self, job: Job, series: str, title: str) -> None:
        super().__init__(id=job.id)
        self._job, self._series, self._title = job, series, title

    def advance(self, stage: str, steps: int = 1) -> None:
        """Count steps of the job."""
        self._job.advance(f"{self._title}: {stage[:1].lower()}{stage[1:]}", steps)

    def point(self, series: str, step: int, value: float) -> None:
        """Send a point of the accuracy; others would mix with those of the result."""
        if series == "accuracy":
            self._job.point(self._series, step, value)

    def check(self) -> None:
        """Raise CancelledError where the job was asked to stop."""
        self._job.check()

    @property
    def finishing(self) -> bool:
        """Whether the job was asked to end its trainings."""
        return self._job.finishing


def _read(kept: Path) -> Control | None:
    try:
        return msgspec.json.decode(kept.read_bytes(), type=Control)
    except (OSError, msgspec.MsgspecError):
        return None
