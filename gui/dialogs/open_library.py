"""Which network of an installed library to open, by its name."""

import msgspec
from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QVBoxLayout,
    QWidget,
)

from featherweight.engine.events import Source, is_library_name
from featherweight.gui.dialogs.input_fields import InputFields
from featherweight.gui.widgets.text import label

SUGGESTED = "1 × 3 × 224 × 224"


class OpenLibraryDialog(QDialog):
    """Asks for `library:network` and its inputs; `source` is the answer once it is accepted."""

    def __init__(
        self, recent: tuple[Source, ...], reason: str = "", parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Open from library")
        self.setMinimumWidth(560)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.source = Source(path="")
        self._recent = {source.path: source for source in recent}
        self._fields = InputFields()
        self._fields.shapes.setText(SUGGESTED)
        self._name = QComboBox()
        self._name.setEditable(True)
        self._name.addItems(list(self._recent))
        self._name.setObjectName("library_name")
        self._name.setAccessibleName("Library and network")
        edit = self._name.lineEdit()
        if edit is not None:
            edit.setPlaceholderText("torchvision:resnet50, timm:vit_base_patch16_224")
        self._build(reason)
        self._name.currentTextChanged.connect(self._on_name_changed)
        self._on_name_changed(self._name.currentText())

    def accept(self) -> None:
        """Close only where everything can be read."""
        name = self._name.currentText().strip()
        known = self._recent.get(name, Source(path=name))
        source = self._fields.read(msgspec.structs.replace(known, path=name))
        if source is not None:
            self.source = source
            super().accept()

    def _build(self, reason: str) -> None:
        form = QFormLayout()
        form.addRow("&Network", self._name)
        self._fields.add_to(form)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.open_button = buttons.addButton("Open", QDialogButtonBox.ButtonRole.AcceptRole)
        self.open_button.setProperty("role", "primary")
        self.open_button.setDefault(True)
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(20, 20, 20, 16)
        layout.setSpacing(12)
        layout.addWidget(label("A network of a library", "heading"))
        said = reason or (
            "The library has to be installed beside Featherweight. It builds the network with"
            " random weights; open a file of weights with it as the factory for trained ones."
        )
        layout.addWidget(label(said, "muted", wrap=True))
        layout.addLayout(form)
        layout.addWidget(self._fields.problem)
        layout.addWidget(buttons)

    def _on_name_changed(self, text: str) -> None:
        name = text.strip()
        self.open_button.setEnabled(is_library_name(name))
        if name in self._recent:
            self._fields.show_source(self._recent[name])
