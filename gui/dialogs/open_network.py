"""What a file of weights does not tell by itself: the code that builds the network, and shapes."""

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
from featherweight.engine.events import Source
from featherweight.gui.widgets.text import label

Dtype = Literal["float32", "int64"]
DTYPES: dict[str, Dtype] = {"Numbers (float32)": "float32", "Identifiers (int64)": "int64"}


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
        self._shapes = QLineEdit(shapes_to_text(source.input_shapes))
        self._shapes.setPlaceholderText("1 × 3 × 224 × 224; several inputs are separated by ;")
        self._dtype = QComboBox()
        self._dtype.addItems(list(DTYPES))
        if source.input_dtypes:
            self._dtype.setCurrentIndex(list(DTYPES.values()).index(source.input_dtypes[0]))
        self._problem = label("", "warning", wrap=True)
        self._problem.setObjectName("open_problem")
        self._build(reason)

    def accept(self) -> None:
        """Close only where everything can be read."""
        try:
            shapes = shapes_from_text(self._shapes.text())
        except UserError as error:
            self._problem.setText(str(error))
            self._problem.show()
            self._shapes.setFocus()
            return
        self.source = Source(
            path=self._given.path,
            factory=self._factory.text().strip(),
            trust=self._given.trust,
            input_shapes=shapes,
            input_dtypes=(DTYPES[self._dtype.currentText()],) * len(shapes),
        )
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
        form.addRow("Input &shapes", self._shapes)
        form.addRow("Input &kind", self._dtype)
        for field, name in (
            (self._factory, "Factory"),
            (self._shapes, "Input shapes"),
            (self._dtype, "Input kind"),
        ):
            field.setAccessibleName(name)
            field.setObjectName(name.lower().replace(" ", "_"))
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
        layout.addWidget(self._problem)
        layout.addWidget(buttons)
        self._problem.hide()

    def _on_browse(self) -> None:
        chooser = QFileDialog(self, "Choose a Python file", "", "Python (*.py)")
        chooser.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        chooser.fileSelected.connect(lambda path: self._factory.setText(f"{path}:build"))
        chooser.open()


def shapes_from_text(text: str) -> tuple[tuple[int, ...], ...]:
    """Read shapes such as `1 × 3 × 32 × 32; 1, 16`. Raises UserError naming what is no number."""
    shapes = []
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        sides = part.replace("×", " ").replace("x", " ").replace(",", " ").split()
        wrong = [side for side in sides if not side.isdecimal() or int(side) == 0]
        if wrong:
            raise UserError(
                f"{wrong[0]} in the input shape {part} is not a positive whole number.",
                "Write it as 1 × 3 × 224 × 224.",
            )
        shapes.append(tuple(map(int, sides)))
    return tuple(shapes)


def shapes_to_text(shapes: tuple[tuple[int, ...], ...]) -> str:
    """Write shapes so that `shapes_from_text` reads the same."""
    return "; ".join(" × ".join(map(str, shape)) for shape in shapes)
