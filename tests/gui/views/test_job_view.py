"""The job panel: what it says of a run, and the charts that grow while it goes on."""

from pathlib import Path
from typing import get_args

import msgspec
import pytest
from PySide6.QtCore import QPointF
from PySide6.QtWidgets import QToolTip
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
from featherweight.engine.recipe import Recipe, Setting
from featherweight.engine.results import Cost, Export, Measures, Prediction, Result
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
    assert not view.cancel_button.isVisible()


def test_that_progress_stage_and_time_left_are_shown(view: JobView, ready: Document) -> None:
    request = start(ready)
    ready.receive(Progress(id=request, step=25, steps=100, stage="Fine-tuning", left=90.0))
    assert view.title.text() == "Running: Run 1"
    assert view.stage.text() == "Fine-tuning, step 25 of 100, 1 min 30 s left"
    assert view.bar.value() == view.bar.maximum() // 4
    assert view.cancel_button.isEnabled()
    assert not view.resume_button.isVisible()


def test_that_points_reach_their_charts_while_it_runs(
    qtbot: QtBot, view: JobView, ready: Document
) -> None:
    request = start(ready)
    for step in range(50):
        ready.receive(Point(id=request, series="loss", step=step, value=2.0 / (step + 1)))
    ready.receive(Point(id=request, series="accuracy", step=49, value=0.875))
    assert view.loss.count("loss") == 50
    assert view.loss_card.value.text() == "0.040"
    assert view.accuracy.count("accuracy") == 1
    assert view.accuracy_card.value.text() == "87.5 %"
    qtbot.waitUntil(lambda: len(view.accuracy.plot.listDataItems()) == 1)


def test_that_the_pointer_over_a_chart_is_told_step_loss_and_accuracy(
    qtbot: QtBot, view: JobView, ready: Document
) -> None:
    request = start(ready)
    for step in range(0, 100, 10):
        ready.receive(Point(id=request, series="loss", step=step, value=2.0 - step / 100))
    for step, value in ((0, 0.5), (50, 0.75)):
        ready.receive(Point(id=request, series="accuracy", step=step, value=value))
    for chart, step, told in (
        (view.loss, 48, "Step 50\nLoss 1.500\nAccuracy 75.0 %"),
        (view.accuracy, 2, "Step 0\nLoss 2.000\nAccuracy 50.0 %"),
    ):
        box = chart.plot.getPlotItem().getViewBox()
        qtbot.waitUntil(lambda box=box: box.viewRect().right() > 49)
        scene = box.mapViewToScene(QPointF(step, box.viewRect().center().y()))
        qtbot.mouseMove(chart.plot.viewport(), chart.plot.mapFromScene(scene))
        qtbot.waitUntil(lambda told=told: QToolTip.text() == told)
    QToolTip.hideText()


def test_that_cancelling_leads_to_a_resume_that_goes_on(view: JobView, ready: Document) -> None:
    request = start(ready)
    for step in range(30):
        ready.receive(Point(id=request, series="loss", step=step, value=1.0))
    ready.receive(Progress(id=request, step=30, steps=100, stage="Fine-tuning"))
    view.cancel_button.click()
    assert view.title.text() == "Stopping: Run 1"
    assert not view.cancel_button.isEnabled()
    ready.receive(Cancelled(id=request, step=30))
    assert view.stage.text() == "Stopped at step 30 of 100; it can go on from there."
    view.resume_button.click()
    assert ready.job is not None
    assert view.title.text() == "Running: Run 1"
    ready.receive(JobStarted(id=ready.job.request, steps=100, resumed_at=20))
    ready.receive(Point(id=ready.job.request, series="loss", step=21, value=1.0))
    assert view.loss.count("loss") == 22


def test_that_a_failed_run_is_not_offered_to_go_on(view: JobView, ready: Document) -> None:
    request = start(ready)
    ready.receive(Failed(id=request, message="The disk is full."))
    assert view.title.text() == "Failed: Run 1"
    assert not view.resume_button.isVisible()
    assert not view.cancel_button.isVisible()


def test_that_the_size_is_estimated_first_and_measured_at_the_end(
    view: JobView, ready: Document
) -> None:
    ready.receive(Predicted(prediction=Prediction(layers={}, before=COST, after=COST, exact=True)))
    request = start(ready)
    assert view.sizes.badge.basis == "estimated"
    assert view.sizes.after.text() == "After  1.00 kB"
    ready.receive(Compressed(id=request, result=result()))
    assert view.sizes.badge.basis == "measured"
    assert view.sizes.after.text() == "After  500 B"
    assert view.sizes.bars.share == 0.125
    assert view.bar.value() == view.bar.maximum()


def test_that_an_export_leaves_the_charts_and_the_size_of_the_run(
    view: JobView, ready: Document, tmp_path: Path
) -> None:
    request = start(ready)
    ready.receive(Point(id=request, series="loss", step=1, value=1.0))
    ready.receive(Compressed(id=request, result=result()))
    ready.export("", "onnx", tmp_path / "net.onnx")
    assert ready.job is not None
    assert view.title.text() == "Running: net.onnx"
    assert view.loss.count("loss") == 1
    ready.receive(
        Exported(id=ready.job.request, export=Export(path="", format="onnx", checks={}, shares=()))
    )
    assert view.title.text() == "Done: net.onnx"
    assert view.sizes.after.text() == "After  500 B"
    assert view.sizes.badge.basis == "measured"


def test_that_an_estimate_shows_progress_without_charts_and_is_not_kept_when_stopped(
    view: JobView, ready: Document
) -> None:
    ready.estimate_sensitivity()
    assert ready.job is not None
    ready.receive(JobStarted(id=ready.job.request, steps=8))
    assert view.title.text() == "Running: Sensitivity"
    assert not view.loss_card.isVisible()
    assert not ready.can_compress
    ready.cancel()
    ready.receive(Cancelled(id=ready.job.request, step=2))
    assert view.stage.text() == "Nothing of it is kept."
    assert not view.resume_button.isVisible()
    start(ready)
    assert view.loss_card.isVisible()


def test_that_a_small_loss_is_no_zero_and_no_labels_are_no_accuracy(
    view: JobView, ready: Document
) -> None:
    request = start(ready)
    ready.receive(Point(id=request, series="loss", step=1, value=0.0000613))
    assert view.loss_card.value.text() == "6.13e-05"
    assert view.accuracy_card.title.text() == "Accuracy per step"
    assert ready.task is not None
    ready.task = msgspec.structs.replace(ready.task, classes=0)
    ready.task_changed.emit()
    assert view.accuracy_card.title.text() == "Agreement per step"


@pytest.mark.parametrize("kind", get_args(JobKind))
def test_that_closing_says_what_becomes_of_every_kind_of_job(view: JobView, kind: JobKind) -> None:
    box = stop_question(Job(request=1, kind=kind, name="It"), view)
    assert box.informativeText().endswith(".")
