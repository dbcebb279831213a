"""The window with the real engine: the demo by its button, and an engine killed in mid-run."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel, QMessageBox, QPushButton
from pytestqt.qtbot import QtBot

from featherweight.engine.recipe import Setting
from featherweight.engine.trainings import FineTuning
from featherweight.gui.document import Document
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.item_models.layer_table import Column
from featherweight.gui.main_window import MainWindow
from featherweight.gui.project_file import read_project
from featherweight.gui.settings import Settings

LONG = 30_000


@pytest.fixture
def demo(engine: EngineClient, own_folder: Path, qtbot: QtBot) -> Iterator[MainWindow]:
    """Return the window after a click on the demo; a window that was closed ended its engine."""
    engine.start()
    document = Document(engine, own_folder)
    window = MainWindow(document, engine, Settings(own_folder))
    document.setParent(window)
    qtbot.addWidget(window)
    with qtbot.waitExposed(window):
        window.show()
    start = window.findChild(QPushButton, "start_demo")
    assert isinstance(start, QPushButton)
    qtbot.mouseClick(start, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: document.task is not None, timeout=LONG)
    yield window
    window.close()


def test_that_a_killed_engine_is_told_in_one_sentence_and_the_run_resumed(
    demo: MainWindow, engine: EngineClient, qtbot: QtBot
) -> None:
    document = demo.document
    document.set_choice(("block1.conv1",), "structure", Setting("channel_pruning", {"ratio": 0.5}))
    document.set_recovery(FineTuning(epochs=200, batch_size=64))
    recipe, network, task = document.recipe, document.network, document.task
    with qtbot.waitSignal(document.point_added, timeout=LONG):
        demo.commands["compress"].trigger()
    os.kill(engine.process_id, signal.SIGKILL)
    qtbot.waitUntil(lambda: document.job is not None and document.job.state == "interrupted")
    assert demo.notices.text == (
        "The engine stopped unexpectedly (SIGKILL). It was started again; your choices are kept."
    )
    assert (document.recipe, document.network, document.task) == (recipe, network, task)
    assert demo.commands["resume"].isEnabled()
    demo.commands["resume"].trigger()
    job = document.job
    assert job is not None
    qtbot.waitUntil(lambda: job.state == "running" and job.step > 2, timeout=LONG)
    demo.commands["cancel"].trigger()
    qtbot.waitUntil(lambda: job.state == "cancelled", timeout=LONG)
    assert demo.commands["resume"].isEnabled()


def test_that_colouring_by_sensitivity_estimates_it_and_shows_it_everywhere(
    demo: MainWindow, qtbot: QtBot
) -> None:
    document, bench = demo.document, demo.workbench
    assert demo.commands["estimate_sensitivity"].isEnabled()
    show_graph = next(one for one in bench.toggles() if one.objectName() == "action_graph")
    show_graph.trigger()
    qtbot.waitUntil(lambda: bool(bench.graph.picture.boxes) and not bench.graph.busy, timeout=LONG)
    colours = bench.graph.bar.colour_box
    colours.setCurrentIndex(colours.findData("sensitivity"))
    job = document.job
    assert job is not None
    assert job.kind == "sensitivity"
    assert not demo.commands["compress"].isEnabled()
    qtbot.waitUntil(lambda: document.sensitivity is not None, timeout=LONG)
    assert (job.state, job.share) == ("done", 1.0)
    stem, norm = document.layers["stem.0"], document.layers["stem.1"]
    assert stem.sensitivity is not None
    assert stem.sensitivity.value > 0
    assert norm.sensitivity is None
    assert norm.sensitivity_lock
    assert bench.graph.key.accessibleDescription().endswith("loss at 4 bits, estimated")
    assert not bench.table.tree.header().isSectionHidden(Column.SENSITIVITY)


def test_that_closing_the_window_in_mid_run_keeps_what_can_be_resumed(
    demo: MainWindow, qtbot: QtBot
) -> None:
    document = demo.document
    document.set_choice(("block1.conv1",), "precision", Setting("integer", {"bits": 4}))
    document.set_recovery(FineTuning(epochs=200))
    with qtbot.waitSignal(document.point_added, timeout=LONG):
        document.compress("Long")
    demo.close()
    assert document.path is not None
    project = read_project(document.path)
    assert project.recipe == document.recipe
    assert project.unfinished is not None
    assert project.unfinished.name == "Long"
    assert project.unfinished.recipe == document.recipe
    assert project.unfinished.steps > 0


def test_that_figures_in_the_header_follow_the_choices(demo: MainWindow, qtbot: QtBot) -> None:
    parameters = demo.findChild(QLabel, "header_parameters")
    assert isinstance(parameters, QLabel)
    qtbot.waitUntil(lambda: parameters.text() == "155 k", timeout=LONG)
    setting = Setting("channel_pruning", {"ratio": 0.5})
    demo.document.set_choice(("block1.conv1",), "structure", setting)
    qtbot.waitUntil(lambda: parameters.text().startswith("155 k → 1"), timeout=LONG)


def test_that_quitting_in_mid_run_asks_first(demo: MainWindow, qtbot: QtBot) -> None:
    document = demo.document
    document.set_recovery(FineTuning(epochs=200))
    with qtbot.waitSignal(document.point_added, timeout=LONG):
        document.compress("Long")
    demo.commands["quit"].trigger()
    box = demo.findChild(QMessageBox, "stop_question")
    assert isinstance(box, QMessageBox)
    assert box.text() == "Long is still going."
    box.reject()
    assert demo.isVisible()
    assert document.job is not None
    assert document.job.active
    demo.commands["quit"].trigger()
    boxes = demo.findChildren(QMessageBox, "stop_question")
    qtbot.mouseClick(boxes[-1].buttons()[0], Qt.MouseButton.LeftButton)
    assert not demo.isVisible()
    assert document.unfinished is not None
