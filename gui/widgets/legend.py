"""The colours and dashes of a chart's series, each with what it stands for."""

from collections.abc import Iterator, Sequence

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from featherweight.gui import theme
from featherweight.gui.widgets.line_style import Line

DOT = 14
DASHES = 16
GAP = 18
WIDE = 200


class Legend(QWidget):
    """One line, more where it is narrow; the first title has the first colour of the series."""

    def __init__(self, *titles: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._lines: tuple[Line, ...] = ()
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.show_titles(*titles)

    def show_titles(self, *titles: str) -> None:
        """Show other titles."""
        self.show_lines([Line(title, place) for place, title in enumerate(titles)])

    def show_lines(self, lines: Sequence[Line]) -> None:
        """Show the titles of other lines; those with dashes have them beside their titles."""
        self._lines = tuple(lines)
        self.setAccessibleDescription(", ".join(line.title for line in lines))
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
        for line, box in self._places(self.width()):
            left = QPointF(box.left(), box.center().y())
            if line.dash == "solid":
                painter.setPen(Qt.PenStyle.NoPen)
                painter.setBrush(line.colour(shades))
                painter.drawEllipse(left + QPointF(4, 0), 4, 4)
            else:
                painter.setPen(line.pen(shades))
                painter.drawLine(left, left + QPointF(DASHES, 0))
            painter.setPen(QColor(shades.muted))
            room = box.adjusted(_sign(line), 0, 0, 0)
            painter.drawText(room, align, self._fitted(line.title, room.width()))

    def _places(self, width: int) -> Iterator[tuple[Line, QRectF]]:
        left, top = 0, 0
        for line in self._lines:
            wanted = self._width(line)
            if left and left + wanted - GAP > width:
                left, top = 0, top + self._line()
            yield line, QRectF(left, top, min(wanted - GAP, width - left), self._line())
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

    def _width(self, line: Line) -> int:
        return _sign(line) + self.fontMetrics().horizontalAdvance(line.title) + GAP


def _sign(line: Line) -> int:
    """Return how much room the dot or the dashes before a title take."""
    return DOT if line.dash == "solid" else DASHES + DOT - 8
