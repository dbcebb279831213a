"""The controls of the four slots, for one layer and for several."""

import msgspec
import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QStandardItemModel
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QLabel,
    QSlider,
    QWidget,
)
from pytestqt.qtbot import QtBot

from featherweight.engine.events import Predicted, Ready
from featherweight.engine.layer import NetworkSummary
from featherweight.engine.options import MethodDescription, Retraining
from featherweight.engine.recipe import Choice, Setting
from featherweight.engine.results import Cost, Prediction
from featherweight.gui.document import Document
from featherweight.gui.views.choices import ChoicesView


@pytest.fixture
def view(qtbot: QtBot, opened: Document) -> ChoicesView:
    made = ChoicesView(opened)
    qtbot.addWidget(made)
    made.resize(400, 800)
    with qtbot.waitExposed(made):
        made.show()
    return made


def combo(view: QWidget, name: str) -> QComboBox:
    found = view.findChild(QComboBox, name)
    assert isinstance(found, QComboBox)
    return found


def choose(qtbot: QtBot, box: QComboBox, title: str) -> None:
    box.setFocus()
    if title == box.itemText(0):
        qtbot.keyClick(box, Qt.Key.Key_Home)
    else:
        qtbot.keyClicks(box, title[:4])
    assert box.currentText() == title


def test_that_nothing_selected_offers_no_slot(view: ChoicesView, opened: Document) -> None:
    assert view.empty.isVisible()
    assert not any(editor.isVisible() for editor in view.editors.values())
    opened.select(("stem",))
    assert all(editor.isVisible() for editor in view.editors.values())


def test_that_choosing_a_method_writes_it_into_the_recipe(
    qtbot: QtBot, view: ChoicesView, opened: Document
) -> None:
    opened.select(("blocks.0.conv1",))
    choose(qtbot, combo(view, "slot_precision_method"), "Integer")
    assert opened.recipe.choice("blocks.0.conv1") == Choice(precision=Setting("integer"))
    choose(qtbot, combo(view, "slot_precision_method"), "Keep as it is")
    assert opened.recipe.choice("blocks.0.conv1").empty


def test_that_options_of_the_method_appear_and_change_the_recipe(
    qtbot: QtBot, view: ChoicesView, opened: Document
) -> None:
    opened.select(("blocks.0.conv1",))
    opened.set_choice(("blocks.0.conv1",), "structure", Setting("channel_pruning"))
    box = view.findChild(QDoubleSpinBox, "option_structure_ratio")
    slider = view.findChild(QSlider, "option_structure_ratio_slider")
    assert isinstance(box, QDoubleSpinBox)
    assert isinstance(slider, QSlider)
    assert box.value() == 0.5
    slider.setFocus()
    qtbot.keyClick(slider, Qt.Key.Key_End)
    structure = opened.recipe.choice("blocks.0.conv1").structure
    assert structure == Setting("channel_pruning", {"ratio": 1.0})
    opened.undo_stack.undo()
    assert box.value() == 0.5


def test_that_a_whole_number_option_stays_a_whole_number(
    view: ChoicesView, opened: Document
) -> None:
    opened.select(("stem",))
    opened.set_choice(("stem",), "precision", Setting("codebook"))
    box = view.findChild(QDoubleSpinBox, "option_precision_clusters")
    assert isinstance(box, QDoubleSpinBox)
    box.setValue(32)
    precision = opened.recipe.choice("stem").precision
    assert precision is not None
    assert precision.options == {"clusters": 32}
    assert isinstance(precision.options["clusters"], int)


def test_that_a_locked_method_is_grey_and_tells_why(view: ChoicesView, opened: Document) -> None:
    opened.select(("classifier",))
    model = combo(view, "slot_structure_method").model()
    assert isinstance(model, QStandardItemModel)
    assert not model.item(1).isEnabled()
    assert model.item(1).toolTip() == "Its outputs are the classes."
    assert model.item(2).isEnabled()


def test_that_a_slot_without_any_method_is_disabled_with_its_reason(
    view: ChoicesView, opened: Document
) -> None:
    opened.select(("blocks.0.bn1",))
    box = combo(view, "slot_sparsity_method")
    assert not box.isEnabled()
    assert box.toolTip() == "A batch norm has no matrix to change."


def test_that_several_layers_take_one_method_where_they_can(
    qtbot: QtBot, view: ChoicesView, opened: Document
) -> None:
    names = ("blocks.0.conv1", "blocks.0.bn1", "blocks.0.conv2")
    opened.select(names)
    choose(qtbot, combo(view, "slot_sparsity_method"), "Magnitude")
    assert set(opened.recipe.layers) == {"blocks.0.conv1", "blocks.0.conv2"}
    assert combo(view, "slot_sparsity_method").currentText() == "Magnitude"


def test_that_different_methods_are_shown_as_several(view: ChoicesView, opened: Document) -> None:
    opened.set_choice(("stem",), "precision", Setting("integer"))
    opened.set_choice(("classifier",), "precision", Setting("codebook"))
    opened.select(("stem", "classifier"))
    assert combo(view, "slot_precision_method").currentIndex() == -1
    assert not view.editors["precision"].form.isVisible()


