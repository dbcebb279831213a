"""The window before and without an engine: start screen, actions, notices, files, what it keeps."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QGuiApplication, QPalette
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDialog,
    QLabel,
    QLineEdit,
    QListWidget,
    QPlainTextEdit,
    QPushButton,
    QSlider,
    QWidget,
)
from pytestqt.qtbot import QtBot

from featherweight.engine.events import Opened, Predicted, Source, TrustNeeded
from featherweight.engine.layer import Layer, NetworkSummary
from featherweight.engine.recipe import Setting
from featherweight.engine.results import Cost, Prediction
from featherweight.gui import theme
from featherweight.gui.crash_report import CrashReport
from featherweight.gui.dialogs.open_network import OpenNetworkDialog
from featherweight.gui.dialogs.task import TaskDialog
from featherweight.gui.dialogs.trust import TrustDialog
from featherweight.gui.main_window import MainWindow
from featherweight.gui.project_file import Project, write_project
from featherweight.gui.settings import Settings

CONTROLS = (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QPlainTextEdit,
    QSlider,
)
FIRST_PAINT = """
import sys
from PySide6.QtWidgets import QApplication
from featherweight.gui import app
from featherweight.gui.main_window import MainWindow

paint = MainWindow.paintEvent

def paint_and_leave(self, event):
    paint(self, event)
    print([name for name in ("numpy", "pyqtgraph", "torch") if name in sys.modules])
    QApplication.quit()

