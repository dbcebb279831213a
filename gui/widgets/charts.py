"""pyqtgraph in the colours of the theme."""

from typing import Any

import pyqtgraph as pg
from PySide6.QtCore import QEvent, Qt
from PySide6.QtWidgets import QVBoxLayout, QWidget

from featherweight.gui import theme


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
