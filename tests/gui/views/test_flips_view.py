"""The page of flipped samples: lines, bars by class, directions, and the gallery."""

import msgspec
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QLabel, QPushButton
from pytestqt.qtbot import QtBot

from featherweight.engine.events import Failed, FlipsFound, SamplesShown, TaskReady
from featherweight.engine.ledger import Ledger
from featherweight.engine.recipe import Recipe
from featherweight.engine.results import Cost, Flip, Measures, Picture, Result
from featherweight.gui.document import Document
from featherweight.gui.item_models.flip_grid import FlipGrid
from featherweight.gui.views.flips import FlipsView
from featherweight.gui.views.results import ResultsView
from featherweight.gui.widgets.diverging_bars import LEFT, RIGHT
from featherweight.gui.widgets.thumbnail_grid import CAPTION

NAMES = ("ant", "bee", "cat")
FLIPS = (
    Flip(sample=3, label=1, before=1, after=0),
    Flip(sample=5, label=1, before=1, after=2),
    Flip(sample=8, label=2, before=0, after=2),
    Flip(sample=9, label=2, before=0, after=1),
    Flip(sample=11, label=1, before=0, after=1),
)
ANSWERS = 60


def result(name: str) -> Result:
    none = Measures(figures={})
    return Result(
        identity=name, name=name, parent="", recipe=Recipe(), archive=f"{name}.fwz", before=none,
        after=none, predicted=Cost(parameters=0, macs=0, bits=0), created="",
        ledger=Ledger(entries=(), container=0),
    )  # fmt: skip


@pytest.fixture
def document(supplied: Document) -> Document:
    """Return the document with named classes and two results."""
    assert supplied.task is not None
    named = msgspec.structs.replace(supplied.task, classes=3, class_names=NAMES)
    supplied.set_task(msgspec.structs.replace(named.source, data="named.npz"))
    for request in range(ANSWERS):
        supplied.receive(TaskReady(id=request, task=named))
    supplied.set_results((result("Mild"), result("Strong")))
    return supplied


@pytest.fixture
def view(qtbot: QtBot, document: Document) -> FlipsView:
    made = FlipsView(document)
    qtbot.addWidget(made)
    made.resize(900, 500)
    with qtbot.waitExposed(made):
        made.show()
    return made


def answer(document: Document, *flips: Flip, of: int = 20) -> None:
    assert document.job is not None
    document.receive(FlipsFound(id=document.job.request, flips=flips, of=of))


def compare(view: FlipsView, document: Document, qtbot: QtBot, *flips: Flip) -> None:
    qtbot.mouseClick(view.bar.button, Qt.MouseButton.LeftButton)
    answer(document, *flips)


def explained(view: FlipsView) -> str:
    return " ".join(label.text() for label in view.empty.findChildren(QLabel))


def button(view: FlipsView, name: str) -> QPushButton:
    found = view.findChild(QPushButton, name)
    assert isinstance(found, QPushButton)
    return found


def samples(view: FlipsView) -> list[int]:
    return [flip.sample for flip in view.model.flips]


def test_that_the_newest_result_is_compared_with_the_original(
    view: FlipsView, document: Document, qtbot: QtBot
) -> None:
    assert "Nothing compared yet" in explained(view)
    assert (view.bar.after.currentText(), view.bar.before.currentText()) == ("Strong", "Original")
    qtbot.mouseClick(view.bar.button, Qt.MouseButton.LeftButton)
    assert document.flips.pair == ("", "Strong.fwz")
    assert not view.bar.button.isEnabled()
    assert "Comparing…" in explained(view)
    answer(document, *FLIPS)
    assert view.filled.isVisible()
    assert view.headline.text() == (
        "2 of 20 went from right to wrong, 2 from wrong to right (measured)"
    )
    assert view.verdict.text() == (
        "The difference, +0.00 points, is within chance (McNemar, p = 1)."
        " 1 more went from one wrong class to another."
    )
    assert not view.bar.button.isEnabled()
    view.bar.before.setCurrentText("Mild")
    view.bar.before.activated.emit(1)
    assert view.bar.button.isEnabled()


