"""The graph view: shared selection, coupled groups, folding, colours, search, keyboard."""

import msgspec
import pytest
from PySide6.QtCore import QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QMouseEvent, QWheelEvent
from PySide6.QtWidgets import QApplication, QLabel
from pytestqt.qtbot import QtBot

from featherweight.engine.events import Opened
from featherweight.engine.layer import NetworkSummary
from featherweight.gui.document import Document
from featherweight.gui.graph_drafter import Draft, Drafter
from featherweight.gui.main_window import MainWindow
from featherweight.gui.views.graph import GraphView
from featherweight.gui.views.layer_table import LayerTableView

NO_KEYS = Qt.KeyboardModifier.NoModifier
LEFT = Qt.MouseButton.LeftButton


def shown(qtbot: QtBot, document: Document) -> GraphView:
    view = GraphView(document)
    qtbot.addWidget(view)
    view.resize(900, 700)
    with qtbot.waitExposed(view):
        view.show()
    settle(qtbot, view)
    return view


def settle(qtbot: QtBot, view: GraphView) -> None:
    qtbot.waitUntil(lambda: not view.busy)


@pytest.fixture
def view(qtbot: QtBot, opened: Document) -> GraphView:
    return shown(qtbot, opened)


def place(view: GraphView, key: str) -> int:
    return [box.block.key for box in view.picture.boxes].index(key)


def frame(view: GraphView, key: str) -> int:
    return [box.block.key for box in view.picture.frames].index(key)


def keys(view: GraphView, places: frozenset[int]) -> set[str]:
    return {view.picture.boxes[found].block.key for found in places}


def point(view: GraphView, key: str) -> QPoint:
    return view.canvas.to_view(view.canvas.rect_of(place(view, key)).center()).toPoint()


def click(
    qtbot: QtBot, view: GraphView, key: str, modifiers: Qt.KeyboardModifier = NO_KEYS
) -> None:
    qtbot.mouseClick(view.canvas, LEFT, modifiers, point(view, key))


def fold(qtbot: QtBot, view: GraphView, key: str) -> None:
    shown_frame = view.picture.frames[frame(view, key)]
    inside = QPointF(shown_frame.x + 4, shown_frame.y + shown_frame.height - 4)
    qtbot.mouseDClick(view.canvas, LEFT, NO_KEYS, view.canvas.to_view(inside).toPoint())
    settle(qtbot, view)


def drag(view: GraphView, start: QPoint, end: QPoint, modifiers: Qt.KeyboardModifier) -> None:
    none = Qt.MouseButton.NoButton
    for kind, where, button, held in (
        (QEvent.Type.MouseButtonPress, start, LEFT, LEFT),
        (QEvent.Type.MouseMove, (start + end) / 2, none, LEFT),
        (QEvent.Type.MouseMove, end, none, LEFT),
        (QEvent.Type.MouseButtonRelease, end, LEFT, none),
    ):
        spot = QPointF(where)
        globally = view.canvas.mapToGlobal(spot)
        event = QMouseEvent(kind, spot, globally, button, held, modifiers)
        QApplication.sendEvent(view.canvas, event)


def test_that_a_small_network_is_shown_whole_and_unfolded(view: GraphView) -> None:
    assert view.folded == frozenset()
    assert len(view.picture.boxes) == 14
    assert {found.block.key for found in view.picture.frames} == {
        *("blocks", "blocks.0", "blocks.1"),
    }
    assert view.canvas.shown().contains(view.canvas.rect_of(place(view, "output")))


def test_that_a_click_selects_the_layer_in_the_document(
    qtbot: QtBot, view: GraphView, opened: Document
) -> None:
    click(qtbot, view, "blocks.0.conv1")
    assert opened.selection == ("blocks.0.conv1",)
    assert keys(view, view.canvas.looks.chosen) == {"blocks.0.conv1"}


def test_that_the_coupled_group_lights_up_with_the_selection(
    view: GraphView, opened: Document
) -> None:
    opened.select(("stem",))
    assert keys(view, view.canvas.looks.lit) == {"blocks.0.conv2", "blocks.1.conv2"}


def test_that_the_coupled_group_lights_up_under_the_pointer(
    qtbot: QtBot, view: GraphView, opened: Document
) -> None:
    qtbot.mouseMove(view.canvas, point(view, "blocks.1.conv2"))
    qtbot.waitUntil(lambda: bool(view.canvas.looks.hinted))
    assert keys(view, view.canvas.looks.hinted) == {"stem", "blocks.0.conv2", "blocks.1.conv2"}
    assert opened.selection == ()


def test_that_table_and_graph_follow_each_other(
    qtbot: QtBot, view: GraphView, opened: Document
) -> None:
    table = LayerTableView(opened)
    qtbot.addWidget(table)
    click(qtbot, view, "classifier")
    rows = table.tree.selectionModel().selectedRows()
    assert [table.model.layers_of(row) for row in rows] == [("classifier",)]
    table.tree.setCurrentIndex(table.model.index_of("blocks.1.bn1"))
    assert keys(view, view.canvas.looks.chosen) == {"blocks.1.bn1"}


