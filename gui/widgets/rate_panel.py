"""How the loss goes with the learning rate, the rate that this speaks for, and a button for it."""

import math
from collections.abc import Sequence
from typing import Any

import pyqtgraph as pg
from PySide6.QtCore import QPointF, Qt, Signal
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QToolTip, QVBoxLayout, QWidget

from featherweight.gui import theme
from featherweight.gui.widgets.charts import Chart
from featherweight.gui.widgets.text import label

HEIGHT = 132
# Losses this many times the fall above the first one are off the chart.
ABOVE = 0.6


class RateChart(Chart):
    """The loss over the learning rate on a log scale; a line stands at the suggestion."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.points: tuple[tuple[float, float], ...] = ()
        self.setFixedHeight(HEIGHT)
        self.plot.setLogMode(x=True, y=False)
        self._curve: Any = self.plot.plot()
        self._line: Any = pg.InfiniteLine(angle=90)
        self.plot.addItem(self._line, ignoreBounds=True)
        self.plot.scene().sigMouseMoved.connect(self._on_pointer_moved)
        self.label_axes("Learning rate", "Loss")
        self.restyle(theme.colours())

    def show_rates(self, points: Sequence[tuple[float, float]], suggestion: float) -> None:
        """Show losses by rising rates, and mark one rate."""
        self.points = tuple(points)
        rates, losses = zip(*points, strict=True) if points else ((), ())
        self._curve.setData(rates, losses)
        self._line.setValue(math.log10(suggestion))
        if losses:
            low, first = min(losses), losses[0]
            reach = first + ABOVE * ((first - low) or abs(first) or 1.0)
            self.plot.setYRange(low, min(max(losses), reach), padding=0.08)

    def restyle(self, shades: theme.Colours) -> None:
        """Give everything its colours."""
        self._curve.setPen(pg.mkPen(shades.accent, width=1.5))
        self._line.setPen(pg.mkPen(QColor(shades.text), width=1, style=Qt.PenStyle.DashLine))

    def tip(self, rate: float) -> str:
        """Say what the loss is at the rate nearest to one."""
        at, loss = min(self.points, key=lambda point: abs(math.log10(point[0] / rate)))
        return f"Learning rate {at:.2g}\nLoss {loss:.4g}"

    def _on_pointer_moved(self, where: QPointF) -> None:
        box = self.plot.getPlotItem().getViewBox()
        if self.points and box.sceneBoundingRect().contains(where):
            text = self.tip(10.0 ** box.mapSceneToView(where).x())
            QToolTip.showText(self.plot.mapToGlobal(self.plot.mapFromScene(where)), text, self.plot)
        else:
            QToolTip.hideText()


class RatePanel(QWidget):
    """Stands below the option until it is closed or its suggestion is taken."""

    taken = Signal(float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._suggestion = 0.0
        self.chart = RateChart()
        self.chart.setObjectName("rate_chart")
        self.chart.setAccessibleName("Loss over learning rate")
        self.use_button = QPushButton()
        self.use_button.setObjectName("use_rate_button")
        self.use_button.setProperty("role", "primary")
        self.use_button.setAccessibleName("Use the suggested learning rate")
        self.close_button = QPushButton("Close")
        self.close_button.setObjectName("close_rate_button")
        self.close_button.setToolTip("Leave the learning rate as it is")
        self.about = label("", "muted", wrap=True)
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addWidget(self.use_button)
        buttons.addWidget(self.close_button)
        buttons.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 2, 0, 8)
        column.setSpacing(6)
        column.addWidget(self.chart)
        column.addWidget(self.about)
        column.addLayout(buttons)
        self.use_button.clicked.connect(self._on_use)
        self.close_button.clicked.connect(self.hide)
        self.hide()

    def show_rates(self, points: Sequence[tuple[float, float]], suggestion: float) -> None:
        """Show what was found."""
        self._suggestion = float(f"{suggestion:.2g}")
        self.chart.show_rates(points, suggestion)
        self.about.setText(f"Measured at {len(points)} rising rates on the compressed network.")
        self.use_button.setText(f"Use {self._suggestion:g}")
        self.use_button.setToolTip("Train at the suggested learning rate; it can be undone")
        self.show()

    def _on_use(self) -> None:
        self.hide()
        self.taken.emit(self._suggestion)
