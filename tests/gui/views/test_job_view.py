"""The job panel: what it says of a run, and the charts that grow while it goes on."""

from pathlib import Path
from typing import get_args

import msgspec
import pytest
from PySide6.QtCore import QEvent, QPointF
from PySide6.QtWidgets import QApplication, QMessageBox, QToolTip
from pytestqt.qtbot import QtBot

from featherweight.engine.events import (
    Cancelled,
    Compressed,
    Exported,
    Failed,
    JobStarted,
    Point,
    Predicted,
    Progress,
)
from featherweight.engine.figures import Figure
from featherweight.engine.ledger import Ledger
from featherweight.engine.readings import SweepPlan
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.results import Cost, Export, Measures, Prediction, Result
from featherweight.engine.trainings import FineTuning
from featherweight.gui.dialogs.stop import stop_question
from featherweight.gui.document import Document
from featherweight.gui.job import Job, JobKind
from featherweight.gui.views.job import JobView

COST = Cost(parameters=10, macs=10, bits=8000)


@pytest.fixture
def view(qtbot: QtBot, opened: Document) -> JobView:
    made = JobView(opened)
    qtbot.addWidget(made)
    made.resize(880, 220)
    with qtbot.waitExposed(made):
        made.show()
    return made


@pytest.fixture
def ready(supplied: Document) -> Document:
    """Return the document with data and something to do, so that it can compress."""
    supplied.set_choice(("stem",), "precision", Setting("integer"))
    assert supplied.can_compress
    return supplied


def start(document: Document, steps: int = 100) -> int:
    document.compress("Run 1")
    assert document.job is not None
    request = document.job.request
    document.receive(JobStarted(id=request, steps=steps))
    return request


def result() -> Result:
    def measures(octets: float) -> Measures:
        return Measures(figures={"bytes": Figure(octets, "B", "measured")})

    return Result(
        identity="a", name="Run 1", parent="", recipe=Recipe(), archive="a.fwz",
        before=measures(4000), after=measures(500), predicted=COST, created="2026-11-24T10:00:00",
        ledger=Ledger(entries=()),
    )  # fmt: skip


def test_that_an_idle_panel_says_how_to_start(view: JobView, opened: Document) -> None:
    assert opened.job is None
    assert view.empty.isVisible()
    assert not view.panel.cancel_button.isVisible()


def test_that_progress_stage_and_time_left_are_shown(view: JobView, ready: Document) -> None:
    request = start(ready)
    ready.receive(Progress(id=request, step=25, steps=100, stage="Fine-tuning", left=90.0))
    panel = view.panel
    assert panel.title.text() == "Running: Run 1"
    assert (panel.stage.text(), panel.detail.text()) == ("Fine-tuning", "Step 25 of 100")
    assert panel.left.text() == "1 min 30 s left"
    assert panel.bar.value() == panel.bar.maximum() // 4
    assert panel.pause_button.isEnabled()
    assert panel.cancel_button.isEnabled()
    assert not panel.resume_button.isVisible()


def test_that_points_reach_their_charts_while_it_runs(
    qtbot: QtBot, view: JobView, ready: Document
) -> None:
    request = start(ready)
    for step in range(50):
        ready.receive(Point(id=request, series="loss", step=step, value=2.0 / (step + 1)))
    ready.receive(Point(id=request, series="accuracy", step=49, value=0.875))
    cards = view.charts.cards
    assert cards["loss"].chart.count("loss") == 50
    assert cards["loss"].value.text() == "0.040"
    assert cards["accuracy"].chart.count("accuracy") == 1
    assert cards["accuracy"].value.text() == "87.5 %"
    qtbot.waitUntil(lambda: len(cards["accuracy"].chart.plot.listDataItems()) == 1)