def test_that_control_adds_and_takes_away(qtbot: QtBot, view: GraphView, opened: Document) -> None:
    click(qtbot, view, "stem")
    click(qtbot, view, "classifier", Qt.KeyboardModifier.ControlModifier)
    assert opened.selection == ("stem", "classifier")
    click(qtbot, view, "stem", Qt.KeyboardModifier.ControlModifier)
    assert opened.selection == ("classifier",)


def test_that_a_click_beside_all_boxes_clears_the_selection(
    qtbot: QtBot, view: GraphView, opened: Document
) -> None:
    click(qtbot, view, "stem")
    qtbot.mouseClick(view.canvas, LEFT, NO_KEYS, QPoint(2, 2))
    assert opened.selection == ()


def test_that_shift_and_dragging_select_what_is_swept(view: GraphView, opened: Document) -> None:
    top, bottom = point(view, "blocks.0.conv1"), point(view, "blocks.0.conv2")
    start, end = top - QPoint(1, 1), bottom + QPoint(1, 1)
    shift = Qt.KeyboardModifier.ShiftModifier
    drag(view, start, end, shift)
    assert opened.selection == ("blocks.0.conv1", "blocks.0.bn1", "blocks.0.conv2")


def test_that_dragging_moves_the_picture_and_selects_nothing(
    view: GraphView, opened: Document
) -> None:
    before = point(view, "stem")
    drag(view, QPoint(20, 300), QPoint(80, 340), NO_KEYS)
    assert point(view, "stem") - before == QPoint(60, 40)
    assert opened.selection == ()


