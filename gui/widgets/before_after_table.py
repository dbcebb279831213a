"""A small table of figures before and after, for several things side by side."""

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QLabel, QWidget

from featherweight.gui.widgets.text import label


class BeforeAfterTable(QWidget):
    """One column for each thing, one row for each figure; below each figure how far it moved."""

    def __init__(
        self, name: str, columns: Sequence[tuple[str, str]], rows: Sequence[tuple[str, str]]
    ) -> None:
        super().__init__()
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(16)
        grid.setVerticalSpacing(2)
        self.heads: dict[str, QLabel] = {}
        self._cells: dict[tuple[str, str], tuple[QLabel, QLabel]] = {}
        for column, (thing, title) in enumerate(columns, 1):
            self.heads[thing] = label(title, "muted")
            grid.addWidget(self.heads[thing], 0, column)
            grid.setColumnStretch(column, 1)
        for row, (figure, title) in enumerate(rows):
            grid.addWidget(label(title, "muted"), 1 + 2 * row, 0)
            for column, (thing, _) in enumerate(columns, 1):
                value, moved = label(""), label("", "muted")
                value.setObjectName(f"{name}_{thing}_{figure}")
                value.setAccessibleName(f"{title}, {thing}")
                grid.addWidget(value, 1 + 2 * row, column)
                grid.addWidget(moved, 2 + 2 * row, column, Qt.AlignmentFlag.AlignTop)
                self._cells[thing, figure] = (value, moved)

    def show_cell(self, thing: str, figure: str, value: str, moved: str) -> None:
        """Show another value."""
        for piece, text in zip(self._cells[thing, figure], (value, moved), strict=True):
            piece.setText(text)
