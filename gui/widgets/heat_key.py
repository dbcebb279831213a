"""What the colours of a heat map stand for: powers of ten, and how cells are known."""

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QBrush, QColor, QLinearGradient, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from featherweight.gui import theme, wording
from featherweight.gui.widgets.heat_map import hatch, ramp

BAR_WIDTH, BAR_HEIGHT, SWATCH, GAP = 160, 10, 14, 14
KNOWN = ("measured", "estimated", "failed", "not read")


class HeatKey(QWidget):
    """One line: the ramp with its ends and its middle in numbers, then the kinds of cells."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._numbers: tuple[str, ...] = ()
        self._places: list[float] = []
        self.setAccessibleName("What the colours mean")
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def show_scale(self, title: str, low: int, high: int) -> None:
        """Show a scale from one power of ten to another."""
        middle = (low + high) // 2
        powers = [low, middle, high] if low < middle < high else [low, high]
        self._places = [(power - low) / (high - low) for power in powers]
        self._numbers = tuple(map(wording.power, powers))
        said = f"{title} from {self._numbers[0]} to {self._numbers[-1]} in powers of ten"
        self.setAccessibleDescription(f"{said}; cells are {', '.join(KNOWN)}")
        self.setToolTip(said)
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:  # noqa: N802
        metrics = self.fontMetrics()
        words = sum(metrics.horizontalAdvance(word) + SWATCH + 4 + GAP for word in KNOWN)
        return QSize(self._left() + BAR_WIDTH + 2 * GAP + words, metrics.height() + BAR_HEIGHT + 6)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        return QSize(0, self.sizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802, ARG002
        painter = QPainter(self)
        shades = theme.colours()
        bar = QRectF(self._left(), 2, BAR_WIDTH, BAR_HEIGHT)
        gradient = QLinearGradient(bar.topLeft(), bar.topRight())
        for at, shade in enumerate(ramp()):
            gradient.setColorAt(at / (len(ramp()) - 1), QColor(shade))
        painter.fillRect(bar, gradient)
        painter.setPen(QColor(shades.muted))
        for place, number in zip(self._places, self._numbers, strict=True):
            middle = bar.left() + place * BAR_WIDTH
            below = QRectF(middle - 40, bar.bottom() + 1, 80, self.fontMetrics().height())
            painter.drawText(below, int(Qt.AlignmentFlag.AlignCenter), number)
        self._paint_kinds(painter, bar.right() + 2 * GAP, shades)

    def _paint_kinds(self, painter: QPainter, start: float, shades: theme.Colours) -> None:
        left: float = start
        warm = QColor(ramp()[3])
        looks = (
            (warm, None),
            (warm, hatch()),
            (QColor(shades.track), QBrush(QColor(shades.muted), Qt.BrushStyle.DiagCrossPattern)),
            (QColor(shades.window), None),
        )
        for word, (ground, over) in zip(KNOWN, looks, strict=True):
            box = QRectF(left, (self.height() - SWATCH) / 2, SWATCH, SWATCH)
            painter.fillRect(box, ground)
            if over is not None:
                painter.fillRect(box, over)
            painter.setPen(QColor(shades.line))
            painter.drawRect(box)
            painter.setPen(QColor(shades.muted))
            text = QRectF(box.right() + 5, 0, self.width(), self.height())
            painter.drawText(text, int(Qt.AlignmentFlag.AlignVCenter), word)
            left += SWATCH + 4 + self.fontMetrics().horizontalAdvance(word) + GAP

    def _left(self) -> int:
        return self.fontMetrics().horizontalAdvance("".join(self._numbers[:1])) // 2 + 2
