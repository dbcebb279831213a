"""What the colours of a picture stand for: a scale, or one dot for each of a few things."""

from collections.abc import Sequence

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QLinearGradient, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from featherweight.gui import theme

SCALE_WIDTH, SCALE_HEIGHT = 96, 8
DOT, GAP = 14, 16


class ColourKey(QWidget):
    """One line; it says in its description what it paints."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._shades: tuple[str, ...] = ()
        self._texts: tuple[str, ...] = ()
        self._scale = False
        self.setAccessibleName("What the colours mean")
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def show_scale(self, shades: Sequence[str], low: str, high: str) -> None:
        """Show colours that run from a low to a high value."""
        self._show(tuple(shades), (low, high), scale=True)

    def show_entries(self, entries: Sequence[tuple[str, str]]) -> None:
        """Show colours with what each stands for."""
        self._show(tuple(s for s, _ in entries), tuple(t for _, t in entries), scale=False)

    def sizeHint(self) -> QSize:  # noqa: N802
        metrics = self.fontMetrics()
        texts = sum(metrics.horizontalAdvance(text) for text in self._texts)
        if self._scale:
            return QSize(texts + SCALE_WIDTH + 18, metrics.height() + 2)
        return QSize(texts + len(self._texts) * (DOT + GAP), metrics.height() + 2)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        return QSize(0, self.fontMetrics().height() + 2)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802, ARG002
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self._scale:
            self._paint_scale(painter)
        else:
            self._paint_entries(painter)
        painter.end()

    def _show(self, shades: tuple[str, ...], texts: tuple[str, ...], scale: bool) -> None:
        self._shades, self._texts, self._scale = shades, texts, scale
        self.setAccessibleDescription((" to " if scale else ", ").join(texts))
        self.updateGeometry()
        self.update()

    def _paint_scale(self, painter: QPainter) -> None:
        low, high = self._texts
        left = float(self.fontMetrics().horizontalAdvance(low) + 8)
        self._write(painter, 0.0, low)
        bar = QRectF(left, (self.height() - SCALE_HEIGHT) / 2, SCALE_WIDTH, SCALE_HEIGHT)
        gradient = QLinearGradient(bar.topLeft(), bar.topRight())
        for place, shade in enumerate(self._shades):
            gradient.setColorAt(place / max(len(self._shades) - 1, 1), QColor(shade))
        painter.setPen(QColor(theme.colours().line))
        painter.setBrush(gradient)
        painter.drawRoundedRect(bar, 3, 3)
        self._write(painter, bar.right() + 8, high)

    def _paint_entries(self, painter: QPainter) -> None:
        left = 0.0
        for shade, text in zip(self._shades, self._texts, strict=True):
            if shade:
                painter.setPen(Qt.PenStyle.NoPen)
                painter.setBrush(QColor(shade))
                painter.drawEllipse(QPointF(left + 4, self.height() / 2), 4, 4)
            self._write(painter, left + (DOT if shade else 0), text)
            left += DOT + self.fontMetrics().horizontalAdvance(text) + GAP

    def _write(self, painter: QPainter, left: float, text: str) -> None:
        painter.setPen(QColor(theme.colours().muted))
        box = QRectF(left, 0, self.width(), self.height())
        painter.drawText(box, int(Qt.AlignmentFlag.AlignVCenter), text)
