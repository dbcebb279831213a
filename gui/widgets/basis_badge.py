"""A small badge that says how a figure came to be known."""

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetrics, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from featherweight.engine.figures import Basis
from featherweight.gui import theme, wording


class BasisBadge(QWidget):
    """Shows `estimated`, `simulated` or `measured`; its colour is not the only thing that tells."""

    def __init__(self, basis: Basis = "estimated", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self._basis: Basis = basis
        self.show_basis(basis)

    @property
    def basis(self) -> Basis:
        """The basis that is shown."""
        return self._basis

    def show_basis(self, basis: Basis) -> None:
        """Show another basis."""
        self._basis = basis
        self.setToolTip(wording.BASIS_HELP[basis])
        self.setAccessibleName(wording.BASIS_TITLES[basis])
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:  # noqa: N802
        metrics = QFontMetrics(self._small())
        return QSize(
            metrics.horizontalAdvance(wording.BASIS_TITLES[self._basis]) + 14, metrics.height() + 4
        )

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802, ARG002
        shades = theme.colours()
        shade = {
            "estimated": shades.muted,
            "simulated": shades.warning,
            "measured": shades.good,
        }[self._basis]
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ground = QColor(shade)
        ground.setAlphaF(0.12)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(ground)
        box = QRectF(self.rect())
        painter.drawRoundedRect(box, box.height() / 2, box.height() / 2)
        painter.setPen(QColor(shade))
        painter.setFont(self._small())
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter, wording.BASIS_TITLES[self._basis])

    def _small(self) -> QFont:
        small = QFont(self.font())
        small.setPointSizeF(max(7.5, self.font().pointSizeF() - 1.5))
        return small
