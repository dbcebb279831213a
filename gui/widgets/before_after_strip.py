"""Figures after a change in a row, each with how far it moved below it."""

from collections.abc import Sequence

from PySide6.QtWidgets import QGridLayout, QLabel, QWidget

from featherweight.gui.widgets.text import label


class BeforeAfterStrip(QWidget):
    """One column for each figure: its title, its value, and where it comes from."""

    def __init__(self, prefix: str, figures: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(12)
        grid.setVerticalSpacing(1)
        self._titles: dict[str, QLabel] = {}
        self._cells: dict[str, tuple[QLabel, QLabel]] = {}
        for column, (name, title) in enumerate(figures):
            value, moved = label("", "figure"), label("", "muted")
            value.setObjectName(f"{prefix}_{name}")
            value.setAccessibleName(title)
            moved.setObjectName(f"{prefix}_{name}_moved")
            self._titles[name] = label(title, "muted")
            self._cells[name] = (value, moved)
            for row, piece in enumerate((self._titles[name], value, moved)):
                grid.addWidget(piece, row, column)
            grid.setColumnStretch(column, 1)

    def show_figure(self, name: str, value: str, moved: str) -> None:
        """Show another value."""
        for piece, text in zip(self._cells[name], (value, moved), strict=True):
            piece.setText(text)

    def name(self, name: str, title: str, tip: str) -> None:
        """Give a figure another title, with a tip."""
        self._titles[name].setText(title)
        self._titles[name].setToolTip(tip)
