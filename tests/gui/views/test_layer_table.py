"""The layer table: its tree, its order, its filter, and what the selection marks."""

import time

import msgspec
import pytest
from PySide6.QtCore import QModelIndex, Qt
from PySide6.QtTest import QAbstractItemModelTester
from pytestqt.qtbot import QtBot

from featherweight.engine.events import LatencyMeasured, Predicted, SensitivityEstimated
from featherweight.engine.layer import NetworkSummary
from featherweight.engine.recipe import Setting
from featherweight.engine.results import Cost, Prediction
from featherweight.gui.document import Document
from featherweight.gui.item_models.layer_table import Column, LayerTableModel
from featherweight.gui.views.layer_table import LayerTableView

ROOT = QModelIndex()


@pytest.fixture
def view(qtbot: QtBot, opened: Document) -> LayerTableView:
    made = LayerTableView(opened)
    qtbot.addWidget(made)
    made.resize(900, 600)
    with qtbot.waitExposed(made):
        made.show()
    return made


def shown(model: LayerTableModel, column: Column, parent: QModelIndex = ROOT) -> list[str]:
    texts = []
    for place in range(model.rowCount(parent)):
        index = model.index(place, 0, parent)
        texts.append(str(model.data(index.siblingAtColumn(column))))
        texts += shown(model, column, index)
    return texts


def test_that_modules_hold_their_layers_in_network_order(view: LayerTableView) -> None:
    assert shown(view.model, Column.LAYER) == [
        *("stem", "blocks"),
        *("0", "conv1", "bn1", "conv2", "bn2"),
        *("1", "conv1", "bn1", "conv2", "bn2"),
        "classifier",
    ]


def test_that_a_module_shows_the_sums_of_its_layers(view: LayerTableView) -> None:
    blocks = view.model.index(1, 0, ROOT)
    assert view.model.row(blocks).parameters == 4 * (16 * 16 * 9) + 4 * 16
    assert view.model.data(blocks.siblingAtColumn(Column.KIND)) == "8 layers"


def test_that_the_model_keeps_the_rules_of_qt_in_every_order(
    qtbot: QtBot, network: NetworkSummary
) -> None:
    del qtbot
    model = LayerTableModel()
    QAbstractItemModelTester(model, QAbstractItemModelTester.FailureReportingMode.Warning)
    model.show_layers({layer.name: layer for layer in network.layers})
    for column in Column:
        model.sort(column, Qt.SortOrder.DescendingOrder)
        model.filter("conv")
        model.filter("")
    assert model.rowCount() == len(network.layers)


def test_that_sorting_by_a_number_shows_all_layers_flat(view: LayerTableView) -> None:
    view.tree.header().setSortIndicator(Column.PARAMETERS, Qt.SortOrder.DescendingOrder)
    names = shown(view.model, Column.LAYER)
    assert names[0].startswith("blocks.")
    assert names[-1].endswith(("bn1", "bn2"))
    assert len(names) == 10
    view.tree.header().setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
    assert "blocks" in shown(view.model, Column.LAYER)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("classifier", ["classifier"]),
        ("CONV2D 0.conv", ["blocks", "0", "conv1", "conv2"]),
        ("linear locked", ["classifier"]),
        ("nothing like it", []),
    ],
)
def test_that_the_filter_keeps_layers_that_hold_every_word(
    qtbot: QtBot, view: LayerTableView, text: str, names: list[str]
) -> None:
    qtbot.keyClicks(view.filter_box, text)
    assert shown(view.model, Column.LAYER) == names


def test_that_selecting_a_module_selects_the_layers_in_it(view: LayerTableView) -> None:
    first = view.model.index(0, 0, view.model.index(1, 0, ROOT))
    view.tree.setCurrentIndex(first)
    names = tuple(f"blocks.0.{name}" for name in ("conv1", "bn1", "conv2", "bn2"))
    assert view._document.selection == names


def test_that_a_filtered_module_selects_only_what_is_shown(
    qtbot: QtBot, view: LayerTableView, opened: Document
) -> None:
    qtbot.keyClicks(view.filter_box, "conv2")
    blocks = next(
        view.model.index(place, 0, ROOT)
        for place in range(view.model.rowCount())
        if view.model.text(view.model.row(view.model.index(place, 0, ROOT)), Column.LAYER)
        == "blocks"
    )
    view.tree.setCurrentIndex(blocks)
    assert all("conv" in name for name in opened.selection)
    assert len(opened.selection) == 4


