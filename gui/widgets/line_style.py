"""How the line of one series looks, in its chart and in the legend beside it."""

from typing import Literal, NamedTuple

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QPen

from featherweight.gui import theme

Dash = Literal["solid", "dashed", "dotted"]
PATTERNS = {
    "solid": Qt.PenStyle.SolidLine,
    "dashed": Qt.PenStyle.DashLine,
    "dotted": Qt.PenStyle.DotLine,
}


class Line(NamedTuple):
    """A title, the place of the colour among those of series (None for a muted one), the dashes.

    A level has one value, drawn from side to side.
    """

    title: str
    shade: int | None = None
    dash: Dash = "solid"
    level: bool = False

    def colour(self, shades: theme.Colours) -> QColor:
        """Return the colour in a theme."""
        if self.shade is None:
            return QColor(shades.muted)
        return QColor(shades.series[self.shade % len(shades.series)])

    def pen(self, shades: theme.Colours) -> QPen:
        """Return what draws it; its width does not change with the scale."""
        made = QPen(self.colour(shades), 1.0 if self.dash == "solid" else 1.4)
        made.setStyle(PATTERNS[self.dash])
        made.setCosmetic(True)
        return made
