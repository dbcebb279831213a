"""Pairs of a title and what it is, below each other."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QLabel, QWidget

from featherweight.gui.widgets.text import label


class Facts(QWidget):
    """A two-column list; lines that say nothing are left out."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(16)
        self._grid.setVerticalSpacing(4)
        self._grid.setColumnStretch(1, 1)
        self._lines: dict[str, tuple[QLabel, QLabel]] = {}

    def show_facts(self, facts: dict[str, str]) -> None:
        """Show these facts; those of before that are not among them are hidden."""
        for row, (title, value) in enumerate(facts.items()):
            if title not in self._lines:
                self._lines[title] = self._make(title)
            name, said = self._lines[title]
            said.setText(value)
            self._grid.addWidget(name, row, 0)
            self._grid.addWidget(said, row, 1)
        for title, line in self._lines.items():
            for piece in line:
                piece.setVisible(bool(facts.get(title)))

    def text(self, title: str) -> str:
        """Return what is said of a title, empty where it is not shown."""
        line = self._lines.get(title)
        return line[1].text() if line and not line[1].isHidden() else ""

    def _make(self, title: str) -> tuple[QLabel, QLabel]:
        name, value = label(title, "muted"), label("", wrap=True)
        name.setAlignment(Qt.AlignmentFlag.AlignTop)
        value.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        value.setAccessibleName(title)
        return name, value
