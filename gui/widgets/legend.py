"""Dots in the colours of a chart's series, each with what it stands for."""

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from featherweight.gui import theme

DOT = 14
GAP = 18


class Legend(QWidget):
    """One line; the first title has the first colour of the series."""

    def __init__(self, *titles: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._titles = titles
        self.setAccessibleDescription(", ".join(titles))
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:  # noqa: N802
        width = sum(self._width(title) for title in self._titles) - GAP
        return QSize(width, self.fontMetrics().height() + 2)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802, ARG002
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        shades = theme.colours()
        left = 0.0
        for place, title in enumerate(self._titles):
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(shades.series[place % len(shades.series)]))
            painter.drawEllipse(QPointF(left + 4, self.height() / 2), 4, 4)
            painter.setPen(QColor(shades.muted))
            box = QRectF(left + DOT, 0, self.width(), self.height())
            painter.drawText(box, Qt.AlignmentFlag.AlignVCenter, title)
            left += self._width(title)

    def _width(self, title: str) -> int:
        return DOT + self.fontMetrics().horizontalAdvance(title) + GAP
