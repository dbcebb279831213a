"""What is asked before a network opens: its inputs in words, and networks of libraries by name."""

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QComboBox, QLabel, QLineEdit, QListWidget, QPushButton
from pytestqt.qtbot import QtBot

from featherweight.engine.errors import UserError
from featherweight.engine.events import Dtype, Source
from featherweight.gui.dialogs.open_library import OpenLibraryDialog
from featherweight.gui.dialogs.open_network import OpenNetworkDialog
from featherweight.gui.dialogs.task import TaskDialog
from featherweight.gui.inputs_text import (
    inputs_to_text,
    values_from_text,
    values_to_text,
    with_inputs,
)
from featherweight.gui.main_window import MainWindow
from featherweight.gui.settings import Settings

NAMES = st.from_regex(r"[a-z_]\w{0,8}(\.\w{1,4})?", fullmatch=True)
KINDS: st.SearchStrategy[Dtype] = st.sampled_from(("float32", "int64"))
SHAPES = st.lists(st.integers(1, 9999), min_size=1, max_size=5).map(tuple)


@given(st.lists(st.tuples(st.just("") | NAMES, SHAPES, KINDS), min_size=1, max_size=4))
def test_that_inputs_written_as_text_read_back_equal(
    inputs: list[tuple[str, tuple[int, ...], Dtype]],
) -> None:
    names, shapes, kinds = (tuple(column) for column in zip(*inputs, strict=True))
    source = Source(
        path="net.pt",
        input_shapes=shapes,
        input_dtypes=kinds,
        input_names=names if any(names) else (),
    )
    assert with_inputs(Source(path="net.pt"), inputs_to_text(source), kinds[0]) == source


@given(st.lists(st.tuples(NAMES, st.floats(allow_nan=False, allow_infinity=False)), max_size=4))
def test_that_fixed_values_written_as_text_read_back_equal(
    values: list[tuple[str, float]],
) -> None:
    assert values_from_text(values_to_text(tuple(values))) == tuple(values)


@pytest.mark.parametrize("text", ["1 × three", "1 × 0", "mask =", "1 × 3 : float17"])
def test_that_inputs_which_make_no_sense_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(UserError) as caught:
        with_inputs(Source(path="net.pt"), text, "float32")
    assert caught.value.hint


def line(parent: OpenNetworkDialog | OpenLibraryDialog, name: str) -> QLineEdit:
    found = parent.findChild(QLineEdit, name)
    assert isinstance(found, QLineEdit)
    return found


def test_that_inputs_which_keep_one_value_are_asked_for(window: MainWindow) -> None:
    known = Source(path="vad.onnx", input_values=(("gain", 0.5),))
    dialog = OpenNetworkDialog(known, "Its condition depends on the input.", window)
    dialog.open()
    values = line(dialog, "fixed_values")
    assert values.text() == "gain = 0.5"
    values.setText("gain = 0.5; sr = fast")
    dialog.accept()
    assert dialog.isVisible()
    problem = dialog.findChild(QLabel, "open_problem")
    assert isinstance(problem, QLabel)
    assert problem.text().startswith("sr = fast is no input with its value.")
    values.setText("gain = 0.5; sr = 16000")
    line(dialog, "input_shapes").setText("1 × 512; mask = 1 × 512 : int64")
    dialog.accept()
    assert not dialog.isVisible()
    assert dialog.source == Source(
        path="vad.onnx",
        input_shapes=((1, 512), (1, 512)),
        input_dtypes=("float32", "int64"),
        input_names=("", "mask"),
        input_values=(("gain", 0.5), ("sr", 16000.0)),
    )


def opened_dialog(window: MainWindow) -> OpenLibraryDialog:
    found = [each for each in window.findChildren(OpenLibraryDialog) if each.isVisible()]
    assert len(found) == 1
    return found[0]


def test_that_a_network_of_a_library_opens_by_name_and_is_found_among_the_recent(
    window: MainWindow, own_folder: Path, qtbot: QtBot
) -> None:
    window.document._client.start()
    window.commands["open_library"].trigger()
    dialog = opened_dialog(window)
    name = dialog.findChild(QComboBox, "library_name")
    assert isinstance(name, QComboBox)
    name.setCurrentText("timm:resnet18")
    line(dialog, "input_shapes").setText("1 × 3 × 64 × 64")
    with qtbot.waitSignal(window.document.network_changed):
        dialog.accept()
    assert window.document.source == Source(
        path="timm:resnet18", input_shapes=((1, 3, 64, 64),), input_dtypes=("float32",)
    )
    settings = Settings(own_folder)
    assert [source.path for source in settings.libraries] == ["timm:resnet18"]
    assert settings.recent == (Path("timm:resnet18"),)
    window.start_screen.refresh()
    listed = window.findChild(QListWidget, "recent_files")
    assert isinstance(listed, QListWidget)
    qtbot.waitUntil(lambda: not window.document.busy)
    listed.itemActivated.emit(listed.item(0))
    again = opened_dialog(window)
    assert line(again, "input_shapes").text() == "1 × 3 × 64 × 64"
    again.reject()


def test_that_only_a_name_of_a_library_and_its_network_can_be_opened(window: MainWindow) -> None:
    dialog = OpenLibraryDialog((), "", window)
    name = dialog.findChild(QComboBox, "library_name")
    assert isinstance(name, QComboBox)
    for text, possible in (("timm", False), ("a b:c", False), ("timm:resnet18", True)):
        name.setCurrentText(text)
        assert dialog.open_button.isEnabled() == possible


def test_that_a_library_that_is_missing_is_asked_for_again_from_its_notice(
    window: MainWindow, qtbot: QtBot
) -> None:
    window._client.start()
    source = Source(path="timm:resnet18")
    window.document.open_failed.emit(source, "timm is not there.", "Install it.", "")
    assert window.notices.text == "timm is not there. Install it."
    action = window.findChild(QPushButton, "notice_action")
    assert isinstance(action, QPushButton)
    qtbot.mouseClick(action, Qt.MouseButton.LeftButton)
    dialog = opened_dialog(window)
    assert "timm is not there. Install it." in [one.text() for one in dialog.findChildren(QLabel)]
    dialog.reject()


def test_that_a_template_of_a_data_file_is_written_and_chosen(
    window: MainWindow, tmp_path: Path
) -> None:
    dialog = TaskDialog(None, window)
    dialog.open()
    path = tmp_path / "mine.py"
    dialog.write_template(path)
    assert dialog.task.data == str(path)
    names = {part.name for part in ast.parse(path.read_text()).body if hasattr(part, "name")}
    assert {"recovery", "measure"} <= names
    dialog.write_template(tmp_path / "missing" / "mine.py")
    assert dialog.task.data == str(path)
    said = [label.text() for label in dialog.findChildren(QLabel)]
    assert any(str(tmp_path / "missing" / "mine.py") in text for text in said)