def test_that_every_series_has_its_chart_and_a_strange_one_is_kept(
    view: JobView, ready: Document
) -> None:
    request = start(ready)
    for series, value in (
        *(("loss", 0.5), ("accuracy", 0.875), ("control", 0.9), ("labels", 0.8), ("source", 0.92)),
        *(("rate", 0.0081), ("bits", 80_000.0), ("density", 0.25), ("gravity", 9.81)),
    ):
        ready.receive(Point(id=request, series=series, step=10, value=value))
    cards = view.charts.cards
    assert {name: card.value.text() for name, card in cards.items()} == {
        "loss": "0.500", "accuracy": "87.5 %", "rate": "0.0081", "size": "10.0 kB",
        "density": "25.0 %",
    }  # fmt: skip
    assert [line.title for line in cards["accuracy"].chart.lines] == [
        *("Recovering", "Dense control", "Hard labels", "Source"),
    ]
    assert cards["accuracy"].legend.isVisible()
    assert not cards["loss"].legend.isVisible()
    assert view.charts.tip(9).splitlines() == [
        *("Step 10", "Loss 0.500", "Accuracy 87.5 %", "Dense control 90.0 %"),
        *("Hard labels 80.0 %", "Source 92.0 %", "Learning rate 0.0081", "Size 10.0 kB"),
        "Density 25.0 %",
    ]
    assert ready.job is not None
    assert ready.job.points["gravity"] == [(10, 9.81)]


def test_that_the_source_is_known_from_an_earlier_result(view: JobView, ready: Document) -> None:
    made = result()
    figures = {"top1": Figure(92.5, "%", "measured")}
    ready.set_results((msgspec.structs.replace(made, before=Measures(figures=figures)),))
    request = start(ready)
    accuracy = view.charts.cards["accuracy"].chart
    assert accuracy.nearest(5) is None
    ready.receive(Point(id=request, series="accuracy", step=5, value=0.5))
    assert accuracy.nearest(5) == (5, {"source": 0.925, "accuracy": 0.5})


def test_that_the_pointer_over_a_chart_is_told_step_loss_and_accuracy(
    qtbot: QtBot, view: JobView, ready: Document
) -> None:
    request = start(ready)
    for step in range(0, 100, 10):
        ready.receive(Point(id=request, series="loss", step=step, value=2.0 - step / 100))
    loss, accuracy = (view.charts.cards[name].chart for name in ("loss", "accuracy"))
    for step, value in ((0, 0.5), (50, 0.75)):
        ready.receive(Point(id=request, series="accuracy", step=step, value=value))
    for chart, step, told in (
        (loss, 48, "Step 50\nLoss 1.500\nAccuracy 75.0 %"),
        (accuracy, 2, "Step 0\nLoss 2.000\nAccuracy 50.0 %"),
    ):
        box = chart.plot.getPlotItem().getViewBox()
        qtbot.waitUntil(lambda box=box: box.viewRect().right() > 49)
        scene = box.mapViewToScene(QPointF(step, box.viewRect().center().y()))
        qtbot.mouseMove(chart.plot.viewport(), chart.plot.mapFromScene(scene))
        qtbot.waitUntil(lambda told=told: QToolTip.text() == told)
        at = float(told.split()[1])
        assert (loss.mark, accuracy.mark) == (at, at)
    qtbot.mouseMove(view.panel.title)
    QApplication.sendEvent(accuracy.plot.viewport(), QEvent(QEvent.Type.Leave))
    assert (loss.mark, accuracy.mark) == (None, None)
    QToolTip.hideText()


def test_that_pausing_leads_to_a_resume_that_goes_on(view: JobView, ready: Document) -> None:
    request = start(ready)
    for step in range(30):
        ready.receive(Point(id=request, series="loss", step=step, value=1.0))
    ready.receive(Progress(id=request, step=30, steps=100, stage="Fine-tuning"))
    panel = view.panel
    panel.pause_button.click()
    assert panel.title.text() == "Stopping: Run 1"
    assert not panel.pause_button.isEnabled()
    ready.receive(Cancelled(id=request, step=30))
    assert panel.title.text() == "Paused: Run 1"
    assert panel.stage.text() == "Stopped at step 30 of 100"
    assert panel.detail.text() == "It can go on from there"
    assert not panel.pause_button.isVisible()
    panel.resume_button.click()
    assert ready.job is not None
    assert panel.title.text() == "Running: Run 1"
    ready.receive(JobStarted(id=ready.job.request, steps=100, resumed_at=20))
    ready.receive(Point(id=ready.job.request, series="loss", step=21, value=1.0))
    assert view.charts.count("loss") == 22


