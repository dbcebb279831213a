"""Two bars of one scale: a size before and after."""

from PySide6.QtCore import QRectF, QSize
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from featherweight.gui import theme
from featherweight.gui.widgets.share_bar import paint_share


class BeforeAfterBars(QWidget):
    """Two bars of one scale, the first the size before, the second the size after."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._after = 1.0
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    @property
    def share(self) -> float:
        """What is left of the size before."""
        return self._after

    def show_share(self, after: float) -> None:
        """Show what is left of the size before, 0 to 1."""
        self._after = after
        self.update()

    def sizeHint(self) -> QSize:  # noqa: N802
        return QSize(160, 20)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802, ARG002
        shades = theme.colours()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        scale = max(1.0, self._after)
        paint_share(painter, QRectF(0, 0, self.width(), 8), 1 / scale, shades.bar)
        box = QRectF(0, 12, self.width(), 8)
        paint_share(painter, box, self._after / scale, shades.accent, shades.track)
