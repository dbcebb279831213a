"""The size before and after, in one line and as two bars of one scale."""

from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from featherweight.engine.figures import Figure
from featherweight.gui import wording
from featherweight.gui.widgets.basis_badge import BasisBadge
from featherweight.gui.widgets.before_after_bars import BeforeAfterBars
from featherweight.gui.widgets.text import label


class SizeBars(QWidget):
    """Bytes before and after, how far they moved, and how the second is known."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.before = label("", "muted")
        self.after = label("", "section")
        self.moved = label("")
        self.bars = BeforeAfterBars()
        self.badge = BasisBadge()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        row = QHBoxLayout()
        row.setSpacing(6)
        for piece in (self.before, self.after, self.moved):
            row.addWidget(piece)
        row.addStretch(1)
        row.addWidget(self.badge)
        layout.addLayout(row)
        layout.addWidget(self.bars)
        layout.addStretch(1)

    def show_sizes(self, before: Figure | None, after: Figure | None) -> None:
        """Show other sizes, in bytes; None where one is not known yet."""
        self.before.setText(wording.size(before.value) if before else "")
        arrow = "→ " if before else ""
        self.after.setText(f"{arrow}{wording.size(after.value)}" if after else "")
        self.badge.setVisible(after is not None)
        self.bars.setVisible(before is not None and after is not None)
        self.moved.setText("")
        if after is not None:
            self.badge.show_basis(after.basis)
        if before is not None and after is not None and before.value:
            self.moved.setText(wording.change(before.value, after.value))
            self.bars.show_share(after.value / before.value)
