"""What a person decided outlives undo, the engine's death and the end of the window."""

import os
import signal
from collections.abc import Callable
from typing import Any

from PySide6.QtWidgets import QListWidget

from featherweight.engine.recipe import Recipe
from featherweight.engine.trainings import FineTuning
from featherweight.gui.views.notice_bar import NoticeBar
from featherweight.gui.widgets.line_chart import LineChart


def test_that_undo_and_redo_walk_through_every_choice(person: Any) -> None:
    document = person.document
    states: list[Recipe] = []
    person.open_demo()
    document.recipe_changed.connect(
        lambda: states.append(document.recipe) if document.recipe not in states else None
    )
    person.choose_for_three_layers()
    chosen, steps = document.recipe, document.undo_stack.count()
    assert set(chosen.layers) == {"block1.conv1", "block2.conv1", "block2.conv2"}
    assert chosen.recovery == FineTuning(epochs=1)
    for _ in range(steps):
        assert document.recipe in states
        person.click("undo_button")
    assert document.recipe == Recipe()
    assert not document.can_compress
    for _ in range(steps):
        person.click("redo_button")
    assert document.recipe == chosen
    assert document.can_compress


def test_that_a_killed_engine_costs_one_sentence_and_the_run_is_resumed_to_its_end(
    person: Any,
) -> None:
    document = person.document
    person.open_demo()
    person.choose_for_three_layers()
    document.set_recovery(FineTuning(epochs=2, batch_size=128))
    network, recipe, task = document.network, document.recipe, document.task
    killed = person.client.process_id
    person.click("compress_button")
    accuracy = person.find(LineChart, "accuracy_chart")
    person.wait(lambda: accuracy.count("accuracy") > 1)
    os.kill(killed, signal.SIGKILL)
    person.wait(lambda: document.job.state == "interrupted")
    assert person.find(NoticeBar, "notice_bar").text == (
        "The engine stopped unexpectedly (SIGKILL). It was started again; your choices are kept."
    )
    assert (document.network, document.recipe, document.task) == (network, recipe, task)
    assert person.client.process_id not in (0, killed)
    person.click("resume_button")
    person.wait(lambda: document.results)
    assert accuracy.count("accuracy") == 9
    assert document.unfinished is None
    assert document.results[0].recipe == recipe


def test_that_a_document_opens_again_as_it_was_left(new_person: Callable[[], Any]) -> None:
    first = new_person()
    first.open_demo()
    first.choose_for_three_layers()
    first.click_tab("Recovery")
    first.click("recovery_switch")
    first.click("compress_button")
    first.wait(lambda: first.document.results)
    first.click("undo_button")
    left = first.document
    first.window.close()

    second = new_person()
    recent = second.find(QListWidget, "recent_files")
    assert recent.item(0).text() == "network"
    recent.itemClicked.emit(recent.item(0))
    found = second.document
    second.wait(lambda: found.task is not None)
    assert (found.source, found.network, found.task) == (left.source, left.network, left.task)
    assert (found.recipe, found.results) == (left.recipe, left.results)
    second.wait(lambda: found.prediction == left.prediction)
    assert second.find(QListWidget, "results_list").count() == 1
