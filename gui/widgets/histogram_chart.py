"""A histogram as bars."""

from collections.abc import Sequence
from typing import Any

import pyqtgraph as pg
from PySide6.QtWidgets import QWidget

from featherweight.gui import theme
from featherweight.gui.widgets.charts import Chart


class HistogramChart(Chart):
    """Counts of values between edges."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._bars: Any = pg.BarGraphItem(x0=[], x1=[], height=[])
        self.plot.addItem(self._bars)
        self.plot.getAxis("left").setStyle(showValues=False)
        self.plot.hideAxis("left")
        self.restyle(theme.colours())

    def show_counts(self, edges: Sequence[float], counts: Sequence[int]) -> None:
        """Show other counts; there is one edge more than counts."""
        self._bars.setOpts(x0=list(edges[:-1]), x1=list(edges[1:]), height=list(counts))

    def restyle(self, shades: theme.Colours) -> None:
        """Give the bars their colour."""
        self._bars.setOpts(brush=pg.mkBrush(shades.accent), pen=pg.mkPen(shades.surface))
