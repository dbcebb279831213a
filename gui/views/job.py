"""The job that runs: progress, time left, cancel and resume, and live charts."""

from PySide6.QtWidgets import (
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QStackedLayout,
    QVBoxLayout,
    QWidget,
)

from featherweight.engine.figures import Figure
from featherweight.engine.readings import SweepPlan
from featherweight.engine.results import Result
from featherweight.gui import wording
from featherweight.gui.document import Document
from featherweight.gui.job import Job
from featherweight.gui.widgets.chart_card import ChartCard
from featherweight.gui.widgets.charts import LineChart
from featherweight.gui.widgets.empty_state import EmptyState
from featherweight.gui.widgets.size_bars import SizeBars
from featherweight.gui.widgets.text import ElidedLabel, label, page

PROGRESS_STEPS = 1000
SMALL = 0.001
STATES = {
    "running": "Running",
    "cancelling": "Stopping",
    "cancelled": "Cancelled",
    "interrupted": "Interrupted",
    "failed": "Failed",
    "done": "Done",
}


class JobView(QWidget):
    """Watches `document.job`; its points come one by one and are drawn together."""

    def __init__(self, document: Document, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._document = document
        self._charted: Job | None = None
        self.empty = EmptyState(
            "chart",
            "Nothing has run yet",
            "Choose a method for some layers, then press Compress. Loss, accuracy and size are"
            " charted here while it runs.",
        )
        self.live = page()
        self._stack = QStackedLayout(self)
        self._stack.addWidget(self.empty)
        self._stack.addWidget(self.live)
        self._build()
        document.job_changed.connect(self._refresh)
        document.point_added.connect(self._on_point_added)
        document.results_changed.connect(self._show_sizes)
        document.network_changed.connect(self._refresh)
        document.task_changed.connect(self._refresh)
        self._refresh()

    def _build(self) -> None:
        self.loss = LineChart()
        self.loss.setObjectName("loss_chart")
        self.loss.setAccessibleName("Loss per training step")
        self.accuracy = LineChart(percent=True)
        self.accuracy.setObjectName("accuracy_chart")
        self.accuracy.setAccessibleName("Accuracy per training step, in percent")
        self.loss.tip = self.accuracy.tip = self._tip
        self.sizes = SizeBars()
        self.sizes.setObjectName("size_bars")
        self.loss_card = ChartCard("Loss per step", self.loss)
        self.accuracy_card = ChartCard("Accuracy per step", self.accuracy)
        row = QHBoxLayout(self.live)
        row.setContentsMargins(16, 12, 16, 12)
        row.setSpacing(24)
        row.addLayout(self._build_status(), 3)
        row.addWidget(self.loss_card, 4)
        row.addWidget(self.accuracy_card, 4)

    def _build_status(self) -> QVBoxLayout:
        self.title = ElidedLabel()
        self.title.setObjectName("job_title")
        self.title.setProperty("role", "heading")
        self.bar = QProgressBar()
        self.bar.setObjectName("job_progress")
        self.bar.setAccessibleName("Progress of the job")
        self.bar.setTextVisible(False)
        self.bar.setMaximum(PROGRESS_STEPS)
        self.stage = label("", "muted", wrap=True)
        self.stage.setObjectName("job_stage")
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setObjectName("cancel_button")
        self.cancel_button.setToolTip(
            "Stop the job; a run or a sweep keeps what is finished and can be resumed"
        )
        self.cancel_button.clicked.connect(lambda: self._document.cancel())
        self.resume_button = QPushButton("Resume")
        self.resume_button.setObjectName("resume_button")
        self.resume_button.setProperty("role", "primary")
        self.resume_button.setToolTip("Go on where it was stopped")
        self.resume_button.clicked.connect(self._on_resume)
        top = QHBoxLayout()
        top.setSpacing(8)
        top.addWidget(self.title, 1)
        top.addWidget(self.cancel_button)
        top.addWidget(self.resume_button)
        column = QVBoxLayout()
        column.setSpacing(8)
        column.addLayout(top)
        for piece in (self.bar, self.stage):
            column.addWidget(piece)
        column.addSpacing(4)
        column.addWidget(self.sizes)
        column.addStretch(1)
        return column

    def _refresh(self) -> None:
        job, task = self._document.job, self._document.task
        agrees = task is not None and not task.classes
        self.accuracy_card.name("Agreement per step" if agrees else "Accuracy per step")
        self._stack.setCurrentWidget(self.empty if job is None else self.live)
        if job is None:
            return
        if job.kind == "compress" and (job is not self._charted or self._went_back(job)):
            self._chart(job)
        for card in (self.loss_card, self.accuracy_card):
            card.setVisible(job.kind == "compress" or self._charted is not None)
        self.title.setText(f"{STATES[job.state]}: {job.name}")
        self.bar.setMaximum(0 if job.active and not job.steps else PROGRESS_STEPS)
        done = job.state == "done"
        self.bar.setValue(PROGRESS_STEPS if done else round(job.share * PROGRESS_STEPS))
        self.stage.setText(self._stage(job))
        self.cancel_button.setVisible(job.active)
        self.cancel_button.setEnabled(job.state == "running")
        document, sweeps = self._document, self._sweep_left is not None
        left = sweeps or document.unfinished is not None
        self.resume_button.setVisible(not job.active and left)
        self.resume_button.setEnabled(document.can_sweep if sweeps else document.can_resume)
        self._show_sizes()

    @property
    def _sweep_left(self) -> SweepPlan | None:
        """What a sweep that was stopped still has to read."""
        job = self._document.job
        stopped = job is not None and job.kind == "sweep" and job.resumable
        return self._document.atlas.plan if stopped else None

    def _on_resume(self) -> None:
        plan = self._sweep_left
        if plan is not None:
            self._document.sweep(plan)
        else:
            self._document.resume()

    def _stage(self, job: Job) -> str:
        if job.active:
            parts = [job.stage.rstrip(".") or "Starting"]
            if job.steps:
                parts.append(f"step {job.step} of {job.steps}")
            if job.left is not None:
                parts.append(f"{wording.duration(job.left)} left")
            return ", ".join(parts)
        if job.resumable and job.steps:
            point = "reading" if job.kind == "sweep" else "checkpoint"
            kept = "there" if job.state == "cancelled" else f"its last {point}"
            return f"Stopped at step {job.step} of {job.steps}; it can go on from {kept}."
        return {"done": "Finished.", "failed": "See the message above for the reason."}.get(
            job.state,
            "It can go on from its last checkpoint." if job.resumable else "Nothing of it is kept.",
        )

    def _went_back(self, job: Job) -> bool:
        drawn = {"loss": self.loss, "accuracy": self.accuracy}
        return any(drawn[name].count(name) > len(job.points.get(name, ())) for name in drawn)

    def _chart(self, job: Job) -> None:
        self._charted = job
        for card in (self.loss_card, self.accuracy_card):
            card.value.setText("")
        self.loss.clear()
        self.accuracy.clear()
        for series, points in job.points.items():
            for step, value in points:
                self._on_point_added(series, step, value)

    def _on_point_added(self, series: str, step: int, value: float) -> None:
        loss = series == "loss"
        card = self.loss_card if loss else self.accuracy_card
        (self.loss if loss else self.accuracy).add_point(series, step, value)
        card.value.setText(_loss(value) if loss else wording.percent(value))

    def _tip(self, step: float) -> str:
        """Say what both charts know of the step nearest to one under the pointer."""
        loss, accuracy = self.loss.nearest(step), self.accuracy.nearest(step)
        known = [found for found in (loss, accuracy) if found is not None]
        if not known:
            return ""
        lines = [f"Step {min((at for at, _ in known), key=lambda at: abs(at - step)):g}"]
        lines += [f"Loss {_loss(value)}" for value in loss[1].values()] if loss else []
        word = self.accuracy_card.title.text().partition(" ")[0]
        values = accuracy[1].values() if accuracy else ()
        return "\n".join([*lines, *(f"{word} {wording.percent(one / 100)}" for one in values)])

    def _show_sizes(self) -> None:
        result = self._result()
        network, prediction = self._document.network, self._document.prediction
        if result is not None:
            before, after = (m.figures.get("bytes") for m in (result.before, result.after))
            self.sizes.show_sizes(before, after)
        elif network is not None:
            known = Figure(prediction.after.bits / 8, "B", "estimated") if prediction else None
            self.sizes.show_sizes(Figure(network.file_bytes, "B", "measured"), known)

    def _result(self) -> Result | None:
        job, results = self._document.job, self._document.results
        running = job is not None and job.kind == "compress" and job.state != "done"
        if running or not results:
            return None
        return results[-1]


def _loss(value: float) -> str:
    return f"{value:.3f}" if value >= SMALL else f"{value:.2e}"
