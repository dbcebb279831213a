"""Layers held from budgets in the table: by a click, from the menu, by keys, for many at once."""

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QMenu
from pytestqt.qtbot import QtBot

from featherweight.engine.recipe import Setting
from featherweight.gui.document import Document
from featherweight.gui.holds import Holds
from featherweight.gui.item_models.layer_painter import HOLD_STEP, ICON, PADDING
from featherweight.gui.item_models.layer_table import Column
from featherweight.gui.views.layer_table import LayerTableView

LEFT = Qt.MouseButton.LeftButton
BLOCK = ("blocks.0.conv1", "blocks.0.conv2")
KEPT, LEAVE = 0, 1


@pytest.fixture
def view(qtbot: QtBot, opened: Document) -> LayerTableView:
    made = LayerTableView(opened)
    qtbot.addWidget(made)
    made.resize(1000, 600)
    with qtbot.waitExposed(made):
        made.show()
    return made


def click(qtbot: QtBot, view: LayerTableView, name: str, mark: int) -> None:
    box = view.tree.visualRect(view.model.index_of(name, Column.HOLD))
    at = QPoint(box.left() + PADDING + mark * HOLD_STEP + ICON // 2, box.center().y())
    qtbot.mouseClick(view.tree.viewport(), LEFT, pos=at)


def said(view: LayerTableView, name: str) -> object:
    return view.model.data(view.model.index_of(name, Column.HOLD))


def test_that_marks_appear_once_there_is_something_to_hold(
    view: LayerTableView, opened: Document
) -> None:
    assert view.tree.header().isSectionHidden(Column.HOLD)
    opened.hold(("stem",), "kept")
    assert not view.tree.header().isSectionHidden(Column.HOLD)
    opened.undo_stack.undo()
    assert view.tree.header().isSectionHidden(Column.HOLD)


def test_that_a_click_on_a_mark_holds_the_layer_and_selects_nothing(
    qtbot: QtBot, view: LayerTableView, opened: Document
) -> None:
    view.tree.show_column(Column.HOLD, True)
    opened.set_choice(("classifier",), "coding", Setting("huffman"))
    click(qtbot, view, "stem", KEPT)
    assert opened.holds == Holds(kept=("stem",))
    assert said(view, "stem") == "kept"
    click(qtbot, view, "classifier", LEAVE)
    assert opened.holds == Holds(kept=("stem",), left=("classifier",))
    assert opened.recipe.layers == {}
    click(qtbot, view, "stem", LEAVE)
    click(qtbot, view, "classifier", LEAVE)
    assert opened.holds == Holds(left=("stem",))
    assert opened.selection == ()


def test_that_a_click_beside_the_marks_selects(
    qtbot: QtBot, view: LayerTableView, opened: Document
) -> None:
    view.tree.show_column(Column.HOLD, True)
    click(qtbot, view, "stem", 2)
    click(qtbot, view, "blocks.0.bn1", KEPT)
    assert opened.holds.empty
    assert opened.selection == ("blocks.0.bn1",)


def test_that_a_click_in_a_selection_holds_all_of_it(
    qtbot: QtBot, view: LayerTableView, opened: Document
) -> None:
    view.tree.show_column(Column.HOLD, True)
    opened.select((*BLOCK, "blocks.0.bn1"))
    click(qtbot, view, BLOCK[0], KEPT)
    assert opened.holds == Holds(kept=BLOCK)
    assert opened.undo_stack.count() == 1
    click(qtbot, view, BLOCK[1], KEPT)
    assert opened.holds.empty


def test_that_a_module_holds_what_lies_in_it(
    qtbot: QtBot, view: LayerTableView, opened: Document
) -> None:
    view.tree.show_column(Column.HOLD, True)
    block = view.model.index_of(BLOCK[0]).parent()
    box = view.tree.visualRect(block.siblingAtColumn(Column.HOLD))
    at = QPoint(box.left() + PADDING + ICON // 2, box.center().y())
    qtbot.mouseClick(view.tree.viewport(), LEFT, pos=at)
    assert opened.holds == Holds(kept=BLOCK)
    assert view.model.data(block.siblingAtColumn(Column.HOLD)) == "kept"


def test_that_keys_and_the_menu_hold_the_selection(
    qtbot: QtBot, view: LayerTableView, opened: Document
) -> None:
    opened.select(BLOCK)
    view.activateWindow()
    view.tree.setFocus()
    qtbot.waitUntil(view.tree.hasFocus)
    control, shift = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier
    qtbot.keyClick(view.tree, Qt.Key.Key_K, control)
    assert opened.holds == Holds(kept=BLOCK)
    qtbot.keyClick(view.tree, Qt.Key.Key_K, control | shift)
    assert opened.holds == Holds(left=BLOCK)
    view.tree.customContextMenuRequested.emit(QPoint(20, 20))
    menu = view.findChild(QMenu)
    assert isinstance(menu, QMenu)
    keep, leave = menu.actions()[:2]
    assert (keep.isChecked(), leave.isChecked()) == (False, True)
    leave.trigger()
    menu.close()
    assert opened.holds.empty
