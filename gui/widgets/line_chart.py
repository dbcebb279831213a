"""A chart of curves over steps that draws at most ten times a second."""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any

import pyqtgraph as pg
from PySide6.QtCore import QEvent, QObject, QPoint, QPointF, QTimer, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QWidget

from featherweight.gui import theme
from featherweight.gui.widgets.charts import Chart
from featherweight.gui.widgets.line_style import Line

REDRAW_MS = 100
FEW_POINTS = 40
# A chart that is not as high has no room for the name of its axis.
LOW = 136
NO_LINES: Mapping[str, Line] = {}


class LineChart(Chart):
    """Curves over training steps. Points are gathered and drawn together.

    Series without a line of their own are drawn in the colours of the theme, in the order in which
    they come. Values are multiplied by `scale`; `words` writes them beside the axis.
    """

    pointed = Signal(object, QPoint)  # the step under the pointer (None: it left), and the place

    def __init__(
        self,
        lines: Mapping[str, Line] = NO_LINES,
        words: Callable[[float], str] = "{:.4g}".format,
        scale: float = 1.0,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        axis = self.plot.getAxis("left")
        axis.enableAutoSIPrefix(False)
        axis.tickStrings = lambda values, *_: [words(value) for value in values]
        self._lines = dict(lines)
        self._scale = scale
        self._reach = 0.0
        self._points: dict[str, tuple[list[float], list[float]]] = {}
        self._curves: dict[str, Any] = {}
        self._mark: Any = pg.InfiniteLine(angle=90)
        self._mark.setVisible(False)
        self.plot.addItem(self._mark, ignoreBounds=True)
        self.plot.scene().sigMouseMoved.connect(self._on_pointer_moved)
        self.plot.viewport().installEventFilter(self)
        self._redraw = QTimer(self)
        self._redraw.setSingleShot(True)
        self._redraw.setInterval(REDRAW_MS)
        self._redraw.timeout.connect(self.draw)
        self.restyle(theme.colours())

    @property
    def lines(self) -> tuple[Line, ...]:
        """The lines of the series that have points."""
        return tuple(line for series, line in self._lines.items() if self.count(series))

    @property
    def mark(self) -> float | None:
        """The step that is marked, None for none."""
        return float(self._mark.value()) if self._mark.isVisible() else None

    def show_lines(self, lines: Mapping[str, Line]) -> None:
        """Forget everything and draw other lines from now on."""
        self.clear()
        for curve in self._curves.values():
            self.plot.removeItem(curve)
        self._curves.clear()
        self._lines = dict(lines)

    def add_point(self, series: str, step: float, value: float) -> None:
        """Take a point; it is on the screen a tenth of a second later at most."""
        steps, values = self._points.setdefault(series, ([], []))
        if self._line(series).level:
            steps.clear()
            values.clear()
        steps.append(step)
        values.append(value * self._scale)
        self.reach(step)

    def reach(self, step: float) -> None:
        """Let the axis below go on to a step at least; it begins at 0."""
        self._reach = max(self._reach, step)
        if not self._redraw.isActive():
            self._redraw.start()

    def clear(self) -> None:
        """Forget all points."""
        self._points.clear()
        self._reach = 0.0
        self.show_mark(None)
        for curve in self._curves.values():
            if isinstance(curve, pg.InfiniteLine):
                curve.setVisible(False)
            else:
                curve.setData([], [])

    def nearest(self, step: float) -> tuple[float, dict[str, float]] | None:
        """Return the step with a point that is nearest, and every series' value nearest to it.

        A level has its value everywhere, and alone no step.
        """
        found: dict[str, tuple[float, float]] = {}
        for series, (steps, values) in self._points.items():
            at = bisect_left(steps, step)
            near = [place for place in (at - 1, at) if 0 <= place < len(steps)]
            if near:
                best = min(near, key=lambda place: abs(steps[place] - step))
                found[series] = steps[best], values[best]
        stops = [at for series, (at, _) in found.items() if not self._line(series).level]
        if not stops:
            return None
        closest = min(stops, key=lambda at: abs(at - step))
        return closest, {series: value for series, (_, value) in found.items()}

    def show_mark(self, step: float | None) -> None:
        """Mark a step by a line from top to bottom, or none."""
        self._mark.setVisible(step is not None)
        if step is not None:
            self._mark.setValue(step)

    def count(self, series: str) -> int:
        """Return how many points of a series there are."""
        return len(self._points.get(series, ([],))[0])

    def draw(self) -> None:
        """Draw what has come in."""
        for series, (steps, values) in self._points.items():
            curve = self._curves.get(series)
            if curve is None:
                curve = self._curves[series] = self._added(self._line(series))
                self.restyle(theme.colours())
            if isinstance(curve, pg.InfiniteLine):
                curve.setVisible(True)
                curve.setValue(values[-1])
            else:
                curve.setData(steps, values, symbol="o" if len(steps) <= FEW_POINTS else None)
        self.plot.getAxis("left").setStyle(showValues=bool(self._points))
        self.plot.setXRange(0.0, self._reach or 1.0, padding=0.02)

    def restyle(self, shades: theme.Colours) -> None:
        """Give the curves their colours."""
        self._mark.setPen(pg.mkPen(shades.muted, width=1))
        for series, curve in self._curves.items():
            line = self._line(series)
            curve.setPen(line.pen(shades))
            if not line.level:
                curve.setSymbolBrush(line.colour(shades))
                curve.setSymbolPen(None)
                curve.setSymbolSize(5)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        super().resizeEvent(event)
        axis = self.plot.getAxis("bottom")
        axis.showLabel(bool(axis.labelText) and self.height() >= LOW)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        if event.type() == QEvent.Type.Leave:
            self.pointed.emit(None, QPoint())
        return super().eventFilter(watched, event)

    def _line(self, series: str) -> Line:
        known = self._lines.get(series)
        if known is None:
            known = self._lines[series] = Line(series.capitalize(), len(self._lines))
        return known

    def _added(self, line: Line) -> Any:
        if line.level:
            level = pg.InfiniteLine(angle=0)
            self.plot.addItem(level)
            return level
        curve = self.plot.plot()
        curve.setDownsampling(auto=True, method="peak")
        return curve

    def _on_pointer_moved(self, where: QPointF) -> None:
        box = self.plot.getPlotItem().getViewBox()
        inside = bool(self._points) and box.sceneBoundingRect().contains(where)
        step = box.mapSceneToView(where).x() if inside else None
        self.pointed.emit(step, self.plot.mapToGlobal(self.plot.mapFromScene(where)))
