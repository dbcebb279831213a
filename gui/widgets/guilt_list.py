"""Layers that lose more than was predicted, each with a button that makes its choice milder."""

from collections.abc import Sequence
from typing import NamedTuple

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QGridLayout, QPushButton, QWidget

from featherweight.gui.widgets.text import ElidedLabel, label


class Blamed(NamedTuple):
    """A layer, what is said of it, what a milder choice is, and whether it has that already."""

    layer: str
    words: str
    milder: str
    relaxed: bool


class GuiltList(QWidget):
    """Two lines for each layer, the worst first."""

    relaxed = Signal(int)  # the place of a layer

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.buttons: list[QPushButton] = []
        self._shown: tuple[Blamed, ...] = ()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(12)
        self._grid.setVerticalSpacing(4)
        self._grid.setColumnStretch(0, 1)

    def show_layers(self, layers: Sequence[Blamed]) -> None:
        """Show other layers."""
        if tuple(layers) == self._shown:
            return
        self._shown = tuple(layers)
        self.buttons.clear()
        while (item := self._grid.takeAt(0)) is not None:
            piece = item.widget()
            if piece is not None:
                piece.hide()
                piece.deleteLater()
        for row, blamed in enumerate(layers):
            self._add(row, blamed)

    def _add(self, row: int, blamed: Blamed) -> None:
        name = ElidedLabel(blamed.layer)
        words = label(blamed.words, "muted")
        button = QPushButton("Relaxed" if blamed.relaxed else "Relax")
        button.setObjectName(f"relax_{row}")
        button.setAccessibleName(f"Relax {blamed.layer}")
        button.setToolTip(f"Give it a milder choice: {blamed.milder}")
        button.setEnabled(not blamed.relaxed)
        button.clicked.connect(lambda: self.relaxed.emit(row))
        self._grid.addWidget(name, 2 * row, 0)
        self._grid.addWidget(words, 2 * row + 1, 0)
        self._grid.addWidget(button, 2 * row, 1, 2, 1)
        self.buttons.append(button)
