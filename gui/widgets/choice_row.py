"""Buttons in a row, of which one is on."""

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QButtonGroup, QHBoxLayout, QPushButton, QWidget


class ChoiceRow(QWidget):
    """One of several short texts; arrow keys move among them."""

    chosen = Signal(int)

    def __init__(self, names: Sequence[str], parent: QWidget | None = None) -> None:
        """Make a button for each object name; the first one is on."""
        super().__init__(parent)
        self._group = QButtonGroup(self)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        self.buttons = [QPushButton() for _ in names]
        for place, (name, button) in enumerate(zip(names, self.buttons, strict=True)):
            button.setObjectName(name)
            button.setProperty("role", "choice")
            button.setCheckable(True)
            self._group.addButton(button, place)
            row.addWidget(button)
        row.addStretch(1)
        self.choose(0)
        self._group.idClicked.connect(self.chosen)

    @property
    def place(self) -> int:
        """Which one is on."""
        return self._group.checkedId()

    def choose(self, place: int) -> None:
        """Turn another one on, without `chosen`."""
        self.buttons[place].setChecked(True)

    def name(self, texts: Sequence[str]) -> None:
        """Give the buttons other texts."""
        for text, button in zip(texts, self.buttons, strict=True):
            button.setText(text)
