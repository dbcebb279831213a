"""The pages of the methods in the window: found by the control, by the key and by words."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QComboBox, QListWidget, QTextBrowser, QToolButton
from pytestqt.qtbot import QtBot

from featherweight.engine.events import Opened, Ready
from featherweight.engine.layer import Layer, NetworkSummary
from featherweight.engine.options import MethodDescription, Slot
from featherweight.engine.recipe import Setting
from featherweight.gui.dialogs.method_help import MethodHelpDialog
from featherweight.gui.main_window import MainWindow

LAYER = Layer(
    name="fc", kind="Linear", summary="8 → 4", weights={"weight": (4, 8)}, parameters=32, macs=32,
    activations=4, input_shape=(1, 8), output_shape=(1, 4),
)  # fmt: skip


def method(name: str, slot: Slot, title: str) -> MethodDescription:
    return MethodDescription(
        name=name, slot=slot, title=title, label=title, advice="Advice.", gain="file",
        strength="", options=(),
    )  # fmt: skip


@pytest.fixture
def opened(window: MainWindow) -> MainWindow:
    """Return the window with one layer that can take the methods there are."""
    summary = NetworkSummary(
        path="net.pt", format="pt", layers=(LAYER,), parameters=0, macs=0, input_shapes=(),
        output_shapes=(), file_bytes=0,
    )  # fmt: skip
    offered = (
        method("channel_pruning", "structure", "Channel pruning"),
        method("svd", "structure", "Low rank (SVD)"),
        method("integer", "precision", "Integers"),
    )
    window.document.receive(Ready(methods=offered))
    window.document.receive(Opened(network=summary))
    window.document.select(("fc",))
    return window


def shown(window: MainWindow) -> str:
    page = window.findChild(QTextBrowser, "help_page")
    assert isinstance(page, QTextBrowser)
    return page.toPlainText().splitlines()[0]


def titles(window: MainWindow) -> list[str]:
    """Return what the list of methods shows now."""
    found = window.findChild(QListWidget, "help_list")
    assert isinstance(found, QListWidget)
    rows = [found.item(place) for place in range(found.count())]
    return [row.text().strip() for row in rows if not row.isHidden()]


def test_that_the_button_beside_a_method_shows_its_page(opened: MainWindow, qtbot: QtBot) -> None:
    opened.document.set_choice(("fc",), "structure", Setting("svd"))
    button = opened.workbench.findChild(QToolButton, "slot_structure_help")
    assert isinstance(button, QToolButton)
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert shown(opened) == "Low rank (SVD)"


def test_that_f1_shows_the_page_of_the_method_that_has_the_keyboard(
    opened: MainWindow, qtbot: QtBot
) -> None:
    box = opened.workbench.findChild(QComboBox, "slot_precision_method")
    assert isinstance(box, QComboBox)
    box.setFocus()
    qtbot.keyClick(box, Qt.Key.Key_F1)
    assert shown(opened) == "Integers"


def test_that_the_help_stays_one_dialog_however_often_it_is_asked(opened: MainWindow) -> None:
    for _ in range(2):
        opened.commands["method_help"].trigger()
    assert len(opened.findChildren(MethodHelpDialog)) == 1
    assert shown(opened) == "Channel pruning"


def test_that_a_search_leaves_the_methods_whose_pages_have_every_word(
    opened: MainWindow, qtbot: QtBot
) -> None:
    opened.commands["method_help"].trigger()
    dialog = opened.findChild(MethodHelpDialog)
    assert isinstance(dialog, MethodHelpDialog)
    everything = titles(opened)
    qtbot.keyClicks(dialog.search, "depgraph TAYLOR")
    assert titles(opened) == ["Structure", "Channel pruning"]
    qtbot.keyClicks(dialog.search, "zzz")
    assert titles(opened) == []
    dialog.search.clear()
    shown_again = ["Structure", "Channel pruning", "Low rank (SVD)", "Precision", "Integers"]
    assert titles(opened) == everything == shown_again
