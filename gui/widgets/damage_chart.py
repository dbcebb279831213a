"""Curves of damage: readings as points with error bars, solid lines where they were measured."""

import math
from collections.abc import Sequence
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
    tip: str


class DamageChart(Chart):
    """At most as many curves as the theme has series; their values may be drawn on a log scale."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.curves: tuple[tuple[Dot, ...], ...] = ()
        self._log = False
        self._floor = 0.0
        self.plot.scene().sigMouseMoved.connect(self._on_pointer_moved)

    def show_curves(self, curves: Sequence[Sequence[Dot]], log: bool) -> None:
        """Show other curves, each from left to right."""
        self.curves, self._log = tuple(map(tuple, curves)), log
        positive = [dot.y for curve in curves for dot in curve if dot.y > 0]
        self._floor = min(positive, default=1e-6) / 2
        self.restyle(theme.colours())
        self.plot.autoRange()
        axis = self.plot.getAxis("left")
        axis.setTicks([_log_ticks(*self.plot.viewRange()[1])] if log else None)

    def restyle(self, shades: theme.Colours) -> None:
        """Draw everything in these colours."""
        self.plot.clear()
        for place, curve in enumerate(self.curves):
            shade = shades.series[place % len(shades.series)]
            for measured in (False, True):
                self._draw([dot for dot in curve if dot.measured == measured], shade, measured)

    def _draw(self, dots: Sequence[Dot], shade: str, measured: bool) -> None:
        if not dots:
            return
        places = [dot.x for dot in dots]
        style = Qt.PenStyle.SolidLine if measured else Qt.PenStyle.DashLine
        heights = [self._height(dot.smooth) for dot in dots]
        self.plot.plot(places, heights, pen=pg.mkPen(shade, width=1.5, style=style))
        points = [self._height(dot.y) for dot in dots]
        if any(dot.error for dot in dots):
            self.plot.addItem(self._bars(dots, points, shade))
        brush = QColor(shade if measured else theme.colours().surface)
        self.plot.plot(
            places, points, pen=None, symbol="o", symbolSize=SYMBOL,
            symbolBrush=brush, symbolPen=pg.mkPen(shade, width=1.5),
        )  # fmt: skip

    def _bars(self, dots: Sequence[Dot], points: Sequence[float], shade: str) -> Any:
        tops = [self._height(dot.y + dot.error) for dot in dots]
        bottoms = [self._height(dot.y - dot.error) for dot in dots]
        middle = np.array(points)
        return pg.ErrorBarItem(
            x=np.array([dot.x for dot in dots]), y=middle,
            top=np.array(tops) - middle, bottom=middle - np.array(bottoms),
            pen=pg.mkPen(shade, width=1),
        )  # fmt: skip

    def _height(self, value: float) -> float:
        return math.log10(max(value, self._floor)) if self._log else value

    def dot_at(self, where: QPointF) -> Dot | None:
        """Return the reading that is nearest to a place of the scene, None where none is near."""
        box = self.plot.getPlotItem().getViewBox()
        dots = [dot for curve in self.curves for dot in curve]
        shown = [box.mapViewToScene(QPointF(dot.x, self._height(dot.y))) for dot in dots]
        away = [(point - where).manhattanLength() for point in shown]
        nearest = min(range(len(dots)), key=away.__getitem__, default=None)
        return dots[nearest] if nearest is not None and away[nearest] <= NEAR else None

    def _on_pointer_moved(self, where: QPointF) -> None:
        dot = self.dot_at(where)
        if dot is not None:
            place = self.plot.mapToGlobal(self.plot.mapFromScene(where))
            QToolTip.showText(place, dot.tip, self.plot)
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