def agree(view: JobView, word: str) -> None:
    box = view.window().findChild(QMessageBox, "discard_question")
    assert isinstance(box, QMessageBox)
    next(each for each in box.buttons() if each.text() == word).click()


@pytest.mark.parametrize("paused", [False, True])
def test_that_a_cancelled_run_is_thrown_away_once_that_is_confirmed(
    view: JobView, ready: Document, paused: bool
) -> None:
    request = start(ready)
    ready.receive(Progress(id=request, step=30, steps=100, stage="Fine-tuning"))
    checkpoint = ready.results_folder / "a.checkpoint"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").touch()
    (ready.results_folder / "a.fwz").touch()
    if paused:
        view.panel.pause_button.click()
        ready.receive(Cancelled(id=request, step=30))
    view.panel.cancel_button.click()
    agree(view, "Keep it")
    assert ready.unfinished is not None
    view.panel.cancel_button.click()
    agree(view, "Throw away")
    if not paused:
        assert view.panel.title.text() == "Stopping: Run 1"
        assert checkpoint.exists()
        ready.receive(Cancelled(id=request, step=31))
    assert ready.unfinished is None
    assert not ready.can_resume
    assert [file.name for file in ready.results_folder.iterdir()] == ["a.fwz"]
    assert view.panel.title.text() == "Cancelled: Run 1"
    assert view.panel.stage.text() == "Nothing of it is kept"
    for button in (view.panel.resume_button, view.panel.cancel_button, view.panel.pause_button):
        assert not button.isVisible()


def test_that_a_run_that_ends_while_one_is_asked_is_kept(view: JobView, ready: Document) -> None:
    request = start(ready)
    view.panel.cancel_button.click()
    ready.receive(Compressed(id=request, result=result()))
    agree(view, "Throw away")
    assert len(ready.results) == 1
    assert view.panel.title.text() == "Done: Run 1"


@pytest.mark.parametrize(
    ("recovery", "kept"),
    [
        (FineTuning(), "weights as they are now"),
        (FineTuning(keep="best"), "weights as they are now"),
        (FineTuning(keep="best", held_out=0.2), "best weights so far"),
    ],
)
def test_that_a_training_is_ended_early_and_says_what_is_kept(
    view: JobView, ready: Document, recovery: FineTuning, kept: str
) -> None:
    ready.set_recovery(recovery)
    request = start(ready)
    button = view.panel.finish_button
    assert (button.isVisible(), button.isEnabled()) == (True, False)
    assert button.toolTip().startswith("Nothing is trained yet")
    ready.receive(Point(id=request, series="source", step=0, value=0.9))
    ready.receive(Progress(id=request, step=30, steps=100, stage="Recovering, epoch 1 of 3"))
    assert button.isEnabled()
    assert kept in button.toolTip()
    button.click()
    assert view.panel.detail.text() == "Ending the training early"
    assert not button.isEnabled()
    ready.receive(Compressed(id=request, result=result()))
    assert view.panel.title.text() == "Done: Run 1"
    assert not button.isVisible()


def test_that_a_run_without_a_training_cannot_be_ended_early(
    view: JobView, ready: Document
) -> None:
    start(ready)
    assert not view.panel.finish_button.isVisible()