def test_that_the_class_that_lost_most_stands_first_and_a_click_shows_only_it(
    view: FlipsView, document: Document, qtbot: QtBot
) -> None:
    compare(view, document, qtbot, *FLIPS)
    rows = [view.classes.index(row, 0) for row in range(view.classes.rowCount())]
    told = [(row.data(), row.data(LEFT), row.data(RIGHT)) for row in rows]
    assert told == [("All classes", 2, 2), ("bee", 2, 1), ("cat", 0, 1)]
    assert view.bars.most == 2
    assert samples(view) == [3, 5, 8, 9, 11]
    place = view.bars.visualRect(rows[2]).center()
    qtbot.mouseClick(view.bars.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert samples(view) == [8, 9]
    assert button(view, "flips_all").text() == "All 2"
    qtbot.keyClick(view.bars, Qt.Key.Key_Up)
    assert samples(view) == [3, 5, 11]
    assert rows[1].data(Qt.ItemDataRole.AccessibleTextRole) == "bee: 2 lost, 1 won"


def test_that_a_direction_is_chosen_by_mouse_and_by_arrow_keys(
    view: FlipsView, document: Document, qtbot: QtBot
) -> None:
    compare(view, document, qtbot, *FLIPS)
    texts = [one.text() for one in view.directions.buttons]
    assert texts == ["All 5", "Right → wrong 2", "Wrong → right 2", "Wrong → other wrong 1"]
    lost = button(view, "flips_lost")
    qtbot.mouseClick(lost, Qt.MouseButton.LeftButton)
    assert samples(view) == [3, 5]
    qtbot.keyClick(lost, Qt.Key.Key_Right)
    assert samples(view) == [8, 11]
    qtbot.mouseClick(button(view, "flips_moved"), Qt.MouseButton.LeftButton)
    assert samples(view) == [9]
    at = view.model.index(0, 0)
    assert (at.data(), at.data(CAPTION)) == ("cat", ("ant", "bee"))
    assert at.data(Qt.ItemDataRole.AccessibleTextRole) == "Sample 9 is cat: ant before, bee after"


def show_pictures(document: Document, *pictures: Picture) -> None:
    for request in range(ANSWERS):
        document.receive(SamplesShown(id=request, pictures=pictures))


def test_that_pictures_come_in_the_colours_of_the_samples(
    view: FlipsView, document: Document, qtbot: QtBot
) -> None:
    compare(view, document, qtbot, *FLIPS)
    qtbot.waitSignal(view.grid.seen).wait()
    decoration = Qt.ItemDataRole.DecorationRole
    assert view.model.index(0, 0).data(decoration) is None
    grey = Picture(sample=3, width=2, height=1, channels=1, pixels=bytes([0, 200]))
    colour = Picture(sample=5, width=1, height=2, channels=3, pixels=bytes([9, 8, 7, 1, 2, 3]))
    show_pictures(document, grey, colour)
    images = [view.model.index(row, 0).data(decoration) for row in range(3)]
    assert all(isinstance(image, QImage) for image in images)
    assert images[0].pixelColor(1, 0).getRgb()[:3] == (200, 200, 200)
    assert images[1].pixelColor(0, 1).getRgb()[:3] == (1, 2, 3)
    assert images[2].isNull()
    place = view.grid.visualRect(view.model.index(1, 0)).center()
    ground = view.grid.grab().toImage().pixelColor(place - QPoint(0, 20)).getRgb()[:3]
    assert ground == (9, 8, 7)


def test_that_of_ten_thousand_flips_only_those_in_sight_are_asked_for(
    view: FlipsView, document: Document, qtbot: QtBot
) -> None:
    flips = [
        Flip(sample=at, label=at % 3, before=at % 3, after=(at + 1) % 3) for at in range(10_000)
    ]
    with qtbot.waitSignal(view.grid.seen) as seen:
        compare(view, document, qtbot, *flips)
    first = seen.args[0]
    assert isinstance(view.grid.model(), FlipGrid)
    assert 0 < len(first) <= 40
    with qtbot.waitSignal(view.grid.seen) as seen:
        view.grid.scrollToBottom()
    last = seen.args[0]
    assert last.stop == 10_000
    assert len(last) <= 40
    for row in (last.start, last.stop - 1):
        place = view.grid.visualRect(view.model.index(row, 0))
        assert place.intersects(view.grid.viewport().rect()), row
    show_pictures(document)
    known = set(document.flips.pictures)
    assert known == {*view.model.samples(first), *view.model.samples(last)}


def test_that_why_nothing_can_be_compared_is_told_in_a_sentence(
    view: FlipsView, document: Document, qtbot: QtBot
) -> None:
    compare(view, document, qtbot)
    assert view.headline.text() == "None of 20 samples has another class (measured)"
    view.bar.after.setCurrentIndex(0)
    view.bar.after.activated.emit(0)
    qtbot.mouseClick(view.bar.button, Qt.MouseButton.LeftButton)
    assert document.job is not None
    document.receive(Failed(id=document.job.request, message="It is gone.", hint="Run it again."))
    assert "It is gone. Run it again." in explained(view)
    assert view.bar.button.isEnabled()
    document.set_results(())
    qtbot.mouseClick(view.bar.button, Qt.MouseButton.LeftButton)
    assert document.job.state == "failed"
    assert document.task is not None
    numbers = msgspec.structs.replace(document.task, metrics=("snr",), classes=0)
    document.set_task(numbers.source)
    for request in range(ANSWERS):
        document.receive(TaskReady(id=request, task=numbers))
    assert "The outputs of this network are no classes" in explained(view)
    assert not view.bar.isVisible()


def test_that_a_stopped_comparison_leaves_nothing_awaited(
    view: FlipsView, document: Document, qtbot: QtBot
) -> None:
    qtbot.mouseClick(view.bar.button, Qt.MouseButton.LeftButton)
    document.close()
    assert document.flips.pair is None
    assert "Nothing compared yet" in explained(view)
    assert view.bar.button.isEnabled()


def test_that_without_labels_the_original_counts_as_right(
    view: FlipsView, document: Document, qtbot: QtBot
) -> None:
    assert document.task is not None
    alike = msgspec.structs.replace(
        document.task, metrics=("agreement",), classes=0, class_names=()
    )
    document.set_task(alike.source)
    for request in range(ANSWERS):
        document.receive(TaskReady(id=request, task=alike))
    compare(view, document, qtbot, *FLIPS[:2])
    assert view.headline.text() == (
        "2 of 20 have another class than from the original network (measured)"
    )
    assert view.verdict.text() == ""
    assert button(view, "flips_lost").text() == "Original's → other 2"
    assert view.model.index(0, 0).data(CAPTION) == ("1", "0")


def test_that_a_result_asks_for_its_flips_and_two_of_them_for_each_other(
    qtbot: QtBot, document: Document
) -> None:
    results = ResultsView(document)
    qtbot.addWidget(results)
    with qtbot.waitExposed(results):
        results.show()
    results.list.setCurrentRow(0)
    with qtbot.waitSignal(results.flips_asked):
        qtbot.mouseClick(results.flips_button, Qt.MouseButton.LeftButton)
    assert document.flips.pair == ("", "Mild.fwz")
    assert not results.flips_button.isEnabled()
    answer(document, *FLIPS)
    results.list.selectAll()
    qtbot.mouseClick(results.flips_button, Qt.MouseButton.LeftButton)
    assert document.flips.pair == ("Mild.fwz", "Strong.fwz")
