"""A page that scrolls from top to bottom, made of titled sections."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLayout, QScrollArea, QVBoxLayout, QWidget

from featherweight.gui.widgets.text import label, page, rule


class Panel(QScrollArea):
    """Sections below each other; it scrolls where there is not enough height."""

    def __init__(self, said: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        # It takes the keyboard to scroll, and must say what it is.
        self.setAccessibleName(said)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        ground = page()
        self._column = QVBoxLayout(ground)
        self._column.setContentsMargins(16, 16, 16, 16)
        self._column.setSpacing(12)
        self._column.addStretch(1)
        self.setWidget(ground)

    def add(self, piece: QWidget | QLayout) -> None:
        """Append a widget or a layout."""
        place = self._column.count() - 1
        if isinstance(piece, QLayout):
            self._column.insertLayout(place, piece)
        else:
            self._column.insertWidget(place, piece)


class Section(QWidget):
    """A hairline, a title, an optional control beside the title, and what belongs to it."""

    def __init__(self, title: str, corner: QWidget | None = None, line: bool = True) -> None:
        super().__init__()
        self.body = QVBoxLayout(self)
        self.body.setContentsMargins(0, 0, 0, 0)
        self.body.setSpacing(8)
        if line:
            self.body.addWidget(rule())
            self.body.addSpacing(4)
        self.title = label(title, "section")
        top = QHBoxLayout()
        top.setSpacing(8)
        top.addWidget(self.title)
        top.addStretch(1)
        if corner is not None:
            top.addWidget(corner)
        self.body.addLayout(top)
