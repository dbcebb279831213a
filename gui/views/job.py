"""The job that runs: progress, time left, what can be done with it, and live charts."""

from PySide6.QtWidgets import QHBoxLayout, QStackedLayout, QVBoxLayout, QWidget

from featherweight.engine.figures import Figure
from featherweight.engine.readings import SweepPlan
from featherweight.engine.results import Result
from featherweight.gui.dialogs.discard import discard_question
from featherweight.gui.document import Document
from featherweight.gui.item_models.job_words import job_state
from featherweight.gui.item_models.run_curves import QUANTITIES, SOURCE, source_share
from featherweight.gui.job import Job
from featherweight.gui.widgets.chart_row import ChartRow
from featherweight.gui.widgets.empty_state import EmptyState
from featherweight.gui.widgets.job_panel import JobPanel
from featherweight.gui.widgets.size_bars import SizeBars
from featherweight.gui.widgets.text import label, page

STATUS_WIDTH = 272


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
        self.panel = JobPanel()
        self.panel.pause_button.clicked.connect(lambda: self._document.cancel())
        self.panel.resume_button.clicked.connect(self._on_resume)
        self.panel.finish_button.clicked.connect(lambda: self._document.finish())
        self.panel.cancel_button.clicked.connect(self._on_cancel)
        self.sizes = SizeBars()
        self.sizes.setObjectName("size_bars")
        self.charts = ChartRow(QUANTITIES)
        self.caption = label("", "muted")
        self.caption.setObjectName("charted_run")
        status = QWidget()
        status.setFixedWidth(STATUS_WIDTH)
        column = QVBoxLayout(status)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(12)
        column.addWidget(self.panel)
        column.addWidget(self.sizes)
        column.addStretch(1)
        drawn = QVBoxLayout()
        drawn.setSpacing(2)
        drawn.addWidget(self.caption)
        drawn.addWidget(self.charts, 1)
        row = QHBoxLayout(self.live)
        row.setContentsMargins(16, 12, 16, 8)
        row.setSpacing(24)
        row.addWidget(status)
        row.addLayout(drawn, 1)

    def _refresh(self) -> None:
        job, task = self._document.job, self._document.task
        agrees = task is not None and not task.classes
        self.charts.rename("accuracy", "Agreement" if agrees else "Accuracy")
        self._stack.setCurrentWidget(self.empty if job is None else self.live)
        if job is None:
            return
        if job.kind == "compress" and (job is not self._charted or self._went_back(job)):
            self._chart(job)
        self.charts.setVisible(self._charted is not None)
        others = self._charted is not None and self._charted is not job
        self.caption.setVisible(others)
        if others and self._charted is not None:
            self.caption.setText(f"Curves of {self._charted.name}")
        self.panel.show_state(job_state(self._document, job))
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

    def _on_cancel(self) -> None:
        job = self._document.job
        if job is None:
            return
        if job.kind != "compress":
            self._document.cancel()
            return
        box = discard_question(job, self.window())
        box.accepted.connect(lambda: self._document.discard(job))
        box.open()

    def _went_back(self, job: Job) -> bool:
        """Say whether points were taken back, because it goes on from where it was kept."""
        known = ("loss", "accuracy")
        return any(self.charts.count(name) > len(job.points.get(name, ())) for name in known)

    def _chart(self, job: Job) -> None:
        self._charted = job
        self.charts.clear()
        share = source_share(self._document.results)
        if share is not None and SOURCE not in job.points:
            self.charts.add_point(SOURCE, 0, share)
        for series, points in job.points.items():
            for step, value in points:
                self.charts.add_point(series, step, value)

    def _on_point_added(self, series: str, step: int, value: float) -> None:
        self.charts.add_point(series, step, value)

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
