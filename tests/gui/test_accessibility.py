"""Whoever cannot see the window is told what every control of it and of its dialogs is."""

from collections.abc import Callable

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractScrollArea,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QDialog,
    QLineEdit,
    QScrollBar,
    QTabBar,
    QWidget,
)
from pytestqt.qtbot import QtBot

from featherweight.engine.events import Opened, Source, TrustNeeded
from featherweight.engine.layer import NetworkSummary
from featherweight.gui.dialogs.about import AboutDialog, ShortcutsDialog
from featherweight.gui.dialogs.compare import CompareDialog
from featherweight.gui.dialogs.export import ExportDialog
from featherweight.gui.dialogs.method_help import MethodHelpDialog
from featherweight.gui.dialogs.open_library import OpenLibraryDialog
from featherweight.gui.dialogs.open_network import OpenNetworkDialog
from featherweight.gui.dialogs.stop import stop_question
from featherweight.gui.dialogs.sweep_plan import SweepDialog
from featherweight.gui.dialogs.task import TaskDialog
from featherweight.gui.dialogs.trust import TrustDialog
from featherweight.gui.job import Job
from featherweight.gui.main_window import MainWindow

KINDS = (
    QAbstractButton,
    QAbstractScrollArea,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QTabBar,
)
NEEDED = TrustNeeded(path="net.pt", names=("models",), why="it uses models.Net")
DIALOGS: dict[str, Callable[[MainWindow], QDialog]] = {
    "export": lambda window: ExportDialog(window.document, "", window),
    "help": lambda window: MethodHelpDialog(window.document, window),
    "open": lambda window: OpenNetworkDialog(Source(path="net.pt"), "It holds weights.", window),
    "library": lambda window: OpenLibraryDialog((), "", window),
    "sweep": lambda window: SweepDialog(window.document, window),
    "task": lambda window: TaskDialog(None, window),
    "trust": lambda window: TrustDialog(NEEDED, window),
    "stop": lambda window: stop_question(Job(request=1, kind="export", name="a.onnx"), window),
    "about": lambda window: AboutDialog("1.0", window),
    "compare": lambda window: CompareDialog((), None, window),
    "shortcuts": lambda window: ShortcutsDialog(window.commands.all(), window),
}


@pytest.fixture
def opened_window(window: MainWindow) -> MainWindow:
    """Return the window with a network without layers."""
    summary = NetworkSummary(
        path="net.pt", format="pt", layers=(), parameters=0, macs=0, input_shapes=(),
        output_shapes=(), file_bytes=0,
    )  # fmt: skip
    window.document.receive(Opened(network=summary))
    return window


def nameless(top: QWidget) -> list[str]:
    """Return the controls that take the keyboard and do not say what they are."""
    return [
        f"{type(control).__name__} {control.objectName()} of {type(control.parent()).__name__}"
        for control in top.findChildren(QWidget)
        if isinstance(control, KINDS)
        and control.focusPolicy() != Qt.FocusPolicy.NoFocus
        and not isinstance(control, QScrollBar)
        and not isinstance(control.parent(), (QAbstractSpinBox, QComboBox))
        and not control.inherits("QComboBoxListView")
        and not control.accessibleName()
        and not (isinstance(control, QAbstractButton) and control.text())
    ]


def test_that_every_control_of_the_window_says_what_it_is(opened_window: MainWindow) -> None:
    assert nameless(opened_window) == []


@pytest.mark.parametrize("name", DIALOGS)
def test_that_every_control_of_a_dialog_says_what_it_is_and_escape_closes_it(
    opened_window: MainWindow, qtbot: QtBot, name: str
) -> None:
    dialog = DIALOGS[name](opened_window)
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose, False)
    dialog.open()
    assert nameless(dialog) == []
    assert dialog.windowTitle()
    qtbot.keyClick(dialog, Qt.Key.Key_Escape)
    assert not dialog.isVisible()


def test_that_no_two_entries_of_a_menu_have_the_same_letter(opened_window: MainWindow) -> None:
    for menu in opened_window.menuBar().actions():
        inside = menu.menu()
        texts = [action.text() for action in inside.actions() if "&" in action.text()]
        letters = [text[text.index("&") + 1].lower() for text in texts]
        assert len(set(letters)) == len(letters), f"{menu.text()}: {texts}"


def test_that_every_entry_of_a_menu_has_a_tip_and_a_shortcut(opened_window: MainWindow) -> None:
    for menu in opened_window.menuBar().actions():
        for action in menu.menu().actions():
            if not action.isSeparator():
                assert action.statusTip(), action.text()
                assert action.shortcut().toString() in action.toolTip() or "first" in (
                    action.toolTip()
                )