def test_that_coupled_layers_are_marked_as_soon_as_one_is_selected(
    view: LayerTableView, opened: Document
) -> None:
    opened.select(("stem",))
    assert view.tree.coupled == {"blocks.0.conv2", "blocks.1.conv2"}
    assert "2 more lose channels" in view.about.text()


def test_that_the_selection_survives_filtering_and_sorting(
    view: LayerTableView, opened: Document
) -> None:
    opened.select(("classifier",))
    view.filter_box.setText("class")
    view.tree.header().setSortIndicator(Column.MACS, Qt.SortOrder.DescendingOrder)
    view.filter_box.clear()
    assert opened.selection == ("classifier",)
    assert view.tree.selectionModel().isSelected(view.model.index_of("classifier"))


def test_that_a_lock_says_its_reason_in_tooltip_and_details_line(
    view: LayerTableView, opened: Document
) -> None:
    opened.select(("classifier",))
    tip = view.model.data(view.model.index_of("classifier"), Qt.ItemDataRole.ToolTipRole)
    assert "Its outputs are the classes." in str(tip)
    assert "Its outputs are the classes." in view.about.text()


def test_that_choices_stand_in_the_order_in_which_they_are_applied(
    view: LayerTableView, opened: Document
) -> None:
    opened.set_choice(("stem",), "precision", Setting("integer", {"bits": 4}))
    opened.set_choice(("stem",), "sparsity", Setting("magnitude"))
    index = view.model.index_of("stem", Column.CHOICES)
    assert view.model.data(index) == "Magnitude 0.8  →  Integer 4"
    opened.undo_stack.undo()
    assert view.model.data(index) == "Integer 4"


def test_that_a_chip_is_the_short_label_and_its_tooltip_the_full_title(
    view: LayerTableView, opened: Document
) -> None:
    short = (msgspec.structs.replace(m, label="{} bit") for m in opened.methods)
    view.model.show_methods(tuple(short))
    opened.set_choice(("stem",), "precision", Setting("integer", {"bits": 4}))
    index = view.model.index_of("stem", Column.CHOICES)
    assert view.model.data(index) == "4 bit"
    assert view.model.data(index, Qt.ItemDataRole.ToolTipRole) == "Integer 4"
    view.filter_box.setText("integer")
    assert view.model.index_of("stem").isValid()


def test_that_a_module_counts_its_layers_with_choices(
    view: LayerTableView, opened: Document
) -> None:
    blocks = view.model.index(1, Column.CHOICES, ROOT)
    assert view.model.data(blocks) == ""
    opened.set_choice(("blocks.0.conv1",), "sparsity", Setting("magnitude"))
    assert view.model.data(blocks) == "1 of 8 layers"


def test_that_measuring_says_so_until_it_is_answered(
    qtbot: QtBot, view: LayerTableView, opened: Document, network: NetworkSummary
) -> None:
    button = view.measure_button
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert (button.text(), button.isEnabled()) == ("Measuring…", False)
    layers = {layer.name: 1.0 for layer in network.layers}
    opened.receive(LatencyMeasured(layers=layers, total=20.0, batch=1))
    assert (button.text(), button.isEnabled()) == ("Measure again", True)


def test_that_predicted_sizes_fill_their_column_and_its_bar(
    view: LayerTableView, opened: Document, network: NetworkSummary
) -> None:
    costs = {
        layer.name: Cost(parameters=layer.parameters, macs=0, bits=layer.parameters * 8)
        for layer in network.layers
    }
    whole = Cost(parameters=0, macs=0, bits=0)
    opened.receive(
        Predicted(prediction=Prediction(layers=costs, before=whole, after=whole, exact=True))
    )
    index = view.model.index_of("classifier", Column.SIZE)
    assert view.model.data(index) == "160 B"
    assert view.model.share(view.model.row(index), Column.SIZE) == 0.25


