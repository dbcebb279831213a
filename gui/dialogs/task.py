"""Which data tells how good the network is."""

from pathlib import Path
from typing import Literal

from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from featherweight.engine.errors import UserError
from featherweight.engine.events import TaskSource
from featherweight.gui.project_file import write_whole
from featherweight.gui.widgets.text import label
from featherweight.resources import templates

FILES = "Data (*.npz *.py *ubyte *ubyte.gz);;All files (*)"

KINDS: dict[str, Literal["classification", "fidelity"]] = {
    "Classification: top-1 and top-5 accuracy on labelled data": "classification",
    "Fidelity: how much it agrees with the original": "fidelity",
}


class TaskDialog(QDialog):
    """Asks what is measured and on which data; `task` is the answer."""

    def __init__(self, task: TaskSource | None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Choose data")
        self.setMinimumWidth(560)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._kind = QComboBox()
        self._kind.addItems(list(KINDS))
        self._kind.setAccessibleName("What is measured")
        if task is not None:
            self._kind.setCurrentIndex(list(KINDS.values()).index(task.kind))
        self._data = QLineEdit(task.data if task else "")
        self._data.setObjectName("task_data")
        self._data.setAccessibleName("Data file or folder")
        self._data.setPlaceholderText(".npz, IDX, a folder of class folders, or a Python file")
        self._kind.currentIndexChanged.connect(self._on_changed)
        self._data.textChanged.connect(self._on_changed)
        self._build()
        self._on_changed()

    @property
    def task(self) -> TaskSource:
        """What was chosen."""
        kind = KINDS[self._kind.currentText()]
        return TaskSource(kind=kind, data=self._data.text().strip())

    def offer(self, path: Path) -> None:
        """Fill in a file or folder."""
        # Images and labels of IDX are two files of one folder.
        self._data.setText(str(path.parent if "ubyte" in path.name else path))

    def _build(self) -> None:
        file, folder = QPushButton("File…"), QPushButton("Folder…")
        file.setAccessibleName("Choose a data file")
        folder.setAccessibleName("Choose a folder of class folders")
        file.clicked.connect(lambda: self._browse(QFileDialog.FileMode.ExistingFile))
        folder.clicked.connect(lambda: self._browse(QFileDialog.FileMode.Directory))
        where = QHBoxLayout()
        for piece in (self._data, file, folder):
            where.addWidget(piece)
        form = QFormLayout()
        form.addRow("&Measure", self._kind)
        data = QLabel("&Data")
        data.setBuddy(self._data)
        form.addRow(data, where)
        self._note = label("", "muted", wrap=True)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        template = buttons.addButton("Write a template…", QDialogButtonBox.ButtonRole.ResetRole)
        template.setObjectName("write_template")
        template.setToolTip("Write a Python file that gives samples, to be filled with your own")
        template.clicked.connect(self._on_template)
        self._accept = buttons.addButton("Use it", QDialogButtonBox.ButtonRole.AcceptRole)
        self._accept.setProperty("role", "primary")
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(20, 20, 20, 16)
        layout.setSpacing(12)
        layout.addWidget(label("What is the network for?", "heading"))
        layout.addLayout(form)
        layout.addWidget(self._note)
        layout.addWidget(buttons)

    def write_template(self, path: Path) -> None:
        """Write a Python file that gives samples as it stands, and choose it."""
        text = (Path(templates.__file__).parent / "dataset_template.txt").read_text()
        try:
            write_whole(path, text.encode())
        except UserError as error:
            self._note.setText(str(error))
            return
        self.offer(path)
        self._note.setText(f"{path.name} is written: fill in your samples, then use it.")

    def _on_template(self) -> None:
        chooser = QFileDialog(self, "Write a template", "", "Python (*.py)")
        chooser.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        chooser.setDefaultSuffix("py")
        chooser.selectFile("dataset.py")
        chooser.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        chooser.fileSelected.connect(lambda path: self.write_template(Path(path)))
        chooser.open()

    def _browse(self, mode: QFileDialog.FileMode) -> None:
        chooser = QFileDialog(self, "Choose data", "", FILES)
        chooser.setFileMode(mode)
        chooser.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        chooser.fileSelected.connect(lambda path: self.offer(Path(path)))
        chooser.open()

    def _on_changed(self) -> None:
        task = self.task
        needs_data = task.kind == "classification"
        self._accept.setEnabled(bool(task.data) or not needs_data)
        self._note.setText(
            "A part of the data is kept apart to measure on; recovery never sees it."
            if task.data or needs_data
            else "Without data the network is compared with itself on random inputs."
        )
