"""The atlas page: what it says of a plan, its map and curves, and cells that become choices."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import QModelIndex, Qt
from PySide6.QtGui import QColor, qGray
from PySide6.QtWidgets import QMenu, QTreeWidget, QTreeWidgetItem
from pytestqt.qtbot import QtBot

from featherweight.engine.events import (
    Cancelled,
    Failed,
    JobStarted,
    Progress,
    ReadingsTaken,
    SweepEnded,
    SweepPlanned,
    TaskReady,
)
from featherweight.engine.figures import Basis
from featherweight.engine.readings import Reading, Spread, SweepEstimate, SweepPlan, SweepSummary
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.results import Cost
from featherweight.gui.atlas_readings import key_of
from featherweight.gui.dialogs.sweep_plan import SweepDialog
from featherweight.gui.document import Document
from featherweight.gui.monotone import monotone
from featherweight.gui.views.atlas import BEST, AtlasView
from featherweight.gui.views.job import JobView
from featherweight.gui.widgets.heat_map import DARK_RAMP, LIGHT_RAMP

EIGHT = Choice(precision=Setting("integer", {"bits": 8}))
FOUR = Choice(precision=Setting("integer", {"bits": 4}))
PRUNED = Choice(structure=Setting("channel_pruning", {"ratio": 0.5}))
PLAN = SweepPlan(choices=(EIGHT, FOUR, PRUNED))
GROUP = ("stem", "blocks.0.conv2", "blocks.1.conv2")
SUMMARY = SweepSummary(
    readings=5, known=0, failed=1, samples=2000, damage="divergence", metric="top1"
)


def reading(
    layers: tuple[str, ...],
    choice: Choice,
    damage: float,
    bits: int,
    basis: Basis = "measured",
) -> Reading:
    return Reading(
        layers=layers, choice=choice, basis=basis, samples=2000 if basis == "measured" else 0,
        damage=Spread(damage, damage / 8), loss=Spread(damage * 2, 0.0), metric=Spread(0.5, 0.1),
        cost=Cost(parameters=0, macs=0, bits=bits),
    )  # fmt: skip


def five(document: Document) -> tuple[Reading, ...]:
    whole = document.layers["classifier"].bits
    conv = document.layers["stem"].bits
    group = sum(document.layers[name].bits for name in GROUP)
    return (
        reading(("classifier",), EIGHT, 0.001, -whole * 3 // 4),
        reading(("classifier",), FOUR, 0.1, -whole * 7 // 8, "estimated"),
        reading(("stem",), EIGHT, 0.02, -conv * 3 // 4),
        Reading(layers=("stem",), choice=FOUR, basis="measured", reason="It diverges."),
        reading(GROUP, PRUNED, 0.004, -group // 2),
    )


@pytest.fixture
def planned(supplied: Document) -> Document:
    """Return the document with data and an answered plan."""
    supplied.atlas.ask(None)
    answer(supplied, estimate(12, 3, 75.0, 120_000_000))
    return supplied


def estimate(missing: int, known: int, seconds: float, memory: int = 1) -> SweepEstimate:
    return SweepEstimate(
        missing=missing, known=known, seconds=seconds, memory=memory,
        damage="divergence", metric="top1",
    )  # fmt: skip


def answer(document: Document, estimate: SweepEstimate, plan: SweepPlan | None = None) -> None:
    """Answer the questions that wait, whatever their numbers are."""
    for request in range(1, 40):
        document.receive(
            SweepPlanned(id=request, plan=plan or document.atlas.plan or PLAN, estimate=estimate)
        )


@pytest.fixture
def view(qtbot: QtBot, planned: Document) -> AtlasView:
    made = AtlasView(planned)
    qtbot.addWidget(made)
    made.resize(1000, 420)
    with qtbot.waitExposed(made):
        made.show()
    return made


@pytest.fixture
def filled(view: AtlasView, planned: Document, qtbot: QtBot) -> AtlasView:
    """Return the view after five readings; it shows the strengths of integers."""
    with qtbot.waitSignal(planned.atlas.changed):
        planned.atlas.add(five(planned))
    show(view, "Integer")
    return view


def show(view: AtlasView, title: str) -> None:
    place = view.shown.findText(title)
    assert place >= 0
    view.shown.setCurrentIndex(place)
    view.shown.activated.emit(place)


def cell(view: AtlasView, name: str, title: str) -> QModelIndex:
    model = view.model
    return model.index(model.names.index(name), model.titles.index(title))


def tip(view: AtlasView, name: str, title: str) -> str:
    return str(view.model.data(cell(view, name, title), Qt.ItemDataRole.ToolTipRole))


def test_that_a_page_without_data_says_that_data_is_needed(qtbot: QtBot, opened: Document) -> None:
    made = AtlasView(opened)
    qtbot.addWidget(made)
    with qtbot.waitExposed(made):
        made.show()
    assert made.empty.isVisible()
    assert not made.bar.start_button.isEnabled()
    assert opened.atlas.plan is None


def test_that_a_plan_says_what_it_takes_before_it_starts(view: AtlasView) -> None:
    assert view.bar.about.text() == ("12 readings, about 1 min 15 s, 120 MB; 3 are there already")
    assert view.bar.planned.text() == "2 methods, 3 settings, at most 2\u202f000 samples each"
    assert view.bar.start_button.text() == "Start"
    assert view.bar.start_button.isEnabled()


def test_that_a_plan_that_cannot_be_says_why(view: AtlasView, planned: Document) -> None:
    planned.atlas.ask(PLAN)
    for request in range(1, 40):
        planned.receive(Failed(id=request, message="No layer is called a.", hint="Name another."))
    assert view.bar.about.text() == "No layer is called a. Name another."
    assert not view.bar.start_button.isEnabled()


def test_that_a_sweep_is_paused_resumed_and_extended(
    view: AtlasView, planned: Document, qtbot: QtBot
) -> None:
    jobs = JobView(planned)
    qtbot.addWidget(jobs)
    jobs.show()
    start = view.bar.start_button
    qtbot.mouseClick(start, Qt.MouseButton.LeftButton)
    job = planned.job
    assert job is not None
    assert job.kind == "sweep"
    planned.receive(JobStarted(id=job.request, steps=12))
    planned.receive(Progress(id=job.request, step=3, steps=12, stage="Reading", left=30.0))
    assert (start.text(), view.bar.about.text()) == ("Pause", "Reading, 25 %, 30 s left")
    assert not view.bar.change_button.isEnabled()
    qtbot.mouseClick(start, Qt.MouseButton.LeftButton)
    planned.receive(ReadingsTaken(id=job.request, readings=five(planned)))
    planned.receive(Cancelled(id=job.request, step=3))
    answer(planned, estimate(7, 5, 40.0))
    assert start.text() == "Resume"
    assert jobs.panel.resume_button.isVisible()
    qtbot.mouseClick(jobs.panel.resume_button, Qt.MouseButton.LeftButton)
    again = planned.job
    assert again is not None
    assert again.kind == "sweep"
    assert again.request != job.request
    planned.receive(SweepEnded(id=again.request, summary=SUMMARY))
    answer(planned, estimate(0, 12, 0.0))
    assert (start.text(), start.isEnabled()) == ("Extend", False)
    assert view.bar.about.text() == "All 12 readings are there"
    planned.atlas.ask(SweepPlan(choices=PLAN.choices, samples=5000))
    answer(planned, estimate(12, 0, 9.0))
    assert (start.text(), start.isEnabled()) == ("Extend", True)


def test_that_damage_goes_by_its_name_before_a_sweep_ends(
    filled: AtlasView, planned: Document, qtbot: QtBot
) -> None:
    assert planned.atlas.summary is None
    assert filled.model.damage == "KL divergence"
    asked = estimate(1, 0, 1.0)
    planned.atlas.ask(None)
    with qtbot.waitSignal(planned.atlas.changed):
        answer(planned, msgspec.structs.replace(asked, damage="output error", metric=""))
    assert filled.model.damage == "Output error"


def test_that_readings_outlive_the_same_data_and_no_other_network(
    filled: AtlasView, planned: Document
) -> None:
    assert planned.task is not None
    planned.set_task(planned.task.source)
    for request in range(1, 40):
        planned.receive(TaskReady(id=request, task=planned.task))
    assert filled.model.names
    assert planned.atlas.estimate is None
    planned.atlas.forget()
    assert filled.model.names == ()
    assert filled.empty.isVisible()


def test_that_a_map_tells_measured_estimated_failed_and_unread_cells_apart(
    filled: AtlasView,
) -> None:
    assert filled.model.names == ("stem", "blocks.0.conv2", "blocks.1.conv2", "classifier")
    assert filled.model.titles == ("4", "8")
    assert "Failed: It diverges." in tip(filled, "stem", "4")
    assert tip(filled, "classifier", "4").splitlines()[-2].startswith("Estimated: ")
    measured = tip(filled, "classifier", "8")
    assert "KL divergence 0.001 ± 0.00013" in measured
    assert "Measured on 2,000 samples: ".replace(",", "\u202f") in measured
    assert "Takes 25.0 % of its size" in measured
    assert tip(filled, "blocks.0.conv2", "8").startswith("Not read: ")
    plain, hatched = (plainness(filled, "classifier", title) for title in ("8", "4"))
    assert plain > hatched + 0.04
    assert plain > plainness(filled, "stem", "4") + 0.1


def plainness(view: AtlasView, name: str, title: str) -> float:
    """Return the share of a cell that has its commonest colour."""
    box = view.map.visualRect(cell(view, name, title)).adjusted(2, 2, -2, -2)
    picture = view.map.viewport().grab(box).toImage()
    counts = Counter(
        picture.pixel(x, y) for x in range(picture.width()) for y in range(picture.height())
    )
    return max(counts.values()) / counts.total()


def test_that_colours_are_powers_of_ten_and_say_so(filled: AtlasView) -> None:
    levels = filled.model.heat(Recipe()).levels
    rows = [filled.model.names.index(name) for name in ("classifier", "stem")]
    assert levels[rows].ravel().tolist() == pytest.approx([1.0, 0.0, 0.0, 0.6505], abs=1e-4)
    said = filled.key.accessibleDescription()
    assert said.startswith("KL divergence from 0.001 to 0.1 in powers of ten")


@pytest.mark.parametrize("ramp", [LIGHT_RAMP, DARK_RAMP])
def test_that_whoever_sees_no_hue_tells_more_from_less(ramp: Sequence[str]) -> None:
    greys = [qGray(QColor(shade).rgb()) for shade in ramp]
    steps = [after - before for before, after in pairwise(greys)]
    assert all(step > 8 for step in steps) or all(step < -8 for step in steps)


def test_that_the_best_map_shows_the_least_damage_within_each_size(filled: AtlasView) -> None:
    show(filled, BEST)
    model = filled.model
    assert model.titles[:4] == ("75 %", "50 %", "35 %", "25 %")
    row = model.names.index("stem")
    best = [model.reading(row, column) for column in range(len(model.titles))]
    assert [one.damage.value if one and one.damage else None for one in best[:5]] == [
        0.004, 0.004, 0.02, 0.02, None,
    ]  # fmt: skip
    assert "so small" in tip(filled, "stem", "18 %")


def test_that_rows_share_the_selection_with_the_other_pages(
    filled: AtlasView, planned: Document
) -> None:
    filled.map.selectRow(3)
    assert planned.selection == ("classifier",)
    planned.select(("stem", "blocks.1.conv2"))
    rows = {index.row() for index in filled.map.selectionModel().selectedRows()}
    assert rows == {0, 2}
    planned.select(())
    assert not filled.map.selectionModel().hasSelection()


def test_that_a_cell_becomes_the_choice_of_its_layers_and_can_be_undone(
    filled: AtlasView, planned: Document, qtbot: QtBot
) -> None:
    coded = Setting("huffman")
    planned.set_choice(("classifier",), "coding", coded)
    filled.map.setCurrentIndex(cell(filled, "classifier", "4"))
    qtbot.keyClick(filled.map, Qt.Key.Key_Return)
    assert planned.recipe.choice("classifier") == Choice(precision=FOUR.precision, coding=coded)
    ringed = filled.map.heat.chosen
    assert ringed == {(filled.model.names.index("classifier"), 0)}
    show(filled, "Channel pruning")
    filled.map.setCurrentIndex(cell(filled, "stem", "0.5"))
    qtbot.keyClick(filled.map, Qt.Key.Key_Return)
    assert {name for name in GROUP if planned.setting(name, "structure")} == set(GROUP)
    planned.undo_stack.undo()
    planned.undo_stack.undo()
    assert planned.recipe.choice("classifier") == Choice(coding=coded)


def test_that_a_failed_cell_is_no_choice(
    filled: AtlasView, planned: Document, qtbot: QtBot
) -> None:
    filled.map.setCurrentIndex(cell(filled, "stem", "4"))
    qtbot.keyClick(filled.map, Qt.Key.Key_Return)
    assert not planned.recipe.layers
    place = filled.map.visualRect(cell(filled, "stem", "4")).center()
    filled.map.customContextMenuRequested.emit(place)
    menu = filled.findChild(QMenu)
    assert isinstance(menu, QMenu)
    use, clear = menu.actions()
    assert (use.isEnabled(), clear.isEnabled()) == (False, False)
    menu.close()


def test_that_curves_show_the_selection_with_intervals(
    filled: AtlasView, planned: Document
) -> None:
    assert filled.curves.empty.isVisible()
    planned.select(("classifier", "stem"))
    chart = filled.curves.chart
    assert chart.isVisible()
    dots = [[(dot.x, dot.y, dot.error, dot.measured) for dot in curve] for curve in chart.curves]
    assert dots == [
        [(4.0, 0.1, 0.0125, False), (8.0, 0.001, 0.000125, True)],
        [(8.0, 0.02, 0.0025, True)],
    ]
    filled.curves.over.setCurrentIndex(1)
    filled.curves.over.activated.emit(1)
    assert [dot.x for dot in chart.curves[0]] == [12.5, 25.0]
    filled.curves.value.setCurrentIndex(2)
    filled.curves.value.activated.emit(2)
    assert filled.curves.value.currentText() == "Fall of top-1 accuracy, points"
    assert {dot.y for dot in chart.curves[0]} == {0.5}
    assert "Top-1 accuracy falls by 0.5 ± 0.1 points" in chart.curves[0][0].tip()
    show(filled, BEST)
    assert filled.curves.legend.accessibleDescription() == "Integer"
    assert not filled.curves.over.isVisible()


def test_that_a_dialog_asks_for_what_is_ticked_and_cancel_for_what_was(
    view: AtlasView, planned: Document, qtbot: QtBot
) -> None:
    del view
    planned.select(("stem",))
    dialog = SweepDialog(planned)
    qtbot.addWidget(dialog)
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose, False)
    dialog.open()
    assert set(map(key_of, dialog.plan.choices)) == set(map(key_of, PLAN.choices))
    leaf = found(dialog.tree, "Svd 0.5")
    with qtbot.waitSignal(planned.atlas.planned):
        leaf.setCheckState(0, Qt.CheckState.Checked)
        dialog.selected_box.setChecked(True)
    plan = planned.atlas.plan
    assert plan is not None
    assert plan.layers == ("stem",)
    assert Choice(structure=Setting("svd", {"keep": 0.5})) in plan.choices
    assert len(plan.choices) == 4
    answer(planned, estimate(1, 0, 2.0, 1_000_000))
    assert dialog.estimate.text() == "1 reading, about 2 s, 1.00 MB."
    dialog.filter_box.setText("svd")
    assert found(dialog.tree, "Integer").isHidden()
    dialog.reject()
    assert planned.atlas.plan == PLAN


def found(tree: QTreeWidget, text: str) -> QTreeWidgetItem:
    flags = Qt.MatchFlag.MatchExactly | Qt.MatchFlag.MatchRecursive
    return tree.findItems(text, flags)[0]


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12))
def test_that_smoothing_keeps_the_mean_and_what_is_in_order(values: list[float]) -> None:
    smooth = monotone(values)
    rises = all(one <= other + 1e-9 for one, other in pairwise(smooth))
    falls = all(one >= other - 1e-9 for one, other in pairwise(smooth))
    assert rises or falls
    assert sum(smooth) == pytest.approx(sum(values), abs=1e-6)
    assert monotone(sorted(values)) == pytest.approx(sorted(values))
