"""The question whether a job may be stopped by closing the window."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QMessageBox, QWidget

from featherweight.gui.job import Job

LEFT = {
    "compress": "It stops at its last checkpoint, and can be resumed from there when the project"
    " is opened again.",
    "export": "The file will not be written.",
    "sensitivity": "Nothing of the estimate is kept.",
    "sweep": "What was read is kept; the sweep can go on from there.",
    "refine": "The recipe stays as it is now.",
    "blame": "No layer will be named.",
    "rate": "No learning rate will be suggested.",
    "flips": "The comparison begins anew next time.",
}


def stop_question(job: Job, parent: QWidget) -> QMessageBox:
    """Return the question, ready to be opened; accepted means that the window may close."""
    box = QMessageBox(parent)
    box.setObjectName("stop_question")
    box.setWindowTitle("Close the window?")
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.setText(f"{job.name} is still going.")
    box.setInformativeText(LEFT[job.kind])
    box.addButton("Stop and close", QMessageBox.ButtonRole.AcceptRole)
    stay = box.addButton("Keep it going", QMessageBox.ButtonRole.RejectRole)
    box.setDefaultButton(stay)
    box.setEscapeButton(stay)
    return box
