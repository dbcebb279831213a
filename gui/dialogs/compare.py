"""How several results recovered: their curves drawn over each other, and what came out."""

from collections.abc import Sequence

from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QStackedWidget,
    QToolTip,
    QVBoxLayout,
    QWidget,
)

from featherweight.engine.events import TaskSummary
from featherweight.engine.results import Result
from featherweight.gui import wording
from featherweight.gui.item_models.recovery_curves import HEADS, curves_of, outcome_lines
from featherweight.gui.item_models.run_curves import QUANTITIES
from featherweight.gui.widgets.empty_state import EmptyState
from featherweight.gui.widgets.legend import Legend
from featherweight.gui.widgets.line_chart import LineChart
from featherweight.gui.widgets.line_style import Line
from featherweight.gui.widgets.plain_table import PlainTable
from featherweight.gui.widgets.text import label

LEAST_TABLE = 150


class CompareDialog(QDialog):
    """Stays open beside the window until it is closed; shown with show()."""

    def __init__(
        self, results: Sequence[Result], task: TaskSummary | None, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._results = tuple(results)
        self._task = task
        self._lines: dict[str, Line] = {}
        self.setWindowTitle("Recoveries compared")
        self.setObjectName("compare_dialog")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.shown = _list("compare_shown", "What the curves show")
        for name in ("accuracy", "loss"):
            self.shown.addItem(QUANTITIES[name].title, name)
        self.over = _list("compare_over", "Over what the curves go")
        for title in ("Epochs", "Steps") if task is not None else ("Steps",):
            self.over.addItem(f"over {title.lower()}", title)
        self.stack = QStackedWidget()
        self.empty = EmptyState(
            "chart", "No curves", "None of these results was recovered by training."
        )
        self.stack.addWidget(self.empty)
        self.charts = {name: self._chart(name) for name in ("accuracy", "loss")}
        self.legend = Legend()
        self.table = PlainTable(HEADS)
        self.table.setObjectName("compare_table")
        self.table.setAccessibleName("What came out")
        self.table.setMinimumHeight(LEAST_TABLE)
        self.table.show_lines(outcome_lines(self._results), by=1)
        self._lay_out()
        for box in (self.shown, self.over):
            box.activated.connect(lambda: self._show_curves())
        self._show_curves()
        self.resize(900, 620)

    @property
    def chart(self) -> LineChart:
        """The chart that is shown, or would be if there were curves."""
        return self.charts[self.shown.currentData()]

    def _chart(self, name: str) -> LineChart:
        chart = LineChart(words=QUANTITIES[name].tick)
        chart.setObjectName(f"compare_{name}_chart")
        chart.pointed.connect(self._on_pointed)
        self.stack.addWidget(chart)
        return chart

    def _lay_out(self) -> None:
        top = QHBoxLayout()
        top.setSpacing(8)
        top.addWidget(label("How they recovered", "heading"))
        top.addStretch(1)
        top.addWidget(self.shown)
        top.addWidget(self.over)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(20, 16, 20, 16)
        layout.setSpacing(10)
        layout.addLayout(top)
        layout.addWidget(self.stack, 1)
        for piece in (self.legend, self.table, buttons):
            layout.addWidget(piece)

    def _show_curves(self) -> None:
        name, over = self.shown.currentData(), self.over.currentData()
        task = self._task if over == "Epochs" else None
        curves = curves_of(self._results, name, task)
        # Two results may have the same name.
        self._lines = {str(place): curve.line for place, curve in enumerate(curves)}
        chart = self.chart
        chart.show_lines(self._lines)
        chart.label_axes(over, "")
        for place, curve in enumerate(curves):
            for at, value in curve.points:
                chart.add_point(str(place), at, value)
        said = ", ".join(line.title for line in self._lines.values())
        chart.setAccessibleName(f"{self.shown.currentText()} {self.over.currentText()}: {said}")
        self.legend.show_lines(list(self._lines.values()))
        self.stack.setCurrentWidget(chart if curves else self.empty)

    def _on_pointed(self, step: float | None, place: QPoint) -> None:
        near = self.chart.nearest(step) if step is not None else None
        self.chart.show_mark(near[0] if near is not None else None)
        if near is None:
            QToolTip.hideText()
            return
        at, values = near
        words = QUANTITIES[self.shown.currentData()].words
        unit = self.over.currentData().removesuffix("s")
        lines = [f"{unit} {wording.scalar(round(at, 2))}"]
        lines += [f"{self._lines[key].title}: {words(value)}" for key, value in values.items()]
        QToolTip.showText(place, "\n".join(lines), self)


def _list(name: str, said: str) -> QComboBox:
    made = QComboBox()
    made.setObjectName(name)
    made.setAccessibleName(said)
    return made
