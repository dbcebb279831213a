"""The fields that ask for the inputs of a network, for every dialog that opens one."""

import msgspec
from PySide6.QtWidgets import QComboBox, QFormLayout, QLineEdit

from featherweight.engine.errors import UserError
from featherweight.engine.events import Dtype, Source
from featherweight.gui.inputs_text import (
    inputs_to_text,
    values_from_text,
    values_to_text,
    with_inputs,
)
from featherweight.gui.widgets.text import label

KINDS: dict[str, Dtype] = {"Numbers (float32)": "float32", "Identifiers (int64)": "int64"}


class InputFields:
    """Shapes, their kind, and inputs that keep one value; what is wrong is told below them."""

    def __init__(self) -> None:
        self.shapes, self.values = QLineEdit(), QLineEdit()
        self.kind = QComboBox()
        self.kind.addItems(list(KINDS))
        self.problem = label("", "warning", wrap=True)
        self.problem.setObjectName("open_problem")
        self.problem.hide()
        self.shapes.setPlaceholderText("1 × 3 × 224 × 224; several are separated by ;")
        self.shapes.setToolTip(
            "Batch first. A keyword of the network goes before its shape, as mask = 1 × 16 : int64"
        )
        self.values.setPlaceholderText("sr = 16000; for inputs that never change")

    def add_to(self, form: QFormLayout) -> None:
        """Add a row for each field."""
        for title, field in (
            ("Input &shapes", self.shapes),
            ("Input &kind", self.kind),
            ("Fixed &values", self.values),
        ):
            name = title.replace("&", "")
            field.setAccessibleName(name)
            field.setObjectName(name.lower().replace(" ", "_"))
            form.addRow(title, field)

    def show_source(self, source: Source) -> None:
        """Fill in what a source says."""
        self.shapes.setText(inputs_to_text(source))
        self.values.setText(values_to_text(source.input_values))
        if source.input_dtypes:
            self.kind.setCurrentIndex(list(KINDS.values()).index(source.input_dtypes[0]))

    def read(self, source: Source) -> Source | None:
        """Return a source with what was filled in; None where it cannot be read, which is told."""
        field = self.shapes
        try:
            made = with_inputs(source, self.shapes.text(), KINDS[self.kind.currentText()])
            field = self.values
            return msgspec.structs.replace(made, input_values=values_from_text(field.text()))
        except UserError as error:
            self.problem.setText(str(error))
            self.problem.show()
            field.setFocus()
            return None
