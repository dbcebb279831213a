"""The question whether a job may be stopped by closing the window."""

from PySide6.QtWidgets import QMessageBox, QWidget

from featherweight.gui.dialogs.question import Question
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
    return Question(
        name="stop_question",
        title="Close the window?",
        text=f"{job.name} is still going.",
        details=LEFT[job.kind],
        go="Stop and close",
        stay="Keep it going",
    ).box(parent)
