"""The pictures of the window: one session with the real engine, every scene in light and dark."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QColor, QImage, QPainter, QPixmap
from PySide6.QtWidgets import QApplication, QDialog, QLineEdit, QPushButton, QWidget
from pytestqt.qtbot import QtBot

from featherweight.engine.recipe import FineTuning, Setting
from featherweight.gui import theme
from featherweight.gui.document import Document
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.item_models.layer_painter import ROW_HEIGHT
from featherweight.gui.main_window import MainWindow
from featherweight.gui.settings import Settings

WIDTH, HEIGHT = 1280, 800
LONG = 120_000
REDRAWN = 200
SCHEMES: tuple[theme.Scheme, ...] = ("light", "dark")
CHOICES = (
    ("block1.conv1", "structure", Setting("channel_pruning", {"ratio": 0.5})),
    ("block1.conv1", "precision", Setting("integer", {"bits": 4})),
    ("block1.conv2", "precision", Setting("integer", {"bits": 8})),
    ("block2.conv1", "structure", Setting("channel_pruning", {"ratio": 0.5})),
    ("block2.conv1", "precision", Setting("integer", {"bits": 4})),
    ("block2.conv2", "structure", Setting("tucker", {"keep": 0.4})),
    ("block2.conv2", "precision", Setting("integer", {"bits": 8})),
    ("block3.pointwise", "structure", Setting("svd", {"keep": 0.5})),
)


class Photographer:
    """Drives one window and keeps a picture of every scene in both schemes."""

    def __init__(self, window: MainWindow, qtbot: QtBot) -> None:
        self.window = window
        self._qtbot = qtbot
        self.document = window.document
        self.pictures: dict[str, QImage] = {}

    def take(self, name: str, dialog: QDialog | None = None) -> None:
        """Take a scene, with a dialog in front where there is one."""
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        for scheme in reversed(SCHEMES):
            theme.apply(app, scheme)
            self._qtbot.wait(REDRAWN)
            picture = self.window.grab()
            if dialog is not None:
                place_in_front(picture, dialog.grab())
            image = picture.toImage().convertToFormat(QImage.Format.Format_RGB32)
            self.pictures[f"{name}-{scheme}"] = image

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait until something is so."""
        self._qtbot.waitUntil(lambda: bool(condition()), timeout=LONG)

    def click(self, name: str) -> None:
        """Click on a button of the window or of its dialog."""
        button = self.window.findChild(QPushButton, name)
        assert isinstance(button, QPushButton)
        assert button.isVisible()
        self._qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def place_in_front(picture: QPixmap, dialog: QPixmap) -> None:
    """Draw a dialog in the middle of the window, dimmed, as most systems do."""
    painter = QPainter(picture)
    painter.fillRect(picture.rect(), QColor(0, 0, 0, 90))
    corner = QPoint((WIDTH - dialog.width()) // 2, (HEIGHT - dialog.height()) // 2)
    painter.drawPixmap(corner, dialog)
    painter.setPen(QColor(theme.colours().line))
    painter.drawRect(corner.x(), corner.y(), dialog.width() - 1, dialog.height() - 1)
    painter.end()


@pytest.fixture(scope="module")
def pictures(
    qapp: QApplication, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, QImage]:
    """Return every picture by name; the demo is opened, chosen for, run and exported once."""
    folder = tmp_path_factory.mktemp("photographed")
    kept = (qapp.font(), qapp.palette(), qapp.styleSheet(), qapp.cursorFlashTime())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATHERWEIGHT_FOLDER", str(folder / "data"))
        patch.chdir(folder)
        qapp.setCursorFlashTime(0)
        taken = photographed(qapp, folder / "data", QtBot(request))
    qapp.setFont(kept[0])
    qapp.setPalette(kept[1])
    qapp.setStyleSheet(kept[2])
    qapp.setCursorFlashTime(kept[3])
    return taken


def photographed(app: QApplication, folder: Path, qtbot: QtBot) -> dict[str, QImage]:
    """Walk through the main job and take its pictures."""
    theme.apply(app, "light")
    client = EngineClient()
    client.start()
    document = Document(client, folder)
    window = MainWindow(document, client, Settings(folder))
    window.show()
    person = Photographer(window, qtbot)
    try:
        person.wait(window.isActiveWindow)
        person.wait(lambda: client.state == "ready")
        person.take("start")
        take_table(person)
        take_run(person)
        take_results_and_export(person)
    finally:
        window.close()
        window.deleteLater()
    return person.pictures


def take_table(person: Photographer) -> None:
    """Open the demo, choose for layers, measure, and look at one of them."""
    document = person.document
    person.click("start_demo")
    person.wait(lambda: document.task is not None)
    for layer, slot, setting in CHOICES:
        document.set_choice((layer,), slot, setting)
    document.set_recovery(FineTuning(epochs=4))
    person.click("measure_latency_button")
    person.wait(lambda: document.latency is not None)
    document.select(("block2.conv2",))
    person.window.workbench.show_dock("details")
    person.wait(lambda: "block2.conv2" in document.details)
    scroll = person.window.workbench.table.tree.verticalScrollBar()
    scroll.setValue(-(-scroll.value() // ROW_HEIGHT) * ROW_HEIGHT)
    person.take("table")
    person.window.workbench.show_dock("choices")


def take_run(person: Photographer) -> None:
    """Take a run in its midst and let it end."""
    document = person.document
    person.click("compress_button")
    person.wait(lambda: document.job and len(document.job.points.get("accuracy", ())) > 8)
    person.take("run")
    person.wait(lambda: document.results)


def take_results_and_export(person: Photographer) -> None:
    """Take the result, export it and take what was checked."""
    person.take("results")
    person.click("export_button")
    dialog = person.window.findChild(QDialog, "export_dialog")
    assert isinstance(dialog, QDialog)
    path = dialog.findChild(QLineEdit, "export_path")
    assert isinstance(path, QLineEdit)
    path.setText("fashion.onnx")
    person.click("export_start_button")
    summary = dialog.findChild(QWidget, "export_summary")
    assert isinstance(summary, QWidget)
    person.wait(summary.isVisible)
    person.take("export", dialog)
    dialog.reject()
