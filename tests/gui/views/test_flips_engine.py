"""The page of flipped samples with the real engine: what a result does to the demo's images."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QImage
from pytestqt.qtbot import QtBot

from featherweight.engine.recipe import Setting
from featherweight.gui.document import Document
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.views.flips import FlipsView
from featherweight.gui.widgets.diverging_bars import LEFT, RIGHT

LONG = 60_000


@pytest.fixture
def document(engine: EngineClient, own_folder: Path, qtbot: QtBot) -> Iterator[Document]:
    """Return the demo with a result that loses some accuracy."""
    made = Document(engine, own_folder)
    made.open_demo()
    qtbot.waitUntil(lambda: made.task is not None, timeout=LONG)
    made.set_choice(("block2.conv1",), "precision", Setting("integer", {"bits": 2}))
    made.compress("Two bits")
    qtbot.waitUntil(lambda: bool(made.results), timeout=LONG)
    yield made
    engine.received.disconnect(made.receive)
    made.close()
    made.deleteLater()


def test_that_flipped_images_are_counted_and_shown_with_the_names_of_the_data(
    document: Document, qtbot: QtBot
) -> None:
    view = FlipsView(document)
    qtbot.addWidget(view)
    view.resize(900, 500)
    with qtbot.waitExposed(view):
        view.show()
    qtbot.mouseClick(view.bar.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: document.flips.found is not None, timeout=LONG)
    found = document.flips.found
    assert found is not None
    assert found.of == 2000
    assert len(found.flips) > 40
    before, after = (
        measures.figures["top1"].value
        for measures in (document.results[0].before, document.results[0].after)
    )
    lost, won = (view.classes.index(0, 0).data(role) for role in (LEFT, RIGHT))
    assert (won - lost) / 20 == pytest.approx(after - before)
    assert view.headline.text().startswith(f"{lost} of 2,000 went from right to wrong, {won} ")
    names = {view.classes.index(row, 0).data() for row in range(1, view.classes.rowCount())}
    assert names <= {
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    }
    qtbot.waitUntil(lambda: bool(document.flips.pictures), timeout=LONG)
    assert len(document.flips.pictures) < len(found.flips)
    image = view.model.index(0, 0).data(Qt.ItemDataRole.DecorationRole)
    assert isinstance(image, QImage)
    assert (image.width(), image.height()) == (28, 28)
    with qtbot.waitSignal(document.flips.pictured, timeout=LONG):
        view.grid.scrollToBottom()
    last = view.model.flips[-1].sample
    qtbot.waitUntil(lambda: last in document.flips.pictures, timeout=LONG)
