"""The question whether a result may be thrown away."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QMessageBox, QWidget


def delete_question(name: str, shared: bool, parent: QWidget) -> QMessageBox:
    """Return the question, ready to be opened; accepted means that the result may go."""
    box = QMessageBox(parent)
    box.setObjectName("delete_question")
    box.setWindowTitle("Delete the result?")
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.setText(f"Delete the result {name}?")
    box.setInformativeText(
        "Its archive stays, because another result uses it."
        if shared
        else "Its archive is deleted from the disk, which cannot be undone. Its recipe can be"
        " restored first."
    )
    box.addButton("Delete", QMessageBox.ButtonRole.AcceptRole)
    keep = box.addButton("Keep", QMessageBox.ButtonRole.RejectRole)
    box.setDefaultButton(keep)
    box.setEscapeButton(keep)
    return box
