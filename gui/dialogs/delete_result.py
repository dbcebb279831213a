"""The question whether a result may be thrown away."""

from PySide6.QtWidgets import QMessageBox, QWidget

from featherweight.gui.dialogs.question import Question


def delete_question(name: str, shared: bool, parent: QWidget) -> QMessageBox:
    """Return the question, ready to be opened; accepted means that the result may go."""
    details = (
        "Its archive stays, because another result uses it."
        if shared
        else "Its archive is deleted from the disk, which cannot be undone. Its recipe can be"
        " restored first."
    )
    return Question(
        name="delete_question",
        title="Delete the result?",
        text=f"Delete the result {name}?",
        details=details,
        go="Delete",
        stay="Keep",
    ).box(parent)
