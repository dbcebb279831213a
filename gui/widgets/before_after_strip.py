"""Figures before and after below each other, each with how far it moved."""

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QLabel, QWidget

from featherweight.gui.widgets.text import label


class BeforeAfterStrip(QWidget):
    """One row for each figure: its title, before and after, and the change at the right."""

    def __init__(self, prefix: str, figures: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(16)
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(2, 1)
        self._titles: dict[str, QLabel] = {}
        self._cells: dict[str, tuple[QLabel, QLabel]] = {}
        for row, (name, title) in enumerate(figures):
            value, moved = label("", "section"), label("", "good")
            value.setObjectName(f"{prefix}_{name}")
            value.setAccessibleName(title)
            moved.setObjectName(f"{prefix}_{name}_moved")
            self._titles[name] = label(title, "muted")
            self._cells[name] = (value, moved)
            grid.addWidget(self._titles[name], row, 0)
            grid.addWidget(value, row, 1)
            grid.addWidget(moved, row, 2, Qt.AlignmentFlag.AlignRight)

    def show_figure(self, name: str, value: str, moved: str) -> None:
        """Show another value."""
        for piece, text in zip(self._cells[name], (value, moved), strict=True):
            piece.setText(text)

    def name(self, name: str, title: str, tip: str) -> None:
        """Give a figure another title, with a tip."""
        self._titles[name].setText(title)
        self._titles[name].setToolTip(tip)
