"""What the graph's boxes look like: colours, locks, bands of chosen methods, the selection."""

import pytest
from PySide6.QtCore import QRect
from PySide6.QtGui import QColor
from pytestqt.qtbot import QtBot

from featherweight.engine.events import (
    Failed,
    JobStarted,
    LatencyMeasured,
    SensitivityEstimated,
    TaskReady,
    TaskSource,
    TaskSummary,
)
from featherweight.engine.recipe import Setting
from featherweight.gui import theme
from featherweight.gui.document import Document
from featherweight.gui.views.graph import GraphView


@pytest.fixture
def view(qtbot: QtBot, opened: Document) -> GraphView:
    made = GraphView(opened)
    qtbot.addWidget(made)
    made.resize(900, 700)
    with qtbot.waitExposed(made):
        made.show()
    qtbot.waitUntil(lambda: not made.busy)
    return made


def place(view: GraphView, key: str) -> int:
    return [box.block.key for box in view.picture.boxes].index(key)


def test_that_locked_layers_carry_their_reason(view: GraphView) -> None:
    assert place(view, "blocks.0.bn1") in view.canvas.looks.locked
    assert place(view, "blocks.0.conv1") not in view.canvas.looks.locked
    assert "A batch norm has no matrix to change." in view.canvas.tip(place(view, "blocks.0.bn1"))


def test_that_colour_grows_with_the_figure_it_stands_for(view: GraphView) -> None:
    def lightness(key: str) -> float:
        fill = view.canvas.looks.fills[place(view, key)]
        return float(QColor(fill[0]).lightnessF())

    assert lightness("blocks.0.conv1") < lightness("stem") < lightness("blocks.0.bn1")
    assert view.canvas.looks.fills[place(view, "x")] == ()
    assert view.key.accessibleDescription() == "0 to 2\u202f304"


def test_that_latency_is_offered_to_be_measured_and_then_shown(
    view: GraphView, opened: Document
) -> None:
    view.bar.colour_box.setCurrentIndex(view.bar.colour_box.findData("latency"))
    assert view.measure_button.isVisible()
    assert view.key.accessibleDescription() == "Not measured yet"
    times = dict.fromkeys(opened.layers, 2.0)
    opened.receive(LatencyMeasured(layers=times, total=20.0, batch=1))
    assert not view.measure_button.isVisible()
    assert view.key.accessibleDescription() == "0 to 2.00 ms"


def test_that_sensitivity_says_what_it_needs_and_is_asked_for_as_soon_as_it_is_chosen(
    view: GraphView, opened: Document
) -> None:
    names = view.bar.colour_box
    names.setCurrentIndex(names.findData("sensitivity"))
    assert view.key.accessibleDescription() == "Needs data to estimate it on"
    assert not view.measure_button.isVisible()
    take_task(opened)
    assert view.key.accessibleDescription() == "Not estimated yet"
    assert view.measure_button.isVisible()
    names.setCurrentIndex(names.findData("macs"))
    names.setCurrentIndex(names.findData("sensitivity"))
    assert opened.job is not None
    assert (opened.job.kind, opened.job.state) == ("sensitivity", "running")
    assert view.key.accessibleDescription() == "Estimating…"
    request = opened.job.request
    opened.receive(JobStarted(id=request, steps=4))
    told = {"stem": 0.04, "blocks.0.conv1": 0.01}
    reasons = dict.fromkeys(opened.layers.keys() - told.keys(), "It has no weights.")
    event = SensitivityEstimated(id=request, layers=told, reasons=reasons, loss="", samples=64)
    opened.receive(event)
    assert view.key.accessibleDescription() == "0 to +0.04 loss at 4 bits, estimated"
    assert not view.measure_button.isVisible()
    fills = view.canvas.looks.fills
    stem, conv = (QColor(fills[place(view, key)][0]) for key in ("stem", "blocks.0.conv1"))
    assert stem.lightnessF() < conv.lightnessF()
    assert fills[place(view, "blocks.0.bn1")] == ()
    assert "+0.04 loss at 4 bits, estimated" in view.canvas.tip(place(view, "stem"))
    take_task(opened)
    assert view.key.accessibleDescription() == "Not estimated yet"


def test_that_sensitivity_that_could_not_be_estimated_is_offered_again(
    view: GraphView, opened: Document
) -> None:
    take_task(opened)
    view.bar.colour_box.setCurrentIndex(view.bar.colour_box.findData("sensitivity"))
    assert opened.job is not None
    assert not view.measure_button.isVisible()
    opened.receive(Failed(id=opened.job.request, message="The network gives no gradients."))
    assert view.measure_button.isVisible()
    assert view.measure_button.text() == "Estimate sensitivity"


def take_task(opened: Document) -> None:
    task = TaskSummary(
        source=TaskSource(data="images.npz"), recovery_samples=8, measure_samples=4, classes=10,
        metrics=("top1",),
    )  # fmt: skip
    opened.set_task(task.source)
    for request in range(1, 20):
        opened.receive(TaskReady(id=request, task=task))


def test_that_every_chosen_method_has_a_band_and_an_entry(
    view: GraphView, opened: Document
) -> None:
    view.bar.colour_box.setCurrentIndex(view.bar.colour_box.findData("choices"))
    assert view.key.accessibleDescription() == "Nothing is chosen yet"
    opened.set_choice(("stem",), "sparsity", Setting("magnitude"))
    opened.set_choice(("stem",), "precision", Setting("integer"))
    fill = view.canvas.looks.fills[place(view, "stem")]
    assert len(set(fill)) == 2
    assert view.key.accessibleDescription() == "Magnitude, Integer"
    assert view.canvas.looks.fills[place(view, "classifier")] == ()


def test_that_the_selection_is_seen_at_every_scale(view: GraphView, opened: Document) -> None:
    opened.select(("stem",))
    view.canvas.setFocus()
    accent = QColor(theme.colours().accent)
    seen = []
    for scale in (0.05, 0.15, 0.3, 1.0):
        view.canvas.scale = scale
        rect = view.canvas.rect_of(place(view, "stem"))
        view.canvas.centre_on(rect.center())
        picture = view.canvas.grab(QRect(300, 200, 300, 300)).toImage()
        shades = {picture.pixelColor(x, y).rgb() for x in range(300) for y in range(300)}
        seen.append(any(distance(QColor(shade), accent) < 40 for shade in shades))
    assert seen == [True] * 4


def distance(one: QColor, other: QColor) -> int:
    pairs = zip(one.getRgb()[:3], other.getRgb()[:3], strict=True)
    return sum(abs(first - second) for first, second in pairs)
