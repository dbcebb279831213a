"""Two things to choose, one to be set against the other, and the button that does it."""

from collections.abc import Sequence

from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QPushButton, QWidget

from featherweight.gui.widgets.text import label

Choice = tuple[str, str]
WIDEST = 200


class PairBar(QWidget):
    """Choices are a title and what it stands for; `changed` tells that another was chosen."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setProperty("role", "page")
        self.after, self.before = QComboBox(), QComboBox()
        self.after.setObjectName("flips_after")
        self.after.setAccessibleName("Result to look at")
        self.before.setObjectName("flips_before")
        self.before.setAccessibleName("What it is compared with")
        self.button = QPushButton("Compare")
        self.button.setObjectName("flips_compare_button")
        self.button.setProperty("role", "primary")
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 8, 12, 4)
        row.setSpacing(8)
        for piece in (self.after, label("against", "muted"), self.before, self.button):
            row.addWidget(piece)
        row.addStretch(1)
        for box in (self.after, self.before):
            box.setMaximumWidth(WIDEST)
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
            box.activated.connect(lambda: self.changed.emit())

    @property
    def pair(self) -> tuple[str, str]:
        """What is chosen: before, after."""
        return str(self.before.currentData() or ""), str(self.after.currentData() or "")

    def offer(self, befores: Sequence[Choice], afters: Sequence[Choice]) -> None:
        """Offer other choices; what is chosen stays where it is still there."""
        kept = self.pair
        for box, choices in ((self.before, befores), (self.after, afters)):
            with QSignalBlocker(box):
                box.clear()
                for title, meant in choices:
                    box.addItem(title, meant)
        self.choose(kept)

    def choose(self, pair: tuple[str, str]) -> None:
        """Choose before and after; the last one of what is to be looked at where it is gone."""
        before, after = pair
        with QSignalBlocker(self.before), QSignalBlocker(self.after):
            self.before.setCurrentIndex(max(self.before.findData(before), 0))
            place = self.after.findData(after)
            self.after.setCurrentIndex(place if place >= 0 else self.after.count() - 1)
