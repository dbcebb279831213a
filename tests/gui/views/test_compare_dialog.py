"""Results compared: their curves over each other, their controls, and what came out."""

import msgspec
import pytest
from PySide6.QtWidgets import QListWidget
from pytestqt.qtbot import QtBot

from featherweight.engine.events import TaskSource, TaskSummary
from featherweight.engine.figures import Figure
from featherweight.engine.ledger import Ledger
from featherweight.engine.recipe import Recipe
from featherweight.engine.results import Control, Cost, Measures, Result
from featherweight.engine.trainings import FineTuning
from featherweight.gui.dialogs.compare import CompareDialog
from featherweight.gui.document import Document
from featherweight.gui.views.results import ResultsView

TASK = TaskSummary(
    source=TaskSource(data="images.npz"), recovery_samples=1000, measure_samples=100, classes=10,
    metrics=("top1",),
)  # fmt: skip
CURVE = ((0, 2.0, 0.1), (100, 1.0, 0.5), (200, 0.5, 0.75))


def figures(octets: float, top1: float) -> dict[str, Figure]:
    return {
        "bytes": Figure(octets, "B", "measured"), "top1": Figure(top1, "%", "measured")
    }  # fmt: skip


@pytest.fixture
def results() -> tuple[Result, ...]:
    """Return a result with both controls, one of half the batch, and one that was not trained."""
    dense = Control(kind="dense", figures=figures(4000, 93.0), curve=CURVE[1:])
    hard = Control(kind="hard labels", figures={"top1": Figure(88.0, "%", "simulated")})
    first = Result(
        identity="a", name="Four bits", parent="", archive="a.fwz",
        recipe=Recipe(recovery=FineTuning(epochs=2, batch_size=10)),
        before=Measures(figures=figures(4000, 92.0)), after=Measures(figures=figures(1000, 90.0)),
        predicted=Cost(parameters=9, macs=9, bits=8), ledger=Ledger(entries=()),
        created="2026-11-24T10:00:00", curve=CURVE, controls=(dense, hard),
    )  # fmt: skip
    halves = Recipe(recovery=FineTuning(epochs=1, batch_size=5, held_out=0.5))
    return (
        first,
        msgspec.structs.replace(first, identity="b", recipe=halves, controls=()),
        msgspec.structs.replace(
            first, identity="c", name="As it is", recipe=Recipe(), curve=(), controls=(),
        ),
    )  # fmt: skip


@pytest.fixture
def dialog(qtbot: QtBot, results: tuple[Result, ...]) -> CompareDialog:
    made = CompareDialog(results, TASK)
    qtbot.addWidget(made)
    with qtbot.waitExposed(made):
        made.show()
    return made


def test_that_controls_have_the_colour_of_their_result_and_dashes(dialog: CompareDialog) -> None:
    assert [(line.title, line.shade, line.dash) for line in dialog.chart.lines] == [
        ("Four bits", 0, "solid"),
        ("Four bits, dense", 0, "dashed"),
        ("Four bits", 1, "solid"),
        ("Source", None, "dashed"),
    ]
    assert dialog.legend.accessibleDescription() == "Four bits, Four bits, dense, Four bits, Source"


def test_that_curves_go_over_epochs_of_each_recovery_or_over_steps(dialog: CompareDialog) -> None:
    found = dialog.chart.nearest(2.0)
    assert found == (2.0, {"0": 0.75, "1": 0.75, "2": 0.75, "3": 0.92})
    assert dialog.chart.nearest(1.4) == (1.0, {"0": 0.5, "1": 0.5, "2": 0.5, "3": 0.92})
    dialog.over.setCurrentIndex(dialog.over.findData("Steps"))
    dialog.over.activated.emit(1)
    assert dialog.chart.nearest(90) == (100, {"0": 0.5, "1": 0.5, "2": 0.5, "3": 0.92})


def test_that_the_loss_is_drawn_instead_without_a_source(dialog: CompareDialog) -> None:
    dialog.shown.setCurrentIndex(dialog.shown.findData("loss"))
    dialog.shown.activated.emit(1)
    assert dialog.chart.isVisible()
    assert dialog.chart.nearest(0) == (0, {"0": 2.0, "1": 1.0, "2": 2.0})
    assert dialog.chart.accessibleName().startswith("Loss over epochs: Four bits")


def test_that_the_table_has_what_was_measured_of_results_and_controls(
    dialog: CompareDialog,
) -> None:
    table = dialog.table
    lines = [
        [table.topLevelItem(row).text(column) for column in range(7)]
        for row in range(table.topLevelItemCount())
    ]
    assert len(lines) == 5
    assert lines[0] == [
        *("Four bits, dense", "93.00 %", "+1.00 pt", "measured", "4.00 kB", "±0 %", "2"),
    ]
    assert lines[1][:6] == [
        *("Four bits", "90.00 %", "\u22122.00 pt", "measured", "1.00 kB", "\u221275 %"),
    ]
    assert lines[4] == ["Four bits, hard labels", "88.00 %", "\u22124.00 pt", "simulated",
                        "\u2013", "\u2013", "2"]  # fmt: skip


def test_that_without_any_curve_it_says_so_and_still_compares(
    qtbot: QtBot, results: tuple[Result, ...]
) -> None:
    made = CompareDialog(results[2:] * 2, None)
    qtbot.addWidget(made)
    made.show()
    assert made.empty.isVisible()
    assert made.table.topLevelItemCount() == 2
    assert [made.over.itemText(place) for place in range(made.over.count())] == ["over steps"]


def test_that_two_to_four_selected_results_are_compared(
    qtbot: QtBot, opened: Document, results: tuple[Result, ...]
) -> None:
    view = ResultsView(opened)
    qtbot.addWidget(view)
    with qtbot.waitExposed(view):
        view.show()
    opened.set_results(results + tuple(
        msgspec.structs.replace(results[2], identity=name) for name in "de"
    ))  # fmt: skip
    assert not view.compare_button.isEnabled()
    for row in (0, 1):
        view.list.item(row).setSelected(True)
    assert view.compare_button.isEnabled()
    view.compare_button.click()
    dialog = view.window().findChild(CompareDialog)
    assert isinstance(dialog, CompareDialog)
    assert dialog.table.topLevelItemCount() == 5
    dialog.close()
    view.list.selectAll()
    assert isinstance(view.list, QListWidget)
    assert not view.compare_button.isEnabled()
