"""Trainings in the window with the real engine: a rate found, a run paused and ended early."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtWidgets import QPushButton, QWidget
from pytestqt.qtbot import QtBot

from featherweight.engine.recipe import Setting
from featherweight.engine.trainings import FineTuning
from featherweight.gui.document import Document
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.views.job import JobView
from featherweight.gui.views.recovery import RecoveryView

LONG = 60_000
LONG_TRAINING = FineTuning(epochs=20, batch_size=8)


@pytest.fixture
def demo(engine: EngineClient, own_folder: Path, qtbot: QtBot) -> Iterator[Document]:
    """Return a document with the demo and something to recover from."""
    engine.start()
    document = Document(engine, own_folder)
    document.open_demo()
    qtbot.waitUntil(lambda: document.task is not None, timeout=LONG)
    document.set_choice(("block1.conv1",), "precision", Setting("integer", {"bits": 4}))
    yield document
    document.close()
    document.deleteLater()


def shown(qtbot: QtBot, view: QWidget) -> Callable[[str], None]:
    """Show a view and return what clicks on its buttons."""
    qtbot.addWidget(view)
    view.resize(880, 800)
    with qtbot.waitExposed(view):
        view.show()

    def click(name: str) -> None:
        button = view.findChild(QPushButton, name)
        assert isinstance(button, QPushButton)
        assert button.isEnabled()
        button.click()

    return click


def test_that_a_run_is_paused_resumed_and_ended_early_with_what_it_has(
    demo: Document, qtbot: QtBot
) -> None:
    view = JobView(demo)
    click = shown(qtbot, view)
    demo.set_recovery(LONG_TRAINING)
    demo.compress()
    job = demo.job
    assert job is not None
    qtbot.waitUntil(lambda: bool(job.points.get("loss")), timeout=LONG)
    click("pause_button")
    qtbot.waitUntil(lambda: not job.active, timeout=LONG)
    assert view.panel.title.text() == "Paused: Run 1"
    reached = job.step
    click("resume_button")
    again = demo.job
    assert again is not None
    qtbot.waitUntil(lambda: again.step > reached, timeout=LONG)
    click("finish_button")
    with qtbot.waitSignal(demo.results_changed, timeout=LONG):
        assert again.finishing
    (result,) = demo.results
    assert 0 < result.curve[-1][0] < again.steps / 2
    assert again.points["source"] == [(0, result.before.figures["top1"].value / 100)]
    assert view.charts.count("accuracy") == len(again.points["accuracy"])


def test_that_a_cancelled_run_leaves_nothing_behind(demo: Document, qtbot: QtBot) -> None:
    demo.set_recovery(LONG_TRAINING)
    demo.compress()
    job = demo.job
    assert job is not None
    qtbot.waitUntil(lambda: bool(job.points.get("loss")), timeout=LONG)
    demo.discard(job)
    qtbot.waitUntil(lambda: not job.active, timeout=LONG)
    assert demo.unfinished is None
    assert list(demo.results_folder.iterdir()) == []


def test_that_a_rate_that_was_found_is_shown_and_taken(demo: Document, qtbot: QtBot) -> None:
    view = RecoveryView(demo)
    click = shown(qtbot, view)
    demo.set_recovery(FineTuning(epochs=1, learning_rate=1e-7))
    click("find_rate_button")
    qtbot.waitUntil(view.rates.isVisible, timeout=LONG)
    rates = [rate for rate, _ in view.rates.chart.points]
    assert len(rates) > 10
    assert rates == sorted(rates)
    click("use_rate_button")
    recovery = demo.recipe.recovery
    assert recovery is not None
    assert rates[0] < recovery.learning_rate < rates[-1]
    demo.undo_stack.undo()
    assert demo.recipe.recovery == FineTuning(epochs=1, learning_rate=1e-7)
