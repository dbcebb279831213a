"""A question before something that cannot be taken back; the careful answer is the default."""

from dataclasses import dataclass

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QMessageBox, QWidget


@dataclass(frozen=True)
class Question:
    """What is asked: `name` is the object's name, `go` and `stay` are the words on the buttons."""

    name: str
    title: str
    text: str
    details: str
    go: str
    stay: str

    def box(self, parent: QWidget) -> QMessageBox:
        """Return the question, ready to be opened; accepted means that it may go on."""
        box = QMessageBox(parent)
        box.setObjectName(self.name)
        box.setWindowTitle(self.title)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.setText(self.text)
        box.setInformativeText(self.details)
        box.addButton(self.go, QMessageBox.ButtonRole.AcceptRole)
        stay = box.addButton(self.stay, QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(stay)
        box.setEscapeButton(stay)
        return box