def test_that_a_sweep_says_of_what_it_is_and_whose_curves_are_beside_it(
    view: JobView, ready: Document
) -> None:
    request = start(ready)
    ready.receive(Point(id=request, series="loss", step=1, value=1.0))
    assert not view.caption.isVisible()
    ready.receive(Compressed(id=request, result=result()))
    choices = tuple(Choice(precision=Setting("integer", {"bits": bits})) for bits in (8, 4))
    for layers, told in (
        ((), "Sweep of all layers"),
        (("stem",), "Sweep of stem"),
        (("stem", "classifier"), "Sweep of 2 layers"),
    ):
        ready.sweep(SweepPlan(choices=choices, layers=layers))
        assert view.panel.title.text() == f"Running: {told}"
        assert not view.panel.cancel_button.isVisible()
        view.panel.pause_button.click()
        assert ready.job is not None
        ready.receive(Cancelled(id=ready.job.request, step=0))
    assert view.caption.text() == "Curves of Run 1"
    assert view.caption.isVisible()


def test_that_a_failed_run_is_not_offered_to_go_on(view: JobView, ready: Document) -> None:
    request = start(ready)
    ready.receive(Failed(id=request, message="The disk is full."))
    assert view.panel.title.text() == "Failed: Run 1"
    assert not view.panel.resume_button.isVisible()
    assert not view.panel.cancel_button.isVisible()


def test_that_the_size_is_estimated_first_and_measured_at_the_end(
    view: JobView, ready: Document
) -> None:
    ready.receive(Predicted(prediction=Prediction(layers={}, before=COST, after=COST, exact=True)))
    request = start(ready)
    assert view.sizes.badge.basis == "estimated"
    assert view.sizes.after.text() == "→ 1.00 kB"
    ready.receive(Compressed(id=request, result=result()))
    assert view.sizes.badge.basis == "measured"
    assert view.sizes.after.text() == "→ 500 B"
    assert view.sizes.bars.share == 0.125
    assert view.panel.bar.value() == view.panel.bar.maximum()


def test_that_an_export_leaves_the_charts_and_the_size_of_the_run(
    view: JobView, ready: Document, tmp_path: Path
) -> None:
    request = start(ready)
    ready.receive(Point(id=request, series="loss", step=1, value=1.0))
    ready.receive(Compressed(id=request, result=result()))
    ready.export("", "onnx", tmp_path / "net.onnx")
    assert ready.job is not None
    assert view.panel.title.text() == "Running: net.onnx"
    assert view.charts.count("loss") == 1
    ready.receive(
        Exported(id=ready.job.request, export=Export(path="", format="onnx", checks={}, shares=()))
    )
    assert view.panel.title.text() == "Done: net.onnx"
    assert view.sizes.after.text() == "→ 500 B"
    assert view.sizes.badge.basis == "measured"


def test_that_an_estimate_shows_progress_without_charts_and_is_not_kept_when_stopped(
    view: JobView, ready: Document
) -> None:
    ready.estimate_sensitivity()
    assert ready.job is not None
    ready.receive(JobStarted(id=ready.job.request, steps=8))
    assert view.panel.title.text() == "Running: Sensitivity"
    assert not view.charts.isVisible()
    assert view.panel.cancel_button.isVisible()
    assert not view.panel.pause_button.isVisible()
    assert not ready.can_compress
    view.panel.cancel_button.click()
    ready.receive(Cancelled(id=ready.job.request, step=2))
    assert view.panel.stage.text() == "Nothing of it is kept"
    assert not view.panel.resume_button.isVisible()
    start(ready)
    assert view.charts.isVisible()


def test_that_a_small_loss_is_no_zero_and_no_labels_are_no_accuracy(
    view: JobView, ready: Document
) -> None:
    request = start(ready)
    ready.receive(Point(id=request, series="loss", step=1, value=0.0000613))
    assert view.charts.cards["loss"].value.text() == "6.13e-05"
    title = view.charts.cards["accuracy"].title
    assert title.currentText() == "Accuracy"
    assert ready.task is not None
    ready.task = msgspec.structs.replace(ready.task, classes=0)
    ready.task_changed.emit()
    assert title.currentText() == "Agreement"


@pytest.mark.parametrize("kind", get_args(JobKind))
def test_that_closing_says_what_becomes_of_every_kind_of_job(view: JobView, kind: JobKind) -> None:
    box = stop_question(Job(request=1, kind=kind, name="It"), view)
    assert box.informativeText().endswith(".")