def test_that_measured_latency_appears_with_its_share(
    view: LayerTableView, opened: Document, network: NetworkSummary
) -> None:
    layers = {layer.name: 1.0 for layer in network.layers} | {"stem": 11.0}
    opened.receive(LatencyMeasured(layers=layers, total=20.0, batch=1))
    index = view.model.index_of("stem", Column.LATENCY)
    assert view.model.data(index) == "11.0 ms"
    assert view.model.share(view.model.row(index), Column.LATENCY) == pytest.approx(0.55)


def test_that_rows_can_be_read_by_assistive_tools(view: LayerTableView) -> None:
    assert view.tree.accessibleName()
    index = view.model.index_of("stem")
    texts = [view.model.data(index.siblingAtColumn(column)) for column in Column]
    assert all(isinstance(text, str) for text in texts)
    assert texts[:3] == ["stem", "Conv2d", "16 × 14 × 14"]


def open_many(document: Document, network: NetworkSummary) -> None:
    """Open a network of 5,000 layers."""
    names = [f"stage{n // 100}.block{n % 100}.{kind}" for n in range(2500) for kind in ("a", "b")]
    document.layers = {
        name: msgspec.structs.replace(network.layers[1], name=name, coupled=()) for name in names
    }
    document.network_changed.emit()


def test_that_five_thousand_layers_are_selected_and_filtered_in_time(
    qtbot: QtBot, view: LayerTableView, opened: Document, network: NetworkSummary
) -> None:
    open_many(opened, network)
    view.tree.setFocus()
    began = time.process_time()
    qtbot.keyClick(view.tree, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    assert opened.selection == tuple(opened.layers)
    view.filter_box.setText(".a")
    view.filter_box.clear()
    assert time.process_time() - began < 5
    assert opened.selection == tuple(opened.layers)
    stages = {index.data() for index in view.tree.selectionModel().selectedRows()}
    assert stages == {f"stage{n}" for n in range(25)}
    opened.select(tuple(name for name in opened.layers if name.endswith(".a")))
    assert not view.tree.selectionModel().hasSelection()
    assert len(view.tree.inside) == 2500


def test_that_five_thousand_layers_scroll_a_page_in_time(
    view: LayerTableView, opened: Document, network: NetworkSummary
) -> None:
    open_many(opened, network)
    bar = view.tree.verticalScrollBar()
    view.tree.viewport().repaint()
    began = time.process_time()
    for page in range(10):
        bar.setValue(page * 500)
        view.tree.viewport().repaint()
    assert (time.process_time() - began) / 10 < 0.1


def test_that_sensitivity_has_a_column_as_soon_as_it_is_known_and_sorts(
    view: LayerTableView, opened: Document
) -> None:
    header = view.tree.header()
    assert header.isSectionHidden(Column.SENSITIVITY)
    assert set(shown(view.model, Column.SENSITIVITY)) == {""}
    told = {"stem": 0.002, "blocks.0.conv1": 3.14e-5, "blocks.0.conv2": 0.006}
    reasons = dict.fromkeys(opened.layers.keys() - told.keys(), "It has no gradients.")
    opened._on_estimated(
        SensitivityEstimated(layers=told, reasons=reasons, loss="cross entropy", samples=64)
    )
    assert not header.isSectionHidden(Column.SENSITIVITY)
    assert view.tree.horizontalScrollBar().maximum() == 0
    cells = dict(
        zip(shown(view.model, Column.LAYER), shown(view.model, Column.SENSITIVITY), strict=True)
    )
    assert (cells["stem"], cells["blocks"], cells["classifier"]) == ("0.002", "0.006", "\u2013")
    index = view.model.index_of("stem", Column.SENSITIVITY)
    tip = "+0.002 loss at 4 bits, estimated; 24.9 % of the sum"
    assert view.model.data(index, Qt.ItemDataRole.ToolTipRole) == tip
    index = view.model.index_of("classifier", Column.SENSITIVITY)
    assert view.model.data(index, Qt.ItemDataRole.ToolTipRole) == "It has no gradients."
    header.setSortIndicator(Column.SENSITIVITY, Qt.SortOrder.DescendingOrder)
    assert shown(view.model, Column.LAYER)[:3] == ["blocks.0.conv2", "stem", "blocks.0.conv1"]
    assert shown(view.model, Column.SENSITIVITY)[2] == "3.1e\u22125"
