"""How 8-bit layers are computed, asked for in the dialog of an export."""

from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QComboBox
from pytestqt.qtbot import QtBot

from featherweight.engine.events import TaskSource, TaskSummary
from featherweight.gui.dialogs.export import ExportDialog
from featherweight.gui.document import Document


def test_that_integer_options_show_for_onnx_with_data_alone(
    qtbot: QtBot, opened: Document, tmp_path: Path
) -> None:
    task = TaskSummary(
        source=TaskSource(data="data.npz"),
        recovery_samples=9,
        measure_samples=9,
        classes=3,
        metrics=("top1",),
    )
    without = ExportDialog(opened, "")
    qtbot.addWidget(without)
    without.open()
    assert not without.integers.isVisible()
    without.close()
    opened.task = task
    made = ExportDialog(opened, "")
    made.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose, False)
    qtbot.addWidget(made)
    made.open()
    made.path.setText(str(tmp_path / "net.onnx"))
    assert made.integers.isVisible()
    ways = made.findChild(QComboBox, "export_option_ranges")
    assert isinstance(ways, QComboBox)
    assert ways.currentData() == "error"
    made.form.setCurrentIndex(made.form.findData("pt2"))
    assert not made.integers.isVisible()
