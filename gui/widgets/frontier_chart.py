"""The frontier of a budget: the least that is lost for every cost, and the budget as a line."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pyqtgraph as pg
from PySide6.QtCore import QPointF, Qt, Signal
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QToolTip, QWidget

from featherweight.gui import theme, wording
from featherweight.gui.widgets.charts import Chart

LEFT_AXIS = 46
OCTAVES = 1.6
LARGEST_RATIO = 1e6
SMALLEST_SPAN, SMALLEST_STEP = 0.14, 0.13


class FrontierDot(NamedTuple):
    """What is lost at a budget, with its error on either side."""

    budget: float
    loss: float
    error: float = 0.0


class FrontierChart(Chart):
    """Budgets stand on a log scale as shares of the source; what is lost on one of cube roots.

    Both have room where people choose: many small budgets, and small losses.
    """

    grabbed = Signal()  # the line is about to be moved
    moved = Signal(float)  # to this budget

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        # What the tip under the pointer says of a budget; empty for no tip.
        self.tip: Callable[[float], str] = lambda _: ""
        self.dots: tuple[FrontierDot, ...] = ()
        self.source = 1.0
        self.present: FrontierDot | None = None
        self._dragged = False
        self._low = -1.0
        self._curve: Any = self.plot.plot()
        edges = [self.plot.plot(), self.plot.plot()]
        self._edges: list[Any] = edges
        self._band: Any = pg.FillBetweenItem(*edges)
        self._source: Any = self.plot.plot()
        self._present: Any = self.plot.plot()
        self._line: Any = pg.InfiniteLine(angle=90, movable=True)
        self._line.setCursor(Qt.CursorShape.SizeHorCursor)
        self._line.setVisible(False)
        for item in (self._band, self._line):
            self.plot.addItem(item)
        self._band.setZValue(-1)
        self.plot.getAxis("left").setWidth(LEFT_AXIS)
        self._line.sigDragged.connect(self._on_dragged)
        self._line.sigPositionChangeFinished.connect(self._on_dropped)
        self.plot.scene().sigMouseClicked.connect(self._on_clicked)
        self.plot.scene().sigMouseMoved.connect(self._on_pointer_moved)
        self.setMinimumHeight(150)
        self.restyle(theme.colours())

    @property
    def budget(self) -> float | None:
        """The budget at which the line stands, None where there is no line."""
        return self._budget_at(self._line.value()) if self._line.isVisible() else None

    def show_frontier(self, dots: Sequence[FrontierDot], source: float) -> None:
        """Show another frontier, rising in budget, of a network that costs `source` now."""
        self.dots, self.source = tuple(dots), source or 1.0
        places = [self._place(dot.budget) for dot in self.dots]
        self._low = min([*places, -SMALLEST_SPAN])
        self._curve.setData(places, [_height(dot.loss) for dot in self.dots])
        for edge, sign in zip(self._edges, (1, -1), strict=True):
            heights = [_height(dot.loss + sign * dot.error) for dot in self.dots]
            edge.setData(places, heights)
        self._source.setData([0.0], [0.0])
        most = max([dot.loss for dot in self.dots], default=0.0) or 1.0
        self.plot.setXRange(self._low, 0.0, padding=0.02)
        self.plot.setYRange(0.0, _height(most), padding=0.06)
        self._line.setBounds((self._low, 0.0))
        self.plot.getAxis("bottom").setTicks([_shares(self._low)])
        self.plot.getAxis("left").setTicks([_losses(most)])

    def show_budget(self, budget: float | None) -> None:
        """Put the line at a budget, or take it away."""
        self._line.setVisible(budget is not None)
        if budget is not None and not self._dragged:
            self._line.setValue(self._place(budget))

    def show_present(self, present: FrontierDot | None) -> None:
        """Mark what the recipe costs and loses that there is now, or nothing."""
        self.present = present
        known = [] if present is None else [present]
        self._present.setData(
            [self._place(dot.budget) for dot in known], [_height(dot.loss) for dot in known]
        )

    def restyle(self, shades: theme.Colours) -> None:
        """Give everything its colours."""
        accent = QColor(shades.accent)
        accent.setAlphaF(0.16)
        self._band.setBrush(accent)
        self._curve.setPen(pg.mkPen(shades.accent, width=2))
        for edge in self._edges:
            edge.setPen(None)
        for marks, ground, edge, size in (
            (self._source, shades.surface, shades.muted, 9),
            (self._present, shades.text, shades.surface, 11),
        ):
            marks.setPen(None)
            marks.setSymbol("o")
            marks.setSymbolSize(size)
            marks.setSymbolBrush(QColor(ground))
            marks.setSymbolPen(pg.mkPen(edge, width=2))
        self._line.setPen(pg.mkPen(shades.text, width=1, style=Qt.PenStyle.DashLine))
        self._line.setHoverPen(pg.mkPen(shades.accent, width=2))

    def _place(self, budget: float) -> float:
        return math.log2(max(budget, self.source / LARGEST_RATIO) / self.source)

    def _budget_at(self, place: float) -> float:
        return float(self.source * 2.0 ** min(max(place, self._low), 0.0))

    def _on_dragged(self) -> None:
        if not self._dragged:
            self._dragged = True
            self.grabbed.emit()
        self.moved.emit(self._budget_at(self._line.value()))

    def _on_dropped(self) -> None:
        self._dragged = False

    def _on_clicked(self, event: Any) -> None:
        box = self.plot.getPlotItem().getViewBox()
        left = event.button() == Qt.MouseButton.LeftButton
        if left and self.dots and box.sceneBoundingRect().contains(event.scenePos()):
            self.grabbed.emit()
            self.moved.emit(self._budget_at(box.mapSceneToView(event.scenePos()).x()))

    def _on_pointer_moved(self, where: QPointF) -> None:
        box = self.plot.getPlotItem().getViewBox()
        inside = bool(self.dots) and box.sceneBoundingRect().contains(where)
        text = self.tip(self._budget_at(box.mapSceneToView(where).x())) if inside else ""
        if text:
            QToolTip.showText(self.plot.mapToGlobal(self.plot.mapFromScene(where)), text, self.plot)
        else:
            QToolTip.hideText()


def loss_at(dots: Sequence[FrontierDot], budget: float) -> FrontierDot | None:
    """Return the best that a budget buys: the last dot within it, None where it is too small."""
    within = [dot for dot in dots if dot.budget <= budget * (1 + 1e-9)]
    return within[-1] if within else None


def _height(loss: float) -> float:
    return float(max(loss, 0.0) ** (1 / 3))


def _shares(low: float) -> list[tuple[float, str]]:
    """Return ticks of budgets: halves where there are several, else every so many percent."""
    if low > -OCTAVES:
        step = 10 if low < -0.4 else 5 if low < -0.2 else 2
        return [
            (math.log2(percent / 100), f"{percent} %")
            for percent in range(100, 0, -step)
            if math.log2(percent / 100) >= low - 0.01
        ]
    count = math.floor(-low + 0.01)
    every = 1 if count <= 8 else 2
    return [(-float(k), f"1/{2**k}" if k else "1") for k in range(0, count + 1, every)]


def _losses(most: float) -> list[tuple[float, str]]:
    """Return ticks of what is lost, far enough from each other: powers of ten before others."""
    apart = SMALLEST_STEP * _height(most)
    top = math.ceil(math.log10(most))
    taken = [0.0]
    for step in (1, 5, 2):
        for value in (step * 10.0**power for power in range(top, top - 4, -1)):
            near = any(abs(_height(value) - _height(other)) < apart for other in taken)
            if value <= most * 1.05 and not near:
                taken.append(value)
    return [(_height(value), wording.brief_rise(value)) for value in taken]
