"""A few large figures side by side, each under its title and with a note below."""

from collections.abc import Mapping

from PySide6.QtWidgets import QGridLayout, QLabel, QWidget

from featherweight.gui.widgets.text import label


class FigureRow(QWidget):
    """Figures by name, each with its share of the width; names follow `prefix` in object names."""

    def __init__(self, prefix: str, names: Mapping[str, int]) -> None:
        super().__init__()
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(16)
        grid.setVerticalSpacing(0)
        self._cells: dict[str, tuple[QLabel, QLabel, QLabel]] = {}
        for column, (name, share) in enumerate(names.items()):
            pieces = label("", "muted"), label("", "figure"), label("", "muted")
            for row, piece in enumerate(pieces):
                grid.addWidget(piece, row, column)
            pieces[1].setObjectName(f"{prefix}_{name}")
            pieces[2].setObjectName(f"{prefix}_{name}_note")
            self._cells[name] = pieces
            grid.setColumnStretch(column, share)

    def show_figure(self, name: str, title: str, value: str, note: str = "") -> None:
        """Show another value of a figure."""
        for piece, text in zip(self._cells[name], (title, value, note), strict=True):
            piece.setText(text)
        self._cells[name][1].setAccessibleName(title)
        self._cells[name][2].setVisible(bool(note))
