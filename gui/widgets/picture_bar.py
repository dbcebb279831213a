"""What stands above a large picture: search, what its colours tell, and how much of it to show."""

from collections.abc import Mapping

from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QAction, QKeyEvent
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLineEdit, QPushButton, QWidget

from featherweight.gui import icons, theme
from featherweight.gui.widgets.text import label

BUTTONS = {
    "fold": ("Fold", "Show every module as one block"),
    "unfold": ("Unfold", "Show every layer"),
    "fit": ("Fit", "Show the whole graph (F)"),
}


class PictureBar(QWidget):
    """Tells what was asked for; Enter in the search box goes on, Shift and Enter back."""

    searched = Signal(str)
    stepped = Signal(int)
    coloured = Signal(str)

    def __init__(self, colourings: Mapping[str, str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.search_box = QLineEdit()
        self.search_box.setObjectName("graph_search")
        self.search_box.setAccessibleName("Find in the graph")
        self.search_box.setPlaceholderText("Find a layer; Enter goes to the next")
        self.search_box.setClearButtonEnabled(True)
        self.search_box.installEventFilter(self)
        self.search_box.textChanged.connect(self.searched)
        self._glass = QAction(self)
        self.search_box.addAction(self._glass, QLineEdit.ActionPosition.LeadingPosition)
        self.colour_box = QComboBox()
        self.colour_box.setObjectName("graph_colour")
        self.colour_box.setAccessibleName("Colour by")
        self.colour_box.setToolTip("What the colour of a layer tells")
        for name, title in colourings.items():
            self.colour_box.addItem(title, name)
        self.colour_box.currentIndexChanged.connect(lambda: self.coloured.emit(self.colouring))
        layout = QHBoxLayout(self)
        layout.setContentsMargins(12, 8, 12, 8)
        layout.setSpacing(8)
        layout.addWidget(self.search_box, 1)
        layout.addWidget(label("Colour by", "muted"))
        layout.addWidget(self.colour_box)
        self.fold, self.unfold, self.fit = (self._button(name) for name in BUTTONS)
        for button in (self.fold, self.unfold, self.fit):
            layout.addWidget(button)
        self._dress()

    @property
    def colouring(self) -> str:
        """What the colours tell, by its name."""
        return str(self.colour_box.currentData())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        if isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress:
            if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
                back = event.modifiers() & Qt.KeyboardModifier.ShiftModifier
                self.stepped.emit(-1 if back else 1)
                return True
            if event.key() == Qt.Key.Key_Escape and self.search_box.text():
                self.search_box.clear()
                return True
        return super().eventFilter(watched, event)

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        if event.type() == QEvent.Type.PaletteChange:
            self._dress()
        super().changeEvent(event)

    def _dress(self) -> None:
        self._glass.setIcon(icons.icon("filter", theme.colours().muted))

    def _button(self, name: str) -> QPushButton:
        text, tip = BUTTONS[name]
        button = QPushButton(text)
        button.setObjectName(f"graph_{name}")
        button.setToolTip(tip)
        return button
