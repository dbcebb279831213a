"""Projects in the window: where their network lies, what fits it no more, and who has them open."""

from pathlib import Path

from PySide6.QtWidgets import QFileDialog, QPushButton
from pytestqt.qtbot import QtBot

from featherweight.engine.events import Source
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.gui.document import Document
from featherweight.gui.main_window import MainWindow
from featherweight.gui.project_file import Project, write_project


def saved_project(folder: Path, network: Path) -> Path:
    """Write a project with two choices."""
    path = folder / "mine.featherweight"
    choice = Choice(precision=Setting("integer", {"bits": 4}))
    recipe = Recipe(layers={"stem": choice, "gone": choice})
    write_project(path, Project(name="mine", source=Source(path=str(network)), recipe=recipe))
    return path


def test_that_a_network_beside_its_moved_project_is_found(
    window: MainWindow, qtbot: QtBot, tmp_path: Path
) -> None:
    (tmp_path / "net.onnx").touch()
    path = saved_project(tmp_path, Path("/elsewhere/net.onnx"))
    window._client.start()
    window.open_path(path)
    qtbot.waitUntil(lambda: window.document.network is not None)
    assert window.document.network is not None
    assert window.document.network.path == str(tmp_path / "net.onnx")
    assert window.document.unsaved


def test_that_a_lost_network_is_found_by_the_person(
    window: MainWindow, qtbot: QtBot, tmp_path: Path
) -> None:
    path = saved_project(tmp_path, Path("/elsewhere/net.onnx"))
    window._client.start()
    window.open_path(path)
    qtbot.waitUntil(lambda: "not where it was: /elsewhere/net.onnx" in window.notices.text)
    (tmp_path / "other.onnx").touch()
    action = window.notices.findChild(QPushButton, "notice_action")
    assert isinstance(action, QPushButton)
    action.click()
    dialog = window.findChild(QFileDialog)
    assert isinstance(dialog, QFileDialog)
    dialog.fileSelected.emit(str(tmp_path / "other.onnx"))
    dialog.close()
    qtbot.waitUntil(lambda: window.document.network is not None)
    assert window.document.source == Source(path=str(tmp_path / "other.onnx"))
    assert window.document.path == path


def test_that_a_hint_names_fields_of_the_window_and_no_switches(
    window: MainWindow, qtbot: QtBot
) -> None:
    window._client.start()
    window.open_path(Path("/elsewhere/net.onnx"))
    qtbot.waitUntil(lambda: window.notices.text != "")
    assert window.notices.text == "It cannot be read. Try the input shape 1x8."


def test_that_choices_of_layers_which_are_gone_are_named_and_stay_on_disk(
    window: MainWindow, qtbot: QtBot, tmp_path: Path
) -> None:
    (tmp_path / "net.onnx").touch()
    path = saved_project(tmp_path, tmp_path / "net.onnx")
    before = path.read_bytes()
    window._client.start()
    window.open_path(path)
    qtbot.waitUntil(lambda: window.document.task is not None)
    assert window.notices.text.startswith("2 layers with choices are not in the network as it is")
    window.close()
    assert path.read_bytes() == before


def test_that_a_project_is_open_in_one_window_at_a_time(
    window: MainWindow, qtbot: QtBot, tmp_path: Path, own_folder: Path
) -> None:
    (tmp_path / "net.onnx").touch()
    path = saved_project(tmp_path, tmp_path / "net.onnx")
    window._client.start()
    other = Document(window._client, own_folder / "other", window)
    other.open_project(path)
    qtbot.waitUntil(lambda: other.path == path)
    window.open_path(path)
    assert window.notices.text.startswith(f"{path} is open in another window.")
    other.close()
    window.open_path(path)
    qtbot.waitUntil(lambda: window.document.path == path)
