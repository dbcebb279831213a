"""Dots in the colours of a chart's series, each with what it stands for."""

from collections.abc import Iterator

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from featherweight.gui import theme

DOT = 14
GAP = 18
WIDE = 200


class Legend(QWidget):
    """One line, more where it is narrow; the first title has the first colour of the series."""

    def __init__(self, *titles: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._titles: tuple[str, ...] = ()
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.show_titles(*titles)

    def show_titles(self, *titles: str) -> None:
        """Show other titles."""
        self._titles = titles
        self.setAccessibleDescription(", ".join(titles))
        self._grow()
        self.update()

    def sizeHint(self) -> QSize:  # noqa: N802
        return QSize(WIDE, self.height())

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        return QSize(0, self._line())

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        super().resizeEvent(event)
        self._grow()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802, ARG002
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        shades = theme.colours()
        align = int(Qt.AlignmentFlag.AlignVCenter)
        for place, (title, box) in enumerate(self._places(self.width())):
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(shades.series[place % len(shades.series)]))
            painter.drawEllipse(QPointF(box.left() + 4, box.center().y()), 4, 4)
            painter.setPen(QColor(shades.muted))
            room = box.adjusted(DOT, 0, 0, 0)
            painter.drawText(room, align, self._fitted(title, room.width()))

    def _places(self, width: int) -> Iterator[tuple[str, QRectF]]:
        left, top = 0, 0
        for title in self._titles:
            wanted = self._width(title)
            if left and left + wanted - GAP > width:
                left, top = 0, top + self._line()
            yield title, QRectF(left, top, min(wanted - GAP, width - left), self._line())
            left += wanted

    def _grow(self) -> None:
        """Take the height that all titles need in the present width."""
        bottoms = [int(box.bottom()) for _, box in self._places(self.width())]
        self.setFixedHeight(max(bottoms, default=self._line()))

    def _fitted(self, title: str, width: float) -> str:
        middle = Qt.TextElideMode.ElideMiddle
        return self.fontMetrics().elidedText(title, middle, round(width) + 1)

    def _line(self) -> int:
        return self.fontMetrics().height() + 2

    def _width(self, title: str) -> int:
        return DOT + self.fontMetrics().horizontalAdvance(title) + GAP
