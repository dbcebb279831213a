"""What a file of weights does not tell by itself: the code that builds the network, and shapes."""

import msgspec
from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
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

from featherweight.engine.events import Source
from featherweight.gui.dialogs.input_fields import InputFields
from featherweight.gui.widgets.text import label


class OpenNetworkDialog(QDialog):
    """Asks for the factory and the input shapes; `source` is the answer once it is accepted."""

    def __init__(self, source: Source, reason: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Describe the file")
        self.setMinimumWidth(560)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._given = self.source = source
        self._factory = QLineEdit(source.factory)
        self._factory.setPlaceholderText("module:callable or path/to/file.py:callable")
        self._fields = InputFields()
        self._fields.show_source(source)
        self._build(reason)

    def accept(self) -> None:
        """Close only where everything can be read."""
        given = msgspec.structs.replace(self._given, factory=self._factory.text().strip())
        source = self._fields.read(given)
        if source is not None:
            self.source = source
            super().accept()

    def _build(self, reason: str) -> None:
        browse = QPushButton("Browse…")
        browse.setAccessibleName("Choose the Python file of the factory")
        browse.clicked.connect(self._on_browse)
        factory = QHBoxLayout()
        factory.addWidget(self._factory)
        factory.addWidget(browse)
        form = QFormLayout()
        title = QLabel("&Factory")
        title.setBuddy(self._factory)
        form.addRow(title, factory)
        self._factory.setAccessibleName("Factory")
        self._factory.setObjectName("factory")
        self._fields.add_to(form)
        buttons = QDialogButtonBox()
        accept = buttons.addButton("Open", QDialogButtonBox.ButtonRole.AcceptRole)
        accept.setProperty("role", "primary")
        buttons.addButton(QDialogButtonBox.StandardButton.Cancel)
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(20, 20, 20, 16)
        layout.setSpacing(12)
        layout.addWidget(label(self._given.path, "heading", wrap=True))
        layout.addWidget(label(reason, "muted", wrap=True))
        layout.addLayout(form)
        layout.addWidget(self._fields.problem)
        layout.addWidget(buttons)

    def _on_browse(self) -> None:
        chooser = QFileDialog(self, "Choose a Python file", "", "Python (*.py)")
        chooser.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        chooser.fileSelected.connect(lambda path: self._factory.setText(f"{path}:build"))
        chooser.open()
