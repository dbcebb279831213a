"""The header of narrow columns: where titles have no room, every second or third one is written."""

from PySide6.QtCore import QRect, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QPainter, QPaintEvent
from PySide6.QtWidgets import QHeaderView, QWidget

from featherweight.gui import theme

EDGE = 6


class SparseHeader(QHeaderView):
    """Columns of one width; a title begins over its own column and may reach over the next ones."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(Qt.Orientation.Horizontal, parent)
        self._every = 1

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        self._every = self._fitting()
        super().paintEvent(event)

    def paintSection(self, painter: QPainter, rect: QRect, logicalIndex: int) -> None:  # noqa: N802, N803
        shades, every = theme.colours(), self._every
        painter.setPen(QColor(shades.line))
        painter.drawLine(rect.bottomLeft(), rect.bottomRight())
        if logicalIndex % every:
            return
        title = str(self.model().headerData(logicalIndex, self.orientation()))
        font = QFont(self.font())
        font.setWeight(QFont.Weight.DemiBold)
        painter.setFont(font)
        painter.setPen(QColor(shades.muted))
        side = Qt.AlignmentFlag.AlignLeft if every > 1 else Qt.AlignmentFlag.AlignHCenter
        room = QRectF(rect.left(), rect.top(), rect.width() * every, rect.height())
        painter.drawText(room, int(side | Qt.AlignmentFlag.AlignVCenter), title)

    def _fitting(self) -> int:
        """Return of how many titles one is written."""
        model = self.model()
        if model is None or not self.count():
            return 1
        titles = (str(model.headerData(at, self.orientation())) for at in range(self.count()))
        metrics = self.fontMetrics()
        widest = max(metrics.horizontalAdvance(title) for title in titles) + EDGE
        return -(-widest // max(self.defaultSectionSize(), 1))
