"""pyqtgraph in the colours of the theme, and a line chart that draws at most ten times a second."""

from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import pyqtgraph as pg
from PySide6.QtCore import QEvent, QPointF, Qt, QTimer
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QToolTip, QVBoxLayout, QWidget

from featherweight.gui import theme

REDRAW_MS = 100
FEW_POINTS = 40


class Chart(QWidget):
    """A plot without menu, buttons or grid that restyles itself when the theme changes."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.plot: Any = pg.PlotWidget(enableMenu=False)
        self.plot.setAntialiasing(True)
        self.plot.setMouseEnabled(x=False, y=False)
        self.plot.hideButtons()
        self.plot.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.plot.getPlotItem().setContentsMargins(0, 6, 8, 0)
        self.setMinimumSize(160, 96)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.plot)
        self._restyle_axes()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        if event.type() == QEvent.Type.PaletteChange:
            self._restyle_axes()
            self.restyle(theme.colours())
        super().changeEvent(event)

    def restyle(self, shades: theme.Colours) -> None:
        """Give what is drawn its colours; called when the theme changes."""

    def label_axes(self, bottom: str, left: str) -> None:
        """Name the axes."""
        for side, text in (("bottom", bottom), ("left", left)):
            self.plot.setLabel(side, text, color=theme.colours().muted)

    def _restyle_axes(self) -> None:
        shades = theme.colours()
        self.plot.setBackground(shades.surface)
        for side in ("bottom", "left", "right"):
            axis = self.plot.getAxis(side)
            axis.setPen(pg.mkPen(shades.line))
            axis.setTextPen(pg.mkPen(shades.muted))
            axis.setStyle(tickLength=4, tickFont=self.font())
            if axis.labelText:
                axis.setLabel(axis.labelText, color=shades.muted)


class LineChart(Chart):
    """Curves over training steps. Points are gathered and drawn together."""

    def __init__(self, percent: bool = False, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        # What the tip under the pointer says of a step; empty for no tip.
        self.tip: Callable[[float], str] = lambda _: ""
        self.plot.scene().sigMouseMoved.connect(self._on_pointer_moved)
        self._percent = percent
        self._points: dict[str, tuple[list[float], list[float]]] = {}
        self._curves: dict[str, Any] = {}
        self._redraw = QTimer(self)
        self._redraw.setSingleShot(True)
        self._redraw.setInterval(REDRAW_MS)
        self._redraw.timeout.connect(self.draw)

    def add_point(self, series: str, step: float, value: float) -> None:
        """Take a point; it is on the screen a tenth of a second later at most."""
        steps, values = self._points.setdefault(series, ([], []))
        steps.append(step)
        values.append(value * 100 if self._percent else value)
        if not self._redraw.isActive():
            self._redraw.start()

    def clear(self) -> None:
        """Forget all points."""
        self._points.clear()
        for curve in self._curves.values():
            curve.setData([], [])

    def nearest(self, step: float) -> tuple[float, dict[str, float]] | None:
        """Return the step with a point that is nearest, and every series' value nearest to it."""
        found: dict[str, tuple[float, float]] = {}
        for series, (steps, values) in self._points.items():
            at = bisect_left(steps, step)
            near = [place for place in (at - 1, at) if 0 <= place < len(steps)]
            if near:
                best = min(near, key=lambda place: abs(steps[place] - step))
                found[series] = steps[best], values[best]
        if not found:
            return None
        closest = min((at for at, _ in found.values()), key=lambda at: abs(at - step))
        return closest, {series: value for series, (_, value) in found.items()}

    def _on_pointer_moved(self, where: QPointF) -> None:
        box = self.plot.getPlotItem().getViewBox()
        inside = bool(self._points) and box.sceneBoundingRect().contains(where)
        text = self.tip(box.mapSceneToView(where).x()) if inside else ""
        if text:
            QToolTip.showText(self.plot.mapToGlobal(self.plot.mapFromScene(where)), text, self.plot)
        else:
            QToolTip.hideText()

    def count(self, series: str) -> int:
        """Return how many points of a series there are."""
        return len(self._points.get(series, ([],))[0])

    def draw(self) -> None:
        """Draw what has come in."""
        for series, (steps, values) in self._points.items():
            curve = self._curves.get(series)
            if curve is None:
                curve = self._curves[series] = self.plot.plot()
                curve.setDownsampling(auto=True, method="peak")
                self.restyle(theme.colours())
            curve.setData(steps, values, symbol="o" if len(steps) <= FEW_POINTS else None)

    def restyle(self, shades: theme.Colours) -> None:
        """Give the curves their colours, by the order in which they came."""
        for place, curve in enumerate(self._curves.values()):
            shade = shades.series[place % len(shades.series)]
            curve.setPen(pg.mkPen(shade, width=1))
            curve.setSymbolBrush(QColor(shade))
            curve.setSymbolPen(None)
            curve.setSymbolSize(5)
