"""The question whether what a run has done may be thrown away."""

from PySide6.QtWidgets import QMessageBox, QWidget

from featherweight.gui.dialogs.question import Question
from featherweight.gui.job import Job


def discard_question(job: Job, parent: QWidget) -> QMessageBox:
    """Return the question, ready to be opened; accepted means that the run may go."""
    done = f"What it did in {job.step} of {job.steps} steps" if job.steps else "What it did"
    return Question(
        name="discard_question",
        title="Cancel the run?",
        text=f"Cancel {job.name}?",
        details=f"{done} is thrown away. A paused run keeps it.",
        go="Throw away",
        stay="Keep it",
    ).box(parent)
