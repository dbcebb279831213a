"""A figure before and after, with what it gained and how it is known."""

from PySide6.QtCore import QRectF, QSize
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QGridLayout, QSizePolicy, QWidget

from featherweight.engine.figures import Basis
from featherweight.gui import theme
from featherweight.gui.widgets.basis_badge import BasisBadge
from featherweight.gui.widgets.share_bar import paint_share
from featherweight.gui.widgets.text import label


class Comparison(QWidget):
    """Lines of `title  before → after  change  basis`, aligned with each other."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(10)
        self._grid.setVerticalSpacing(6)
        self._grid.setColumnStretch(1, 1)
        self._lines: dict[str, ComparisonLine] = {}

    def line(self, name: str, title: str) -> "ComparisonLine":
        """Return the line of a name; it is made where there is none yet."""
        if name not in self._lines:
            made = ComparisonLine(title)
            row = self._grid.rowCount()
            for column, piece in enumerate(made.pieces):
                self._grid.addWidget(piece, row, column)
            made.after.setObjectName(f"after_{name}")
            self._lines[name] = made
        return self._lines[name]

    def clear(self) -> None:
        """Take all lines away."""
        for line in self._lines.values():
            for piece in line.pieces:
                piece.hide()
                piece.deleteLater()
        self._lines.clear()


class ComparisonLine:
    """The pieces of one line."""

    def __init__(self, title: str) -> None:
        self.title = label(title, "muted")
        self.after = label("", "section")
        self.moved = label("")
        self.badge = BasisBadge()
        self.pieces: tuple[QWidget, ...] = (self.title, self.after, self.moved, self.badge)

    def show(self, before: str, after: str, moved: str, basis: Basis) -> None:
        """Show other values; `before` is left out where it is empty."""
        self.after.setText(f"{before} → {after}" if before else after)
        self.moved.setText(moved)
        self.badge.show_basis(basis)


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