def test_that_mixed_values_become_one_and_other_options_stay(
    view: ChoicesView, opened: Document
) -> None:
    opened.set_choice(("stem",), "precision", Setting("integer", {"bits": 4}))
    opened.set_choice(("classifier",), "precision", Setting("integer", {"per_channel": False}))
    opened.select(("stem", "classifier"))
    assert combo(view, "option_precision_bits").currentIndex() == -1
    switch = view.findChild(QCheckBox, "option_precision_per_channel")
    assert isinstance(switch, QCheckBox)
    assert switch.checkState() == Qt.CheckState.PartiallyChecked
    steps = opened.undo_stack.count()
    switch.click()
    recipe = opened.recipe
    assert recipe.choice("stem").precision == Setting("integer", {"bits": 4, "per_channel": True})
    assert recipe.choice("classifier").precision == Setting("integer", {"per_channel": True})
    assert opened.undo_stack.count() == steps + 1
    opened.undo_stack.undo()
    assert opened.recipe.choice("stem").precision == Setting("integer", {"bits": 4})


def test_that_pruning_says_how_many_layers_follow(view: ChoicesView, opened: Document) -> None:
    opened.select(("stem",))
    opened.set_choice(("stem",), "structure", Setting("channel_pruning"))
    note = view.findChild(QLabel, "slot_structure_note")
    assert isinstance(note, QLabel)
    assert note.isVisible()
    assert note.text().startswith("2 coupled layers")


@pytest.mark.parametrize(
    ("slot", "method", "gain"),
    [
        ("structure", "channel_pruning", "Gains: file size and speed"),
        ("coding", "huffman", "Gains: file size only"),
    ],
)
def test_that_a_method_says_what_it_really_gains(
    view: ChoicesView, opened: Document, slot: str, method: str, gain: str
) -> None:
    opened.select(("stem",))
    known = next(m for m in opened.methods if m.name == method)
    opened.set_choice(("stem",), known.slot, Setting(method))
    label = view.findChild(QLabel, f"slot_{slot}_gain")
    assert isinstance(label, QLabel)
    assert label.text() == gain
    assert view.editors[known.slot].advice.text() == f"Advice on {method}."


@pytest.mark.parametrize(
    ("retrain", "ending", "words"),
    [
        ("needed", " · needs retraining", "Needs retraining to be worth anything"),
        ("helps", "", "Retraining helps"),
        ("none", "", "No retraining needed"),
    ],
)
def test_that_the_list_says_before_the_click_what_needs_retraining(
    view: ChoicesView, opened: Document, retrain: Retraining, ending: str, words: str
) -> None:
    described = tuple(
        msgspec.structs.replace(method, retrain=retrain) if method.name == "integer" else method
        for method in opened.methods
    )
    opened.receive(Ready(methods=described))
    opened.select(("stem",))
    model = combo(view, "slot_precision_method").model()
    assert isinstance(model, QStandardItemModel)
    assert model.item(1).text() == f"Integer{ending}"
    assert model.item(1).toolTip() == f"{words}. Advice on integer."
    opened.set_choice(("stem",), "precision", Setting("integer"))
    label = view.findChild(QLabel, "slot_precision_retrain")
    assert isinstance(label, QLabel)
    assert label.isVisible()
    assert label.text() == words


def test_that_the_prediction_of_the_selection_is_shown_live(
    view: ChoicesView, opened: Document, network: NetworkSummary
) -> None:
    opened.select(("classifier",))
    costs = {
        layer.name: Cost(parameters=layer.parameters, macs=layer.macs or 0, bits=8)
        for layer in network.layers
    }
    whole = Cost(parameters=0, macs=0, bits=0)
    opened.receive(
        Predicted(prediction=Prediction(layers=costs, before=whole, after=whole, exact=False))
    )
    value = view.findChild(QLabel, "selected_bits")
    moved = view.findChild(QLabel, "selected_bits_moved")
    assert isinstance(value, QLabel)
    assert isinstance(moved, QLabel)
    assert value.text() == "640 B → 1 B"
    assert moved.text() == "\u2212100 %"
    unmoved = view.findChild(QLabel, "selected_parameters")
    assert isinstance(unmoved, QLabel)
    assert unmoved.text() == "160"


def test_that_clear_empties_every_slot_of_the_selection(
    qtbot: QtBot, view: ChoicesView, opened: Document
) -> None:
    opened.set_choice(("stem",), "precision", Setting("integer"))
    opened.set_choice(("classifier",), "precision", Setting("integer"))
    opened.select(("stem",))
    qtbot.mouseClick(view.clear_button, Qt.MouseButton.LeftButton)
    assert set(opened.recipe.layers) == {"classifier"}
    assert not view.clear_button.isEnabled()


def test_that_every_control_has_an_accessible_name(
    view: ChoicesView, opened: Document, methods: tuple[MethodDescription, ...]
) -> None:
    opened.select(("stem",))
    for method in methods:
        opened.set_choice(("stem",), method.slot, Setting(method.name))
        for control in view.findChildren(QWidget):
            if isinstance(control, QComboBox | QCheckBox | QSlider | QDoubleSpinBox):
                assert control.accessibleName(), control.objectName()


def test_that_the_keyboard_goes_from_a_method_through_its_options_to_the_next_slot(
    qtbot: QtBot, view: ChoicesView, opened: Document
) -> None:
    opened.select(("stem",))
    opened.set_choice(("stem",), "structure", Setting("channel_pruning"))
    opened.set_choice(("stem",), "precision", Setting("integer"))
    combo(view, "slot_structure_method").setFocus()
    passed = []
    for _ in range(10):
        focused = view.focusWidget()
        passed.append(focused.objectName())
        qtbot.keyClick(focused, Qt.Key.Key_Tab)
    assert passed == [
        *("slot_structure_method", "slot_structure_help"),
        *("option_structure_ratio_slider", "option_structure_ratio"),
        *("slot_sparsity_method", "slot_sparsity_help"),
        *("slot_precision_method", "slot_precision_help"),
        *("option_precision_bits", "option_precision_per_channel"),
    ]
