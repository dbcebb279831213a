"""A horizontal bar cut into parts of a whole, with its legend."""

from collections.abc import Sequence
from typing import NamedTuple

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetrics, QHelpEvent, QPainter, QPainterPath, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from featherweight.gui import theme, wording

BAR = 16
GAP = 10
LEGEND_ROW = 20


class Part(NamedTuple):
    """A part of the bar: its title, its size, and how the size reads."""

    title: str
    value: float
    text: str


class StackedBar(QWidget):
    """Parts side by side, in the order given; parts of no size are left out."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._parts: list[tuple[Part, int]] = []
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_parts(self, parts: Sequence[Part]) -> None:
        """Show other parts; each keeps the colour of its place in `parts`."""
        self._parts = [(part, place) for place, part in enumerate(parts) if part.value > 0]
        total = self._total()
        self.setAccessibleDescription(
            ", ".join(
                f"{part.title} {part.text} ({wording.percent(part.value / total)})"
                for part, _ in self._parts
            )
        )
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:  # noqa: N802
        return QSize(320, self.heightForWidth(max(self.width(), 320)))

    def hasHeightForWidth(self) -> bool:  # noqa: N802
        return True

    def heightForWidth(self, width: int) -> int:  # noqa: N802
        return BAR + GAP + LEGEND_ROW * len(self._rows(width))

    def resizeEvent(self, event: object) -> None:  # noqa: N802, ARG002
        self.setMinimumHeight(self.heightForWidth(self.width()))

    def event(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent):
            QToolTip.showText(event.globalPos(), self._tip(event.pos().x()), self)
            return True
        return super().event(event)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802, ARG002
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        kinds = theme.colours().kinds
        clip = QPainterPath()
        clip.addRoundedRect(QRectF(0, 0, self.width(), BAR), 4, 4)
        painter.save()
        painter.setClipPath(clip)
        painter.fillRect(0, 0, self.width(), BAR, QColor(theme.colours().track))
        left = 0.0
        for part, place in self._parts:
            width = self.width() * part.value / self._total()
            painter.fillRect(
                QRectF(left, 0, max(width - 1, 1), BAR), QColor(kinds[place % len(kinds)])
            )
            left += width
        painter.restore()
        self._paint_legend(painter, kinds)

    def _paint_legend(self, painter: QPainter, kinds: tuple[str, ...]) -> None:
        shades = theme.colours()
        top = BAR + GAP
        for row in self._rows(self.width()):
            for part, place, left in row:
                middle = top + LEGEND_ROW / 2
                painter.setPen(Qt.PenStyle.NoPen)
                painter.setBrush(QColor(kinds[place % len(kinds)]))
                painter.drawEllipse(QPointF(left + 4, middle), 4, 4)
                painter.setPen(QColor(shades.muted))
                box = QRectF(left + 14, top, self.width(), LEGEND_ROW)
                painter.drawText(box, Qt.AlignmentFlag.AlignVCenter, self._legend(part))
            top += LEGEND_ROW

    def _rows(self, width: int) -> list[list[tuple[Part, int, float]]]:
        metrics = QFontMetrics(self.font())
        rows: list[list[tuple[Part, int, float]]] = [[]]
        left = 0.0
        for part, place in self._parts:
            needed = 14 + metrics.horizontalAdvance(self._legend(part)) + 18
            if rows[-1] and left + needed - 18 > width:
                rows.append([])
                left = 0.0
            rows[-1].append((part, place, left))
            left += needed
        return rows

    def _legend(self, part: Part) -> str:
        return f"{part.title} {part.text}"

    def _total(self) -> float:
        return sum(part.value for part, _ in self._parts) or 1.0

    def _tip(self, x: int) -> str:
        left = 0.0
        for part, _ in self._parts:
            left += self.width() * part.value / self._total()
            if x <= left:
                return f"{part.title}: {part.text}, {wording.percent(part.value / self._total())}"
        return ""
