"""A frontier with a slider below it, and fields for an exact budget and for what may be lost."""

import math
from collections.abc import Sequence

from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QSlider, QVBoxLayout, QWidget

from featherweight.gui.widgets.frontier_chart import (
    LARGEST_RATIO,
    LEFT_AXIS,
    FrontierChart,
    FrontierDot,
)
from featherweight.gui.widgets.number_control import NumberBox
from featherweight.gui.widgets.quiet_wheel import QuietWheel
from featherweight.gui.widgets.text import label

STEPS = 400
# How far a handle's middle stays from the end of its slider, and the axis from that of the chart.
HANDLE, INSET = 8, 6
LARGEST_DROP = 100.0


class BudgetBar(QWidget):
    """The slider stands below the chart and runs as its axis does; all of them tell one budget."""

    grabbed = Signal()  # another step begins: what was moved before is let go
    moved = Signal(float)  # the budget
    written = Signal(str)
    drop_written = Signal(float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._low, self._source = 0.5, 1.0
        self.chart = FrontierChart()
        self.chart.setObjectName("frontier_chart")
        self.chart.setAccessibleName("Least loss for every budget")
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setObjectName("budget_slider")
        self.slider.setAccessibleName("Budget")
        self.slider.setToolTip("Give every layer the best choice within this budget")
        self.slider.setRange(0, STEPS)
        self.slider.setPageStep(STEPS // 20)
        self.field = QLineEdit()
        self.field.setObjectName("budget_field")
        self.field.setAccessibleName("Exact budget")
        self.field.setFixedWidth(88)
        self.share = label("", "muted")
        self.share.setObjectName("budget_share")
        self.share.setToolTip("Of what the source network costs")
        self.drop_title, self.drop_unit = (
            label("Or lose at most", "muted"),
            label("points", "muted"),
        )
        self.drop = NumberBox(whole=False)
        self.drop.setObjectName("budget_drop")
        self.drop.setAccessibleName("Largest drop in points")
        self.drop.setToolTip("The smallest network that loses no more points than this")
        self.drop.setRange(0.0, LARGEST_DROP)
        self.drop.setFixedWidth(72)
        self.drop.lineEdit().setPlaceholderText("any")
        for control in (self.slider, self.drop):
            QuietWheel(control)
        self._build()
        self._connect()

    def show_frontier(self, dots: Sequence[FrontierDot], source: float) -> None:
        """Show another frontier; the slider runs over it."""
        lowest = min([dot.budget for dot in dots], default=source / 2)
        self._low, self._source = max(lowest, source / LARGEST_RATIO), source
        self.chart.show_frontier(dots, source)

    def show_budget(self, budget: float, words: str, share: str, chosen: bool) -> None:
        """Show a budget without telling anybody; the line stands only where it was `chosen`."""
        self.chart.show_budget(budget if chosen else None)
        self.share.setText(share)
        if not self.field.isModified():
            self.field.setText(words)
        if not self.slider.isSliderDown() and abs(self._budget() - budget) > 1e-3 * budget:
            with QSignalBlocker(self.slider):
                self.slider.setValue(self._step(budget))

    def show_drop(self, drop: float | None, known: bool) -> None:
        """Show the drop that was asked for, None for none; hidden where no drop is known."""
        for piece in (self.drop_title, self.drop, self.drop_unit):
            piece.setVisible(known)
        if not self.drop.lineEdit().isModified():
            with QSignalBlocker(self.drop):
                self.drop.setValue(drop or 0.0)
                if drop is None:
                    self.drop.lineEdit().clear()

    def _build(self) -> None:
        under = QHBoxLayout()
        under.setContentsMargins(LEFT_AXIS + INSET - HANDLE, 0, INSET, 0)
        under.addWidget(self.slider)
        exact, drop = QHBoxLayout(), QHBoxLayout()
        for row, pieces in (
            (exact, (self.field, self.share)),
            (drop, (self.drop_title, self.drop, self.drop_unit)),
        ):
            row.setSpacing(8)
            for piece in pieces:
                row.addWidget(piece)
            row.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.chart, 1)
        layout.addLayout(under)
        layout.addLayout(exact)
        layout.addLayout(drop)

    def _connect(self) -> None:
        self.chart.grabbed.connect(self.grabbed)
        self.chart.moved.connect(self.moved)
        self.slider.sliderPressed.connect(self.grabbed)
        self.slider.sliderReleased.connect(self.grabbed)
        self.slider.valueChanged.connect(lambda: self.moved.emit(self._budget()))
        self.field.editingFinished.connect(self._on_written)
        self.drop.valueChanged.connect(self._on_drop_written)

    def _budget(self) -> float:
        share = self.slider.value() / STEPS
        return float(self._low * (self._source / self._low) ** share)

    def _step(self, budget: float) -> int:
        if self._source <= self._low:
            return STEPS
        share = math.log(max(budget, self._low) / self._low) / math.log(self._source / self._low)
        return round(STEPS * share)

    def _on_written(self) -> None:
        if self.field.isModified():
            self.field.setModified(False)
            self.grabbed.emit()
            self.written.emit(self.field.text())

    def _on_drop_written(self, value: float) -> None:
        self.drop.lineEdit().setModified(False)
        self.grabbed.emit()
        self.drop_written.emit(value)