MainWindow.paintEvent = paint_and_leave
app.main([])
"""
NETWORK = NetworkSummary(
    path="net.pt",
    format="pt",
    layers=(
        Layer(
            name="conv",
            kind="Conv2d",
            summary="",
            weights={"weight": (8, 8, 3, 3)},
            parameters=576,
            macs=100,
            activations=10,
            input_shape=(1, 8, 4, 4),
            output_shape=(1, 8, 4, 4),
        ),
    ),
    parameters=576,
    macs=100,
    input_shapes=((1, 8, 4, 4),),
    output_shapes=((1, 8),),
    file_bytes=100,
)


@pytest.fixture
def workbench(window: MainWindow) -> MainWindow:
    """Return the window with a network of one layer."""
    window.document.receive(Opened(network=NETWORK))
    return window


def button(window: QWidget, name: str) -> QPushButton:
    found = window.findChild(QPushButton, name)
    assert isinstance(found, QPushButton)
    return found


def is_inside_another_control(control: QWidget) -> bool:
    return isinstance(control.parent(), QAbstractSpinBox) or control.inherits("QComboBoxListView")


def drop(window: MainWindow, path: Path) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    held = (Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton)
    enter = QDragEnterEvent(QPoint(9, 9), *held, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(window, enter)
    assert enter.isAccepted()
    drop = QDropEvent(QPointF(9, 9), *held, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(window, drop)


def test_that_the_first_paint_comes_before_the_charts_are_loaded(own_folder: Path) -> None:
    del own_folder
    said = subprocess.run(
        [sys.executable, "-c", FIRST_PAINT], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"


def test_that_every_action_has_words_a_tip_and_a_shortcut_of_its_own(
    workbench: MainWindow,
) -> None:
    actions = [*workbench.commands.all(), *workbench.workbench.toggles()]
    for action in actions:
        assert action.text()
        assert action.statusTip()
        assert not action.shortcut().isEmpty(), action.text()
    shortcuts = Counter(action.shortcut().toString() for action in actions)
    assert shortcuts.most_common(1)[0][1] == 1


def test_that_every_action_stands_in_a_menu(workbench: MainWindow) -> None:
    listed = [
        action
        for title in workbench.menuBar().actions()
        for action in title.menu().actions()
        if not action.isSeparator()
    ]
    assert {*workbench.commands.all(), *workbench.workbench.toggles()} == set(listed)


def test_that_every_control_has_a_name_for_those_who_cannot_see_it(
    workbench: MainWindow,
) -> None:
    nameless = [
        f"{type(control).__name__} {control.objectName()} of {type(control.parent()).__name__}"
        for control in workbench.findChildren(QWidget)
        if isinstance(control, CONTROLS)
        and control.focusPolicy() != Qt.FocusPolicy.NoFocus
        and not is_inside_another_control(control)
        and not control.accessibleName()
        and not (isinstance(control, QAbstractButton) and control.text())
    ]
    assert nameless == []


def test_that_opening_a_network_shows_its_name_and_no_figure_that_is_not_known(
    workbench: MainWindow,
) -> None:
    assert workbench.windowTitle() == "net.pt – Featherweight"
    name = workbench.findChild(QLabel, "document_name")
    bits = workbench.findChild(QLabel, "header_bits")
    assert isinstance(name, QLabel)
    assert isinstance(bits, QLabel)
    assert name.text() == "net.pt"
    assert bits.text() == "–"
    assert workbench.header.isVisible()


def test_that_the_window_fits_a_small_screen_and_keeps_its_figures(
    workbench: MainWindow, qtbot: QtBot
) -> None:
    before = Cost(parameters=155_000, macs=10_200_000, bits=5_000_000)
    after = Cost(parameters=94_900, macs=5_890_000, bits=1_136_000)
    prediction = Prediction(layers={}, before=before, after=after, exact=True)
    workbench.document.receive(Predicted(prediction=prediction))
    workbench.resize(1000, 640)
    qtbot.waitUntil(lambda: workbench.header.width() == 1000)
    for name in ("parameters", "macs", "bits"):
        figure = workbench.findChild(QLabel, f"header_{name}")
        assert isinstance(figure, QLabel)
        qtbot.waitUntil(lambda shown=figure: shown.width() >= shown.sizeHint().width())
    compress = button(workbench, "compress_button")
    assert compress.mapTo(workbench, compress.rect().bottomRight()).x() < 1000


def test_that_compress_says_what_is_missing_until_something_is_chosen(
    workbench: MainWindow,
) -> None:
    compress = button(workbench, "compress_button")
    assert not compress.isEnabled()
    assert compress.toolTip() == "Choose a method for at least one layer first"
    workbench.document.set_choice(("conv",), "coding", Setting("huffman"))
    assert "Run the recipe" in compress.toolTip()


def test_that_a_refusal_goes_away_with_the_next_choice(
    workbench: MainWindow,
) -> None:
    document = workbench.document
    document.layers["conv"] = msgspec.structs.replace(
        document.layers["conv"], locks={"svd": "It is too small."}
    )
    document.set_choice(("conv",), "structure", Setting("svd"))
    assert "It is too small." in workbench.notices.text
    document.set_choice(("conv",), "precision", Setting("integer"))
    assert workbench.notices.text == ""


def test_that_undo_in_the_menu_names_the_step(workbench: MainWindow) -> None:
    undo = workbench.commands["undo"]
    assert not undo.isEnabled()
    workbench.document.set_choice(("conv",), "coding", Setting("huffman"))
    assert undo.text() == "&Undo huffman for conv"
    undo.trigger()
    assert workbench.document.recipe.layers == {}
    assert workbench.commands["redo"].isEnabled()


def test_that_a_damaged_project_dropped_on_the_window_is_named_with_its_field(
    window: MainWindow, tmp_path: Path
) -> None:
    path = tmp_path / "net.featherweight"
    path.write_text("version: 1\nname: net\nsource: {path: net.pt}\ntask: {kind: dancing}\n")
    drop(window, path)
    assert str(path) in window.notices.text
    assert "field task.kind" in window.notices.text
    assert not window.header.isVisible()


def test_that_weights_alone_are_asked_for_their_factory_before_they_are_opened(
    window: MainWindow, tmp_path: Path, qtbot: QtBot
) -> None:
    path = tmp_path / "net.safetensors"
    path.touch()
    drop(window, path)
    dialog = window.findChild(OpenNetworkDialog)
    assert isinstance(dialog, OpenNetworkDialog)
    factory = dialog.findChild(QLineEdit, "factory")
    shapes = dialog.findChild(QLineEdit, "input_shapes")
    assert isinstance(factory, QLineEdit)
    assert isinstance(shapes, QLineEdit)
    qtbot.keyClicks(factory, "models:build")
    shapes.setText("1 × three")
    dialog.accept()
    assert dialog.isVisible()
    shapes.setText("1x3x32x32; 1, 7")
    dialog.accept()
    assert dialog.source == Source(
        path=str(path),
        factory="models:build",
        input_shapes=((1, 3, 32, 32), (1, 7)),
        input_dtypes=("float32", "float32"),
    )
    assert window.document.busy == "Opening net.safetensors"


def test_that_data_dropped_on_an_open_network_is_offered_as_its_task(
    workbench: MainWindow, tmp_path: Path
) -> None:
    path = tmp_path / "data.npz"
    path.touch()
    drop(workbench, path)
    dialog = workbench.findChild(TaskDialog)
    assert isinstance(dialog, TaskDialog)
    assert dialog.task.data == str(path)
    assert dialog.task.kind == "classification"
    dialog.offer(tmp_path / "t10k-images-idx3-ubyte")
    assert dialog.task.data == str(tmp_path)
    dialog.reject()


def test_that_details_of_a_notice_unfold_and_can_be_copied(
    window: MainWindow, qtbot: QtBot
) -> None:
    window.show_notice("It broke.", "Mend it.", "line 1\nline 2")
    assert window.notices.text == "It broke. Mend it."
    copy = button(window, "notice_copy")
    assert not copy.isVisible()
    qtbot.mouseClick(button(window, "notice_details"), Qt.MouseButton.LeftButton)
    qtbot.mouseClick(copy, Qt.MouseButton.LeftButton)
    assert QGuiApplication.clipboard().text() == "It broke. Mend it.\n\nline 1\nline 2"
    qtbot.mouseClick(button(window, "notice_dismiss"), Qt.MouseButton.LeftButton)
    assert window.notices.text == ""


def test_that_an_unexpected_error_becomes_a_notice_and_a_log_file(
    window: MainWindow, tmp_path: Path
) -> None:
    report = CrashReport(tmp_path / "window.log", window)
    report.caught.connect(window.show_notice)
    error = ZeroDivisionError("nothing to divide by")
    report.report(ZeroDivisionError, error, None)
    report.report(ZeroDivisionError, error, None)
    assert window.notices.text.startswith("Something went wrong in the window")
    assert (tmp_path / "window.log").read_text().count("nothing to divide by") == 2


def test_that_the_chosen_look_is_applied_and_remembered(
    window: MainWindow, own_folder: Path, qapp: QApplication
) -> None:
    window.commands["scheme_dark"].trigger()
    ground = qapp.palette().color(QPalette.ColorRole.Window)
    assert ground.name() == theme.DARK.window
    assert Settings(own_folder).scheme == "dark"
    window.commands["scheme_light"].trigger()
    assert qapp.palette().color(QPalette.ColorRole.Window).name() == theme.LIGHT.window


def test_that_recent_files_are_listed_newest_first_without_those_that_are_gone(
    window: MainWindow, own_folder: Path, tmp_path: Path
) -> None:
    settings = Settings(own_folder)
    paths = [tmp_path / f"{number}.pt" for number in range(3)]
    for path in paths:
        path.touch()
        settings.add_recent(path)
    paths[1].unlink()
    assert settings.recent == (paths[2], paths[0])
    settings.add_recent(tmp_path / "0.featherweight", instead_of=paths[0])
    assert settings.recent == (paths[2],)
    settings.flush()
    window.start_screen.refresh()
    listed = window.findChild(QListWidget, "recent_files")
    assert isinstance(listed, QListWidget)
    assert [listed.item(row).text() for row in range(listed.count())] == ["2.pt"]


def test_that_the_size_of_the_window_is_what_it_was(window: MainWindow, own_folder: Path) -> None:
    window.resize(1111, 777)
    window.close()
    assert not Settings(own_folder).bytes_of("geometry").isEmpty()


def test_that_shortcuts_and_version_are_shown_without_blocking(window: MainWindow) -> None:
    for name in ("shortcuts", "about"):
        window.commands[name].trigger()
    shown = [dialog for dialog in window.findChildren(QDialog) if dialog.isVisible()]
    assert len(shown) == 2
    for dialog in shown:
        dialog.reject()


def test_that_a_recent_project_opens_with_what_was_chosen_in_it(
    window: MainWindow, tmp_path: Path, qtbot: QtBot
) -> None:
    path = tmp_path / "mine.featherweight"
    write_project(path, Project(name="mine", source=Source(path=str(tmp_path / "net.pt"))))
    (tmp_path / "net.pt").touch()
    window.document._client.start()
    with qtbot.waitSignal(window.document.network_changed):
        window.start_screen.chosen.emit(path)
    assert window.document.path == path
    assert window.windowTitle() == "mine – Featherweight"


def test_that_a_file_that_failed_to_open_can_be_described_from_its_notice(
    window: MainWindow, tmp_path: Path, qtbot: QtBot
) -> None:
    (path := tmp_path / "weights.pt").touch()
    window._client.start()
    window.document.open_failed.emit(Source(path=str(path)), "It holds weights only.", "", "")
    qtbot.mouseClick(button(window, "notice_action"), Qt.MouseButton.LeftButton)
    dialog = window.findChild(OpenNetworkDialog)
    assert isinstance(dialog, OpenNetworkDialog)
    assert "It holds weights only." in [label.text() for label in dialog.findChildren(QLabel)]
    assert window.notices.text == ""
    dialog.reject()


def test_that_code_is_not_allowed_by_pressing_return(window: MainWindow, qtbot: QtBot) -> None:
    needed = TrustNeeded(id=7, path="net.pt", names=("os", "models"), why="it was pickled whole")
    window.document.trust_needed.emit(needed)
    dialog = window.findChild(TrustDialog)
    assert isinstance(dialog, TrustDialog)
    modules = dialog.findChild(QListWidget)
    assert isinstance(modules, QListWidget)
    assert [modules.item(row).text() for row in range(modules.count())] == ["os", "models"]
    with qtbot.waitSignal(dialog.rejected):
        qtbot.keyClick(dialog, Qt.Key.Key_Return)
