"""A person at the real window with the real engine: finds controls by name, clicks and types."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from PySide6.QtCore import QModelIndex, QPoint, Qt
from PySide6.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QFileDialog,
    QLineEdit,
    QTabBar,
    QTreeView,
    QWidget,
)
from pytestqt.qtbot import QtBot

from featherweight.gui.document import Document
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.main_window import MainWindow
from featherweight.gui.settings import Settings

W = TypeVar("W", bound=QWidget)
LEFT = Qt.MouseButton.LeftButton
LONG = 120_000
INSIDE_A_SWITCH = 9


class Person:
    """Does with the window what can be done with mouse and keyboard."""

    def __init__(self, window: MainWindow, client: EngineClient, qtbot: QtBot) -> None:
        self.window = window
        self.client = client
        self.document = window.document
        self._qtbot = qtbot

    def open_demo(self) -> None:
        """Click on the demo and wait until its network and images are read."""
        self.click("start_demo")
        self.wait(lambda: self.document.task is not None)

    def choose_for_three_layers(self) -> None:
        """Give three layers four bits, two of them another structure, and recover one epoch."""
        self.select_layers("block1.conv1", "block2.conv1", "block2.conv2")
        self.choose("slot_precision_method", "Integers")
        self.choose("option_precision_bits", "4")
        self.select_layers("block1.conv1")
        self.choose("slot_structure_method", "Channel pruning")
        self.fill("option_structure_ratio", "0.5")
        self.select_layers("block2.conv2")
        self.choose("slot_structure_method", "Low rank (Tucker)")
        self.fill("option_structure_keep", "0.4")
        self.click_tab("Recovery")
        self.click("recovery_switch")
        self.fill("option_recovery_epochs", "1")
        self.click_tab("Choices")

    def find(self, kind: type[W], name: str) -> W:
        """Return the widget of that name, which must be on the screen."""
        shown = [found for found in self.window.findChildren(kind, name) if found.isVisible()]
        assert len(shown) == 1, f"{len(shown)} widgets are shown under the name {name}"
        return shown[0]

    def sees(self, name: str) -> bool:
        """Whether a widget of that name is on the screen."""
        return any(found.isVisible() for found in self.window.findChildren(QWidget, name))

    def click(self, name: str) -> None:
        """Click on a button that can be clicked."""
        button = self.find(QAbstractButton, name)
        assert button.isEnabled(), f"{name} is disabled: {button.toolTip()}"
        self._qtbot.mouseClick(button, LEFT, pos=QPoint(INSIDE_A_SWITCH, button.height() // 2))

    def click_tab(self, title: str) -> None:
        """Bring the dock of that title to the front."""
        for bar in self.window.findChildren(QTabBar):
            for place in range(bar.count()):
                if bar.isVisible() and bar.tabText(place) == title:
                    self._qtbot.mouseClick(bar, LEFT, pos=bar.tabRect(place).center())
                    return
        pytest.fail(f"no tab is called {title}")

    def select_layers(self, *names: str) -> None:
        """Click on rows of the table, all but the first with Ctrl held down."""
        tree = self.find(QTreeView, "layer_table")
        for place, name in enumerate(names):
            index = self._row(name)
            tree.scrollTo(index)
            held = Qt.KeyboardModifier.ControlModifier if place else Qt.KeyboardModifier.NoModifier
            where = tree.visualRect(index).center()
            self._qtbot.mouseClick(tree.viewport(), LEFT, held, where)

    def choose(self, name: str, title: str) -> None:
        """Open a list and take an entry by its title, with the keyboard."""
        box = self.find(QComboBox, name)
        place = box.findText(title)
        assert place >= 0, f"{name} has no entry {title}"
        self._qtbot.mouseClick(box, LEFT)
        self.wait(box.view().isVisible)
        box.view().setCurrentIndex(box.model().index(place, 0))
        self._qtbot.keyClick(box.view(), Qt.Key.Key_Return)
        self.wait(lambda: not box.view().isVisible())

    def fill(self, name: str, text: str) -> None:
        """Replace what a field holds, and press Return."""
        field = self.find(QWidget, name)
        field.setFocus()
        edit = field if isinstance(field, QLineEdit) else field.findChild(QLineEdit)
        assert isinstance(edit, QLineEdit)
        edit.selectAll()
        self._qtbot.keyClicks(edit, text)
        self._qtbot.keyClick(edit, Qt.Key.Key_Tab)

    def trigger(self, action: str) -> None:
        """Do an action of the menus that is enabled."""
        command = self.window.commands[action]
        assert command.isEnabled(), f"{action} is disabled"
        command.trigger()

    def answer_with_file(self, path: Path) -> None:
        """Name the file that the open file dialog asks for."""
        dialog = self.window.findChild(QFileDialog)
        assert isinstance(dialog, QFileDialog)
        dialog.fileSelected.emit(str(path))
        dialog.close()

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait until something is so."""
        self._qtbot.waitUntil(lambda: bool(condition()), timeout=LONG)

    def _row(self, name: str) -> QModelIndex:
        index = self.window.workbench.table.model.index_of(name)
        assert index.isValid(), f"the table does not show {name}"
        return index


@pytest.fixture
def new_person(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Person]]:
    """Return a function that starts the application as a person does, engine included."""
    folder = tmp_path / "data"
    monkeypatch.setenv("FEATHERWEIGHT_FOLDER", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path))
    # Several threads on a machine that is busy otherwise are ten times slower than one.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    started: list[MainWindow] = []

    def start() -> Person:
        client = EngineClient()
        client.start()
        document = Document(client, folder)
        window = MainWindow(document, client, Settings(folder))
        client.setParent(window)
        document.setParent(window)
        started.append(window)
        qtbot.addWidget(window)
        with qtbot.waitExposed(window):
            window.show()
        return Person(window, client, qtbot)

    yield start
    for window in started:
        window.close()


@pytest.fixture
def person(new_person: Callable[[], Person]) -> Person:
    """Return a person in front of the window as it starts."""
    return new_person()
