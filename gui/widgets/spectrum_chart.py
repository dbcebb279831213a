"""Singular values with the energy that the first of them keep, and the rank that was chosen."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import pyqtgraph as pg
from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QWidget

from featherweight.gui import theme
from featherweight.gui.widgets.charts import Chart


class SpectrumChart(Chart):
    """Both curves in percent: of the largest value, and of the sum of squares."""

    rank_chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._energy: list[float] = []
        self._values_curve: Any = self.plot.plot()
        self._energy_curve: Any = self.plot.plot()
        self._line: Any = pg.InfiniteLine(angle=90, movable=False)
        self._line.setVisible(False)
        self.plot.addItem(self._line)
        self.plot.setYRange(0, 100, padding=0.04)
        self.label_axes("Rank", "%")
        self._line.sigPositionChangeFinished.connect(self._on_dragged)
        self.restyle(theme.colours())

    @property
    def rank(self) -> int | None:
        """The rank at which the line stands, None where there is no line."""
        return round(self._line.value()) if self._line.isVisible() else None

    def show_spectrum(self, values: Sequence[float]) -> None:
        """Show other singular values, largest first."""
        squares = [value * value for value in values]
        total = sum(squares) or 1.0
        self._energy = [part / total for part in accumulate(squares)]
        largest = max(values, default=1.0) or 1.0
        ranks = list(range(1, len(values) + 1))
        self._values_curve.setData(ranks, [100 * value / largest for value in values])
        self._energy_curve.setData(ranks, [100 * part for part in self._energy])
        self.plot.setXRange(0, max(len(values), 1), padding=0.02)
        self._line.setBounds((1, max(len(values), 1)))

    def show_rank(self, rank: int | None, movable: bool = False) -> None:
        """Put the line at a rank, or take it away; a movable one can be dragged by the mouse."""
        self._line.setVisible(rank is not None)
        self._line.setMovable(movable)
        shape = Qt.CursorShape.SizeHorCursor if movable else Qt.CursorShape.ArrowCursor
        self._line.setCursor(shape)
        if rank is not None:
            self._line.setValue(rank)

    def energy(self, rank: int) -> float:
        """Return the share of the sum of squares that the first `rank` values hold."""
        return self._energy[min(rank, len(self._energy)) - 1] if rank and self._energy else 0.0

    def rank_for(self, energy: float) -> int:
        """Return the smallest rank that keeps a share of the energy."""
        kept = (rank for rank, part in enumerate(self._energy, 1) if part >= energy - 1e-9)
        return next(kept, len(self._energy))

    def restyle(self, shades: theme.Colours) -> None:
        """Give curves and line their colours."""
        self._values_curve.setPen(pg.mkPen(shades.series[0], width=1))
        self._energy_curve.setPen(pg.mkPen(shades.series[1], width=1))
        self._line.setPen(pg.mkPen(shades.text, width=1, style=Qt.PenStyle.DashLine))
        self._line.setHoverPen(pg.mkPen(shades.accent, width=2))

    def _on_dragged(self) -> None:
        self.rank_chosen.emit(round(self._line.value()))
