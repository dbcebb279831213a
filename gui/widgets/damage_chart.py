"""Curves of damage: readings as points with error bars, solid lines where they were measured."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QPointF, Qt
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QToolTip, QWidget

from featherweight.gui import theme, wording
from featherweight.gui.widgets.charts import Chart

SYMBOL, NEAR, FEW_DECADES = 7, 14, 2.5


@dataclass(frozen=True)
class Dot:
    """A reading: where it stands, its value with the error, and what is said of it."""

    x: float
    y: float
    error: float
    smooth: float
    measured: bool
    tip: Callable[[], str]


class Series:
    """What draws one kind of readings of one curve; the same items draw the next curve."""

    def __init__(self, plot: Any) -> None:
        self._line = pg.PlotCurveItem()
        self._bars = pg.ErrorBarItem()
        self._points = pg.ScatterPlotItem(size=SYMBOL)
        for item in (self._line, self._bars, self._points):
            plot.addItem(item, ignoreBounds=True)

    def draw(
        self, places: Sequence[float], heights: Sequence[tuple[float, float, float, float]]
    ) -> None:
        """Draw other readings: at each place the value, the smoothed one, and both error ends."""
        x = np.array(places)
        values, smooth, bottoms, tops = np.array(heights).reshape(-1, 4).T
        self._line.setData(x, smooth)
        self._points.setData(x, values)
        self._bars.setData(x=x, y=values, top=tops - values, bottom=values - bottoms)

    def restyle(self, shade: str, measured: bool, ground: str) -> None:
        """Draw in another colour; what is not measured is dashed and hollow."""
        style = Qt.PenStyle.SolidLine if measured else Qt.PenStyle.DashLine
        self._line.setPen(pg.mkPen(shade, width=1.5, style=style))
        self._bars.setData(pen=pg.mkPen(shade, width=1))
        self._points.setPen(pg.mkPen(shade, width=1.5))
        self._points.setBrush(QColor(shade if measured else ground))


class DamageChart(Chart):
    """At most as many curves as the theme has series; their values may be drawn on a log scale."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.curves: tuple[tuple[Dot, ...], ...] = ()
        self._log = False
        self._floor = 0.0
        self._series: list[tuple[Series, Series]] = []
        self.plot.disableAutoRange()
        self.plot.scene().sigMouseMoved.connect(self._on_pointer_moved)

    def show_curves(self, curves: Sequence[Sequence[Dot]], log: bool) -> None:
        """Show other curves, each from left to right."""
        self.curves, self._log = tuple(map(tuple, curves)), log
        positive = [dot.y for curve in curves for dot in curve if dot.y > 0]
        self._floor = min(positive, default=1e-6) / 2
        if len(self._series) < len(curves):
            while len(self._series) < len(curves):
                self._series.append((Series(self.plot), Series(self.plot)))
            self.restyle(theme.colours())
        for place, pair in enumerate(self._series):
            curve = self.curves[place] if place < len(self.curves) else ()
            for measured, series in enumerate(pair):
                dots = [dot for dot in curve if dot.measured == bool(measured)]
                series.draw([dot.x for dot in dots], [self._heights(dot) for dot in dots])
        self._frame()

    def restyle(self, shades: theme.Colours) -> None:
        """Draw everything in these colours."""
        for place, pair in enumerate(self._series):
            shade = shades.series[place % len(shades.series)]
            for measured, series in enumerate(pair):
                series.restyle(shade, bool(measured), shades.surface)

    def dot_at(self, where: QPointF) -> Dot | None:
        """Return the reading that is nearest to a place of the scene, None where none is near."""
        box = self.plot.getPlotItem().getViewBox()
        dots = [dot for curve in self.curves for dot in curve]
        shown = [box.mapViewToScene(QPointF(dot.x, self._height(dot.y))) for dot in dots]
        away = [(point - where).manhattanLength() for point in shown]
        nearest = min(range(len(dots)), key=away.__getitem__, default=None)
        return dots[nearest] if nearest is not None and away[nearest] <= NEAR else None

    def _frame(self) -> None:
        """Fit the axes to what is drawn."""
        dots = [dot for curve in self.curves for dot in curve]
        if not dots:
            return
        heights = np.array([self._heights(dot) for dot in dots])
        places = [dot.x for dot in dots]
        low, high = heights.min(), heights.max()
        spread = (high - low) or abs(high) or 1.0
        self.plot.setXRange(min(places), max(places), padding=0.06)
        self.plot.setYRange(low - spread * 0.05, high + spread * 0.05, padding=0)
        ticks = _log_ticks(*self.plot.viewRange()[1]) if self._log else None
        self.plot.getAxis("left").setTicks([ticks] if ticks else None)

    def _heights(self, dot: Dot) -> tuple[float, float, float, float]:
        low, high = self._height(dot.y - dot.error), self._height(dot.y + dot.error)
        return self._height(dot.y), self._height(dot.smooth), low, high

    def _height(self, value: float) -> float:
        return math.log10(max(value, self._floor)) if self._log else value

    def _on_pointer_moved(self, where: QPointF) -> None:
        dot = self.dot_at(where)
        if dot is not None:
            place = self.plot.mapToGlobal(self.plot.mapFromScene(where))
            QToolTip.showText(place, dot.tip(), self.plot)
        else:
            QToolTip.hideText()


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return ticks between two powers of ten: every power, with 2 and 5 where there are few."""
    steps = (1,) if high - low > FEW_DECADES else (1, 2, 5)
    powers = range(math.floor(low), math.ceil(high) + 1)
    ticks = [
        (power + math.log10(step), wording.brief_rise(step * 10.0**power))
        for power in powers
        for step in steps
    ]
    return [(place, text) for place, text in ticks if low <= place <= high]
