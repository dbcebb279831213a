"""The question whether what a run has done may be thrown away."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QMessageBox, QWidget

from featherweight.gui.job import Job


def discard_question(job: Job, parent: QWidget) -> QMessageBox:
    """Return the question, ready to be opened; accepted means that the run may go."""
    box = QMessageBox(parent)
    box.setObjectName("discard_question")
    box.setWindowTitle("Cancel the run?")
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.setText(f"Cancel {job.name}?")
    done = f"What it did in {job.step} of {job.steps} steps" if job.steps else "What it did"
    box.setInformativeText(f"{done} is thrown away. A paused run keeps it.")
    box.addButton("Throw away", QMessageBox.ButtonRole.AcceptRole)
    keep = box.addButton("Keep it", QMessageBox.ButtonRole.RejectRole)
    box.setDefaultButton(keep)
    box.setEscapeButton(keep)
    return box
