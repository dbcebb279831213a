"""The budget: a slider, fields and the frontier that move the choices of all layers."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtWidgets import QLabel, QLineEdit, QPushButton
from pytestqt.qtbot import QtBot

from featherweight.engine.events import PROTOCOL, Source, TaskSource
from featherweight.engine.figures import Figure
from featherweight.engine.ledger import Ledger
from featherweight.engine.readings import SweepPlan
from featherweight.engine.recipe import Choice, Setting
from featherweight.engine.results import Cost, Measures, Result
from featherweight.gui import wording
from featherweight.gui.document import Document
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.holds import Holds
from featherweight.gui.project_file import read_project
from featherweight.gui.views.budget import BudgetView
from featherweight.gui.views.layer_table import LayerTableView
from featherweight.gui.widgets.budget_bar import STEPS

LEFT = Qt.MouseButton.LeftButton


def integer(bits: int) -> Choice:
    return Choice(precision=Setting("integer", {"bits": bits}))


@pytest.fixture
def asked() -> list[str]:
    """Return what the process was asked, by the names of the requests; it grows."""
    return []


@pytest.fixture
def document(
    qtbot: QtBot,
    connect: Callable[..., EngineClient],
    stand_in: tuple[str, ...],
    own_folder: Path,
    asked: list[str],
) -> Document:
    """Return a document of three layers, each read with 16, 8 and 4 bits."""
    client = connect((*stand_in, str(PROTOCOL)))
    client.log.connect(lambda text: asked.extend(text.split()))
    made = Document(client, own_folder)
    made.setParent(client)
    made.open(Source(path="three.pt"), TaskSource(data="images.npz"))
    qtbot.waitUntil(lambda: made.task is not None)
    return made


@pytest.fixture
def view(qtbot: QtBot, document: Document) -> BudgetView:
    made = BudgetView(document)
    qtbot.addWidget(made)
    made.resize(400, 700)
    with qtbot.waitExposed(made):
        made.show()
    assert made.empty.isVisible()
    document.sweep(SweepPlan(choices=(integer(4),)))
    qtbot.waitUntil(lambda: made.bar.isVisible() and document.prediction is not None)
    qtbot.waitUntil(lambda: not document.allocations.tracing)
    return made


def settled(qtbot: QtBot, document: Document) -> None:
    qtbot.waitUntil(lambda: not document.allocations.awaited)


def text(view: BudgetView, name: str) -> str:
    label = view.findChild(QLabel, name)
    assert isinstance(label, QLabel)
    return label.text()


def button(view: BudgetView, name: str) -> QPushButton:
    found = view.findChild(QPushButton, name)
    assert isinstance(found, QPushButton)
    return found


def write(qtbot: QtBot, field: QLineEdit, words: str) -> None:
    field.setFocus()
    field.selectAll()
    qtbot.keyClicks(field, words)
    qtbot.keyClick(field, Qt.Key.Key_Return)


def test_that_the_slider_moves_all_layers_and_one_drag_is_one_step_to_undo(
    qtbot: QtBot, view: BudgetView, document: Document
) -> None:
    slider = view.bar.slider
    for bits in (8, 4):
        slider.setSliderDown(True)
        for place in (STEPS * 9 // 10, STEPS // 2, 0 if bits == 4 else STEPS // 2):
            slider.setSliderPosition(place)
            settled(qtbot, document)
        slider.setSliderDown(False)
        assert document.recipe.layers == dict.fromkeys("abc", integer(bits))
    assert document.undo_stack.count() == 2
    document.undo_stack.undo()
    assert document.recipe.layers == dict.fromkeys("abc", integer(8))
    document.undo_stack.undo()
    assert document.recipe.layers == {}


def test_that_of_many_moves_only_the_newest_is_asked_for_while_one_is_under_way(
    qtbot: QtBot, view: BudgetView, document: Document, asked: list[str]
) -> None:
    for place in range(STEPS - 1, 0, -5):
        view.bar.slider.setValue(place)
    view.bar.slider.setValue(0)
    settled(qtbot, document)
    qtbot.waitUntil(lambda: document.recipe.choice("a") == integer(4))
    qtbot.waitUntil(lambda: asked.count("Allocate") == 2)


def test_that_the_arrows_of_the_keyboard_move_the_budget(
    qtbot: QtBot, view: BudgetView, document: Document
) -> None:
    view.bar.slider.setFocus()
    qtbot.keyClick(view.bar.slider, Qt.Key.Key_Home)
    settled(qtbot, document)
    qtbot.keyClick(view.bar.slider, Qt.Key.Key_Right)
    settled(qtbot, document)
    assert document.allocations.wish is not None
    assert document.allocations.wish.limits.bits == pytest.approx(12000 * 8 ** (1 / STEPS))
    assert document.undo_stack.count() == 1


@pytest.mark.parametrize(
    ("words", "bits"), [("6 kB", 16), ("1/4", 8), ("13 %", 4), ("2×", 16), ("12 kB", 32)]
)
def test_that_an_exact_budget_is_kept(
    qtbot: QtBot, view: BudgetView, document: Document, words: str, bits: int
) -> None:
    write(qtbot, view.bar.field, words)
    settled(qtbot, document)
    wanted = {} if bits == 32 else dict.fromkeys("abc", integer(bits))
    assert document.recipe.layers == wanted


def test_that_what_is_no_budget_or_too_small_is_said(
    qtbot: QtBot, view: BudgetView, document: Document
) -> None:
    write(qtbot, view.bar.field, "small")
    assert text(view, "budget_trouble").startswith("“small” is no budget: write 300 kB")
    write(qtbot, view.bar.field, "20 B")
    settled(qtbot, document)
    assert text(view, "budget_trouble") == "Nothing is as small. Allow more."
    assert document.recipe.layers == {}


def test_that_a_largest_drop_leads_to_a_budget(
    qtbot: QtBot, view: BudgetView, document: Document
) -> None:
    view.bar.drop.setFocus()
    view.bar.drop.selectAll()
    qtbot.keyClicks(view.bar.drop, "2.4")
    qtbot.keyClick(view.bar.drop, Qt.Key.Key_Return)
    settled(qtbot, document)
    assert document.recipe.choice("b") == integer(8)
    assert view.bar.field.text() == "3.00 kB"
    assert text(view, "predicted_drop") == "2.4 ± 0.30"
    view.bar.slider.setValue(STEPS // 4)
    settled(qtbot, document)
    assert view.bar.drop.text() == ""


def test_that_a_click_on_the_frontier_and_a_drag_of_the_line_move_the_budget(
    qtbot: QtBot, view: BudgetView, document: Document
) -> None:
    chart = view.bar.chart
    box = chart.plot.getPlotItem().getViewBox()

    def place(budget: float) -> QPoint:
        at = box.mapViewToScene(QPointF(chart._place(budget), 1.0))
        return QPoint(chart.plot.mapFromScene(at))

    viewport = chart.plot.viewport()
    qtbot.mouseMove(viewport, place(26000))
    qtbot.mouseClick(viewport, LEFT, pos=place(26000))
    settled(qtbot, document)
    assert document.recipe.choice("a") == integer(8)
    assert chart.budget == pytest.approx(26000, rel=0.03)
    qtbot.mouseMove(viewport, place(26000))
    qtbot.mousePress(viewport, LEFT, pos=place(26000))
    for budget in (30000, 40000, 50000):
        qtbot.mouseMove(viewport, place(budget))
        settled(qtbot, document)
    qtbot.mouseRelease(viewport, LEFT, pos=place(50000))
    qtbot.waitUntil(lambda: document.recipe.choice("a") == integer(16))
    assert document.undo_stack.count() == 2


def test_that_what_the_recipe_costs_and_loses_stands_below(
    qtbot: QtBot, view: BudgetView, document: Document
) -> None:
    assert text(view, "predicted_drop") == "0.00"
    write(qtbot, view.bar.field, "1/4")
    settled(qtbot, document)
    qtbot.waitUntil(lambda: text(view, "predicted_size") == "3.00 kB")
    assert text(view, "predicted_size_note") == "\u221275 %, 4.00×"
    assert text(view, "budget_share") == "1/4"
    assert view.bar.chart.present is not None
    assert view.bar.chart.present[:2] == (24000, pytest.approx(2.4))
    document.use_choice(("a",), integer(16), "By hand")
    qtbot.waitUntil(lambda: text(view, "predicted_size") == "4.00 kB")
    assert view.bar.chart.budget is None
    qtbot.waitUntil(lambda: text(view, "predicted_drop").startswith("2.1"))


def test_that_of_what_was_not_read_no_loss_is_told(
    qtbot: QtBot, view: BudgetView, document: Document
) -> None:
    document.use_choice(("a",), integer(5), "By hand")
    qtbot.waitUntil(lambda: "Nothing was read of the choice of a" in view.held.text())
    assert text(view, "predicted_drop") == wording.NONE
    document.use_choice(("a",), integer(4), "By hand")
    qtbot.waitUntil(lambda: text(view, "predicted_drop") != wording.NONE)
    assert "Nothing was read" not in view.held.text()


def test_that_a_resource_without_a_frontier_says_why(
    qtbot: QtBot, view: BudgetView, document: Document
) -> None:
    view.resource.setFocus()
    qtbot.keyClick(view.resource, Qt.Key.Key_End)
    qtbot.waitUntil(lambda: text(view, "budget_trouble") == "No layer was timed. Time them.")
    assert not view.bar.isVisible()
    qtbot.keyClick(view.resource, Qt.Key.Key_Up)
    qtbot.waitUntil(lambda: text(view, "budget_trouble") == "The network costs nothing of it.")
    assert not view.bar.isVisible()
    qtbot.keyClick(view.resource, Qt.Key.Key_Home)
    qtbot.waitUntil(view.bar.isVisible)
    assert document.allocations.resource == "bits"


def test_that_held_layers_are_left_alone_and_kept_in_the_project(
    qtbot: QtBot, view: BudgetView, document: Document, tmp_path: Path
) -> None:
    document.use_choice(("a", "b"), integer(16), "By hand")
    document.hold(("a",), "kept")
    document.hold(("b",), "left")
    assert text(view, "budget_held") == "1 layer kept, 1 layer left as in the source"
    assert document.recipe.choice("b").empty
    view.bar.slider.setValue(STEPS // 2 + 40)
    settled(qtbot, document)
    qtbot.waitUntil(lambda: document.recipe.layers == {"a": integer(16)})
    document.save_as(tmp_path / "kept.featherweight")
    assert read_project(tmp_path / "kept.featherweight").holds == Holds(kept=("a",), left=("b",))
    document.undo_stack.undo()
    assert document.holds == Holds(kept=("a",))
    assert document.recipe.choice("b") == integer(16)
    document.open_project(tmp_path / "kept.featherweight")
    qtbot.waitUntil(lambda: document.holds == Holds(kept=("a",), left=("b",)))


def test_that_methods_can_be_left_out(view: BudgetView, document: Document) -> None:
    titles = {"integer": "Integer", "svd": "SVD", "huffman": "Huffman"}
    view.methods.show_methods(titles, ())
    assert view.methods.text() == "All methods"
    view.methods.menu().actions()[1].trigger()
    assert document.holds.methods == ("integer", "huffman")
    view.methods.show_methods(titles, document.holds.methods)
    assert view.methods.text() == "2 of 3 methods"
    view.methods.menu().actions()[1].trigger()
    assert document.holds.methods == ()


def test_that_a_refined_allocation_is_measured_and_a_step_of_its_own(
    qtbot: QtBot, view: BudgetView, document: Document
) -> None:
    assert not button(view, "refine_button").isEnabled()
    write(qtbot, view.bar.field, "1/4")
    settled(qtbot, document)
    document.clear_choices(("a",))
    assert view.known.basis == "estimated"
    qtbot.mouseClick(button(view, "refine_button"), LEFT)
    qtbot.waitUntil(lambda: document.recipe.choice("a") == integer(8))
    assert view.known.basis == "measured"
    assert document.undo_stack.count() == 3


def finished(document: Document, lost: float) -> Result:
    def measures(octets: float, top1: float) -> Measures:
        figures = {
            "bytes": Figure(octets, "B", "measured"),
            "top1": Figure(top1, "%", "measured"),
        }
        return Measures(figures=figures)

    return Result(
        identity="r", name="Run 1", parent="", recipe=document.recipe, archive="r.fwz",
        before=measures(12000, 90.0), after=measures(3100, 90.0 - lost),
        predicted=Cost(parameters=3000, macs=3000, bits=24000), created="2026-11-24T10:00:00",
        ledger=Ledger(entries=(), container=0),
    )  # fmt: skip


def test_that_a_result_of_the_recipe_stands_beside_its_prediction(
    qtbot: QtBot, view: BudgetView, document: Document
) -> None:
    write(qtbot, view.bar.field, "1/4")
    settled(qtbot, document)
    document.set_results((finished(document, 2.5),))
    assert view.actual.title.text() == "After Run 1"
    assert text(view, "actual_size") == "3.10 kB"
    assert text(view, "actual_drop") == "2.5"
    assert text(view, "budget_gap") == "As predicted: 0.10 points apart, within the error."
    assert not button(view, "blame_button").isVisible()
    document.clear_choices()
    assert not view.actual.isVisible()


def test_that_layers_to_blame_for_a_gap_can_be_relaxed(
    qtbot: QtBot, view: BudgetView, document: Document
) -> None:
    write(qtbot, view.bar.field, "1/4")
    settled(qtbot, document)
    document.set_results((finished(document, 4.0),))
    assert text(view, "budget_gap") == "It fell by 1.6 points more than predicted."
    qtbot.mouseClick(button(view, "blame_button"), LEFT)
    qtbot.waitUntil(view.guilty.isVisible)
    assert [relax.accessibleName() for relax in view.guilty.buttons] == ["Relax b", "Relax c"]
    qtbot.mouseClick(view.guilty.buttons[0], LEFT)
    assert document.recipe.choice("b") == integer(16)
    assert view.guilty.buttons[0].text() == "Relaxed"
    qtbot.mouseClick(view.guilty.buttons[1], LEFT)
    assert document.recipe.choice("c").empty
    document.undo_stack.undo()
    document.undo_stack.undo()
    assert document.recipe.layers == dict.fromkeys("abc", integer(8))


def test_that_the_table_flashes_layers_whose_choices_a_budget_changed(
    qtbot: QtBot, view: BudgetView, document: Document
) -> None:
    table = LayerTableView(document)
    qtbot.addWidget(table)
    table.resize(900, 400)
    with qtbot.waitExposed(table):
        table.show()
    document.hold(("a",), "left")
    write(qtbot, view.bar.field, "1/2")
    qtbot.waitUntil(lambda: not document.recipe.choice("b").empty)
    assert table.tree.flashing == {"b", "c"}
    qtbot.waitUntil(lambda: not table.tree.flashing)


def test_that_another_network_forgets_budget_and_holds(
    qtbot: QtBot, view: BudgetView, document: Document
) -> None:
    document.hold(("a",), "left")
    write(qtbot, view.bar.field, "1/2")
    settled(qtbot, document)
    document.open(Source(path="other.pt"))
    qtbot.waitUntil(lambda: not document.layers)
    assert document.holds.empty
    assert document.allocations.wish is None
    assert document.allocations.frontier is None
    assert view.empty.isVisible()


def test_that_without_readings_the_way_to_the_atlas_is_offered(
    qtbot: QtBot, document: Document
) -> None:
    view = BudgetView(document)
    qtbot.addWidget(view)
    with qtbot.waitExposed(view):
        view.show()
    with qtbot.waitSignal(view.atlas_asked):
        qtbot.mouseClick(button(view, "open_atlas_button"), LEFT)
    assert msgspec.structs.asdict(document.holds) == msgspec.structs.asdict(Holds())
