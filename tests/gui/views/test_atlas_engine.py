"""The atlas page with the real engine: a sweep of the demo, shown again after it was closed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from featherweight.engine.readings import SweepPlan
from featherweight.engine.recipe import Choice, Setting
from featherweight.gui.atlas_readings import key_of
from featherweight.gui.document import Document
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.views.atlas import AtlasView

LONG = 30_000
BITS = tuple(Choice(precision=Setting("integer", {"bits": bits})) for bits in (8, 2))
PLAN = SweepPlan(choices=BITS, layers=("block1.conv1", "classifier"), samples=100)


@pytest.fixture
def document_of(
    engine: EngineClient, own_folder: Path, qtbot: QtBot
) -> Iterator[Callable[[], Document]]:
    """Return a function that makes another document and closes the one before."""
    made: list[Document] = []

    def close() -> None:
        while made:
            document = made.pop()
            engine.received.disconnect(document.receive)
            document.close()
            document.deleteLater()

    def make() -> Document:
        close()
        made.append(Document(engine, own_folder))
        return made[-1]

    del qtbot
    yield make
    close()


def shown(document: Document, qtbot: QtBot) -> AtlasView:
    qtbot.waitUntil(lambda: document.task is not None, timeout=LONG)
    view = AtlasView(document)
    qtbot.addWidget(view)
    with qtbot.waitExposed(view):
        view.show()
    qtbot.waitUntil(lambda: document.atlas.estimate is not None, timeout=LONG)
    return view


def test_that_a_sweep_of_the_demo_is_read_once_and_shown_again_after_it_was_closed(
    document_of: Callable[[], Document], qtbot: QtBot
) -> None:
    document = document_of()
    document.open_demo()
    view = shown(document, qtbot)
    assert document.atlas.plan is not None
    assert len(document.atlas.plan.choices) > 5
    document.atlas.ask(PLAN)
    qtbot.waitUntil(lambda: document.atlas.estimate is not None, timeout=LONG)
    assert view.bar.about.text().startswith("4 readings, about ")
    qtbot.mouseClick(view.bar.start_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: view.bar.about.text() == "All 4 readings are there", timeout=LONG)
    qtbot.waitUntil(lambda: view.model.names == PLAN.layers, timeout=LONG)
    own = document.atlas.readings["block1.conv1"]
    mild, strong = (own[key_of(choice)] for choice in BITS)
    assert {mild.basis, strong.basis} == {"measured"}
    assert mild.damage is not None
    assert strong.damage is not None
    assert 0 <= mild.damage.value < strong.damage.value
    qtbot.waitUntil(lambda: view.curves.value.itemText(0) == "KL divergence", timeout=LONG)
    # Readings go by network and data, so no project has to be kept for them.
    document.save()
    assert document.path is None
    view.close()

    again = document_of()
    again.open_demo()
    view = shown(again, qtbot)
    again.atlas.ask(PLAN)
    qtbot.waitUntil(lambda: again.atlas.estimate is not None, timeout=LONG)
    assert view.bar.start_button.text() == "Show"
    qtbot.mouseClick(view.bar.start_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: view.model.names == PLAN.layers, timeout=LONG)
    assert again.atlas.readings["block1.conv1"][key_of(BITS[0])].damage == mild.damage
