"""What the chooser shows as a strength moves, with the real engine and of given numbers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDoubleSpinBox, QLabel, QPushButton, QWidget
from pytestqt.qtbot import QtBot

from featherweight.engine.options import Option
from featherweight.engine.recipe import Setting
from featherweight.engine.results import BreakEven, StrengthTrace, Suggestion
from featherweight.gui import strength_facts, wording
from featherweight.gui.document import Document
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.strength_traces import error_at
from featherweight.gui.views.choices import ChoicesView
from featherweight.gui.widgets.strength_chart import StrengthChart

LONG = 20_000
LAYER = "block2.conv2"
KEEP = Option(
    name="keep", title="Keep", help="", kind="number", default=0.5, minimum=0.0, maximum=1.0
)
CURVE = ((0.0, 1.0), (0.5, 0.2), (1.0, 0.0))


@pytest.fixture
def demo(engine: EngineClient, own_folder: Path, qtbot: QtBot) -> Iterator[Document]:
    document = Document(engine, own_folder)
    document.open_demo()
    qtbot.waitUntil(lambda: document.task is not None, timeout=LONG)
    yield document
    engine.received.disconnect(document.receive)
    document.close()
    document.deleteLater()


@pytest.fixture
def view(qtbot: QtBot, demo: Document) -> ChoicesView:
    made = ChoicesView(demo)
    qtbot.addWidget(made)
    made.resize(400, 800)
    with qtbot.waitExposed(made):
        made.show()
    return made


def words(view: QWidget, name: str) -> str:
    found = view.findChild(QLabel, name)
    assert isinstance(found, QLabel)
    return found.text() if found.isVisible() else ""


def chart(view: ChoicesView, slot: str) -> StrengthChart:
    found = view.findChild(StrengthChart, f"slot_{slot}_strength_curve")
    assert isinstance(found, StrengthChart)
    return found


def exact(document: Document) -> bool:
    trace = document.strengths.traces.get(LAYER)
    return trace is not None and trace.now is not None and len(trace.points) >= 10


def test_that_the_chooser_tells_errors_limits_and_suggestions_as_strengths_move(
    qtbot: QtBot, view: ChoicesView, demo: Document
) -> None:
    for step in (
        *(follow_a_strength, take_a_suggestion, go_beyond_a_break_even),
        *(select_several_layers, remove_channels),
    ):
        demo.clear_choices()
        step(qtbot, view, demo)


def follow_a_strength(qtbot: QtBot, view: ChoicesView, demo: Document) -> None:
    demo.select((LAYER,))
    demo.set_choice((LAYER,), "structure", Setting("tucker", {"keep": 0.9}))
    qtbot.waitUntil(lambda: exact(demo), timeout=LONG)
    assert len(chart(view, "structure").points) == 10
    before = words(view, "selected_error")
    box = view.findChild(QDoubleSpinBox, "option_structure_keep")
    assert isinstance(box, QDoubleSpinBox)
    box.setValue(0.2)
    # No answer of the engine has come in between: this is the curve.
    moved = words(view, "selected_error")
    assert float(moved.split()[0]) > float(before.split()[0])
    assert chart(view, "structure").value == 0.2
    qtbot.waitUntil(lambda: exact(demo), timeout=LONG)
    assert float(words(view, "selected_error").split()[0]) == pytest.approx(
        float(moved.split()[0]), rel=0.4
    )


def take_a_suggestion(qtbot: QtBot, view: ChoicesView, demo: Document) -> None:
    demo.select((LAYER,))
    demo.set_choice((LAYER,), "structure", Setting("separable", {"keep": 0.9}))
    qtbot.waitUntil(lambda: bool(view.editors["structure"].strength.stops()), timeout=LONG)
    link = view.editors["structure"].strength.stops()[0]
    assert isinstance(link, QPushButton)
    assert link.text().startswith("Suggested by ")
    qtbot.mouseClick(link, Qt.MouseButton.LeftButton)
    setting = demo.setting(LAYER, "structure")
    assert setting is not None
    assert link.text().endswith(f"keep {setting.options['keep']:g}")
    assert setting.options["keep"] != 0.9


def go_beyond_a_break_even(qtbot: QtBot, view: ChoicesView, demo: Document) -> None:
    demo.select((LAYER,))
    demo.set_choice((LAYER,), "sparsity", Setting("magnitude", {"sparsity": 0.01}))
    warning = "slot_sparsity_strength_warning"
    qtbot.waitUntil(lambda: bool(words(view, warning)), timeout=LONG)
    assert words(view, warning).endswith("the layer gets no smaller.")
    assert words(view, warning) in chart(view, "sparsity").tip(0)
    demo.set_choice((LAYER,), "sparsity", Setting("magnitude", {"sparsity": 0.9}))
    assert words(view, warning) == ""


def select_several_layers(qtbot: QtBot, view: ChoicesView, demo: Document) -> None:
    names = ("block1.conv1", LAYER)
    demo.select(names)
    for name, bits in zip(names, (8, 3), strict=True):
        demo.set_choice((name,), "precision", Setting("integer", {"bits": bits}))
    qtbot.waitUntil(lambda: " to " in words(view, "selected_error"), timeout=LONG)
    assert not view.editors["precision"].strength.isVisible()


def remove_channels(qtbot: QtBot, view: ChoicesView, demo: Document) -> None:
    demo.select(("block1.conv1",))
    demo.set_choice(("block1.conv1",), "structure", Setting("channel_pruning"))
    qtbot.waitUntil(lambda: bool(words(view, "error_note")), timeout=LONG)
    assert "read them" in words(view, "error_note")
    assert words(view, "selected_error") == wording.NONE


def test_that_between_points_the_error_is_interpolated_until_it_is_known() -> None:
    trace = StrengthTrace(layer="a", slot="structure", method="svd", points=CURVE)
    assert error_at(trace, 0.25) == pytest.approx(0.6)
    assert error_at(trace, 0.5) == pytest.approx(0.2)
    assert error_at(trace, 2.0) == 0.0
    known = StrengthTrace(layer="a", slot="structure", method="svd", points=CURVE, now=0.3)
    assert error_at(known, 0.25) == 0.3


def test_that_limits_of_one_place_are_said_in_one_sentence() -> None:
    limit = BreakEven(at=0.47)
    trace = StrengthTrace(
        layer="a", slot="structure", method="svd", points=CURVE, smaller=limit, faster=limit,
        suggestions=(Suggestion(strength=0.31, why="variational Bayes"),),
    )  # fmt: skip
    shown = strength_facts.strength_shown(trace, KEEP, 0.6)
    assert shown is not None
    assert shown.warning == "Above 0.47 the layer gets no smaller and takes no fewer MACs."
    assert shown.suggestions == (("Suggested by variational Bayes: keep 0.31", 0.31),)
    within = strength_facts.strength_shown(trace, KEEP, 0.4)
    assert within is not None
    assert within.warning == ""