def test_that_the_wheel_zooms_at_the_pointer(view: GraphView) -> None:
    at = QPointF(point(view, "blocks.1.conv1"))
    before, scale = view.canvas.to_scene(at), view.canvas.scale
    event = QWheelEvent(
        at, view.canvas.mapToGlobal(at), QPoint(), QPoint(0, 120), Qt.MouseButton.NoButton,
        NO_KEYS, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(view.canvas, event)
    after = view.canvas.to_scene(at)
    assert view.canvas.scale > scale
    assert (after - before).manhattanLength() < 1e-6


def test_that_a_double_click_folds_a_frame_and_unfolds_its_block(
    qtbot: QtBot, view: GraphView
) -> None:
    fold(qtbot, view, "blocks.0")
    assert view.folded == {"blocks.0"}
    assert view.picture.boxes[place(view, "blocks.0")].block.node is None
    qtbot.mouseDClick(view.canvas, LEFT, NO_KEYS, point(view, "blocks.0"))
    settle(qtbot, view)
    assert view.folded == frozenset()


def test_that_what_is_folded_stays_under_the_pointer(qtbot: QtBot, view: GraphView) -> None:
    before = view.picture.frames[frame(view, "blocks.1")]
    top = view.canvas.to_view(QPointF(before.x + before.width / 2, before.y))
    fold(qtbot, view, "blocks.1")
    after = view.canvas.rect_of(place(view, "blocks.1"))
    now = view.canvas.to_view(QPointF(after.center().x(), after.top()))
    assert (now - top).manhattanLength() < 1.0


def test_that_a_folded_block_stands_for_its_layers(
    qtbot: QtBot, view: GraphView, opened: Document
) -> None:
    fold(qtbot, view, "blocks.0")
    opened.select(("stem",))
    folded = place(view, "blocks.0")
    assert folded in view.canvas.looks.lit
    assert view.canvas.looks.counts == {folded: "1 coupled"}
    click(qtbot, view, "blocks.0")
    assert opened.selection == tuple(
        f"blocks.0.{label}" for label in ("conv1", "bn1", "conv2", "bn2")
    )


def test_that_the_buttons_fold_and_unfold_everything(qtbot: QtBot, view: GraphView) -> None:
    view.bar.fold.click()
    settle(qtbot, view)
    assert [box.block.key for box in view.picture.boxes] == [
        *("x", "stem", "blocks", "classifier", "output"),
    ]
    assert view.canvas.shown().contains(view.canvas.bounds)
    view.bar.unfold.click()
    settle(qtbot, view)
    assert len(view.picture.boxes) == 14


def test_that_a_hit_inside_a_folded_block_unfolds_it_and_is_centred(
    qtbot: QtBot, view: GraphView, opened: Document
) -> None:
    view.bar.fold.click()
    settle(qtbot, view)
    qtbot.keyClicks(view.bar.search_box, "blocks.1 conv2")
    assert keys(view, view.canvas.looks.found) == {"blocks"}
    qtbot.keyClick(view.bar.search_box, Qt.Key.Key_Return)
    settle(qtbot, view)
    assert opened.selection == ("blocks.1.conv1",)
    assert view.folded == {"blocks.0"}
    middle = QPointF(view.canvas.width() / 2, view.canvas.height() / 2)
    assert (QPointF(point(view, "blocks.1.conv1")) - middle).manhattanLength() < 3


def test_that_enter_goes_from_hit_to_hit_and_shift_back(
    qtbot: QtBot, view: GraphView, opened: Document
) -> None:
    qtbot.keyClicks(view.bar.search_box, "batchnorm")
    hits = []
    for modifiers in (NO_KEYS, NO_KEYS, Qt.KeyboardModifier.ShiftModifier):
        qtbot.keyClick(view.bar.search_box, Qt.Key.Key_Return, modifiers)
        hits += opened.selection
    assert hits == ["blocks.0.bn1", "blocks.0.bn2", "blocks.0.bn1"]


def test_that_arrows_move_along_the_edges(qtbot: QtBot, view: GraphView, opened: Document) -> None:
    click(qtbot, view, "stem")
    qtbot.keyClick(view.canvas, Qt.Key.Key_Down)
    assert opened.selection == ("blocks.0.conv1",)
    qtbot.keyClick(view.canvas, Qt.Key.Key_Down, Qt.KeyboardModifier.ShiftModifier)
    assert opened.selection == ("blocks.0.conv1", "blocks.0.bn1")
    qtbot.keyClick(view.canvas, Qt.Key.Key_Up)
    assert opened.selection == ("blocks.0.conv1",)


def test_that_home_shows_the_whole_again(qtbot: QtBot, view: GraphView) -> None:
    fitted = view.canvas.scale
    view.canvas.zoom(3.0)
    qtbot.keyClick(view.canvas, Qt.Key.Key_Home)
    assert view.canvas.scale == pytest.approx(fitted)
    view.canvas.zoom(3.0)
    qtbot.keyClick(view.canvas, Qt.Key.Key_F)
    assert view.canvas.scale == pytest.approx(fitted)


def test_that_what_the_keyboard_is_on_is_told_to_screen_readers(
    qtbot: QtBot, view: GraphView
) -> None:
    click(qtbot, view, "blocks.0.conv2")
    said = view.canvas.accessibleDescription()
    assert "blocks.0.conv2: Conv2d 16×16×3×3" in said
    assert "2 more layers lose channels too" in said
    assert "From bn1" in said
    assert "To bn2" in said


def test_that_a_network_without_a_graph_says_why(
    qtbot: QtBot, opened: Document, network: NetworkSummary
) -> None:
    reason = "It branches on data."
    opened.network = None
    opened.receive(
        Opened(network=msgspec.structs.replace(network, nodes=(), edges=(), graph_lock=reason))
    )
    view = shown(qtbot, opened)
    assert view.empty.isVisible()
    assert reason in [said.text() for said in view.empty.findChildren(QLabel)]
    assert not view.canvas.isVisible()


def test_that_only_the_newest_picture_arrives(qtbot: QtBot, network: NetworkSummary) -> None:
    drafter = Drafter()
    arrived: list[Draft] = []
    drafter.drawn.connect(arrived.append)
    for count in (4, 6, len(network.nodes)):
        nodes = network.nodes[:count]
        names = {node.name for node in nodes}
        edges = [edge for edge in network.edges if names.issuperset(edge)]
        drafter.begin(nodes, edges)
    qtbot.waitUntil(lambda: bool(arrived))
    QApplication.processEvents()
    assert [len(draft.picture.boxes) for draft in arrived] == [len(network.nodes)]
    assert not drafter.busy


def test_that_the_window_shows_the_graph_in_the_place_of_the_table(
    qtbot: QtBot, window: MainWindow, network: NetworkSummary
) -> None:
    window.document.receive(Opened(network=network))
    bench = window.workbench
    qtbot.waitUntil(bench.table.isVisible)
    action = next(found for found in bench.toggles() if found.objectName() == "action_graph")
    action.trigger()
    qtbot.waitUntil(lambda: len(bench.graph.picture.boxes) > 0)
    assert bench.graph.isVisible()
    assert not bench.table.isVisible()
    assert bench.graph.canvas.hasFocus()
    action.trigger()
    assert bench.table.isVisible()


def test_that_a_window_closed_while_a_graph_is_drawn_leaves_nothing_running(
    qtbot: QtBot, opened: Document
) -> None:
    view = GraphView(opened)
    view.show()
    assert view.busy
    view.close()
    view.deleteLater()
    QApplication.processEvents()
    del qtbot


def test_that_control_and_a_select_every_layer(
    qtbot: QtBot, view: GraphView, opened: Document
) -> None:
    qtbot.keyClick(view.canvas, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    assert set(opened.selection) == set(opened.layers)
    qtbot.keyClick(view.canvas, Qt.Key.Key_Escape)
    assert opened.selection == ()
