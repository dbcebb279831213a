"""The layer table as an item model: a tree by module, or a flat list once it is sorted."""

import math
from collections.abc import Collection, Iterable, Mapping
from enum import IntEnum
from typing import overload

from PySide6.QtCore import (
    QAbstractItemModel,
    QItemSelection,
    QItemSelectionRange,
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    Qt,
)

from featherweight.engine.layer import Layer
from featherweight.engine.options import MethodDescription
from featherweight.engine.recipe import Recipe
from featherweight.engine.results import Prediction
from featherweight.gui import wording
from featherweight.gui.holds import Hold, Holds
from featherweight.gui.item_models.layer_rows import (
    Row,
    add_up_figures,
    arrange,
    build_rows,
    neighbours,
)
from featherweight.gui.item_models.layer_words import LayerWords

Index = QModelIndex | QPersistentModelIndex
NO_INDEX = QModelIndex()
LAYER_ROLE = Qt.ItemDataRole.UserRole
MANY, MOST_BLOCKS = 200, 1000


class Column(IntEnum):
    """The columns, in the order in which they stand."""

    LAYER = 0
    KIND = 1
    SHAPE = 2
    PARAMETERS = 3
    MACS = 4
    LATENCY = 5
    SENSITIVITY = 6
    SIZE = 7
    HOLD = 8
    CHOICES = 9


TITLES = (
    *("Layer", "Kind", "Shape", "Parameters", "MACs", "Latency", "Sensitivity", "Size after"),
    *("Hold", "Choices"),
)
TIPS = (
    "The layers by the module they lie in. Click the other columns to sort all layers by them.",
    "What the layer computes.",
    "The output of the layer for the example input.",
    "Trainable numbers, and their share of the whole network.",
    "Multiplications with addition for one sample, and their share.",
    "Measured time of one call, and its share of the sum over all layers.",
    "By how much the loss would rise were the weights of this layer alone held in 4 bits;"
    " estimated from gradients on the data. It compares layers: where training did not end at the"
    " least loss, the real rise may be many times as large.",
    "Stored size that the recipe is predicted to give, against the size before.",
    "The pin lets budgets keep the choice of the layer, the crossed circle leaves it as it is.",
    "What the recipe does to the layer, in the order in which it is applied.",
)
NUMBERS = frozenset(
    {Column.PARAMETERS, Column.MACS, Column.LATENCY, Column.SENSITIVITY, Column.SIZE}
)


class LayerTableModel(QAbstractItemModel):
    """Rows over the layers of one network; views paint from `row`, assistive tools read `data`."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._rows: list[Row] = build_rows(())
        self._by_name: dict[str, Row] = {}
        self._layers: dict[str, Layer] = {}
        self._method_words = LayerWords()
        self._holds = Holds()
        self._words: tuple[str, ...] = ()
        self._sorted: tuple[Column, bool] | None = None
        self.total_parameters = 0
        self.total_macs = 0
        self.total_latency = self.total_sensitivity = 0.0

    def show_layers(self, layers: Mapping[str, Layer]) -> None:
        """Show another network."""
        self.beginResetModel()
        self._layers = dict(layers)
        self._rows = build_rows(layers.values())
        self._by_name = {row.layer.name: row for row in self._rows if row.layer is not None}
        root = self._rows[0]
        self.total_parameters, self.total_macs = root.parameters, root.macs
        self._arrange()
        self.endResetModel()

    def show_methods(self, methods: Iterable[MethodDescription]) -> None:
        """Learn the titles of methods, and which of them a layer may be locked for."""
        self._method_words = LayerWords(methods)
        self._tell(Column.CHOICES)

    def show_figures(self, layers: Mapping[str, Layer]) -> None:
        """Take over what was measured and estimated of the layers that are shown."""
        for name, layer in layers.items():
            if name in self._by_name:
                self._by_name[name].layer = layer
        self._layers = dict(layers)
        for row in reversed(self._rows):
            add_up_figures(row)
        self.total_latency = self._rows[0].latency or 0.0
        self.total_sensitivity = self._rows[0].sensitivity or 0.0
        self._tell(Column.LATENCY)
        self._tell(Column.SENSITIVITY)

    def show_recipe(self, recipe: Recipe) -> None:
        """Take over the choices."""
        for name, row in self._by_name.items():
            choice = recipe.layers.get(name)
            row.chips = () if choice is None else self._method_words.chips(choice)
            row.chosen = () if choice is None else self._method_words.chosen(choice)
        self._tell(Column.CHOICES)

    def show_holds(self, holds: Holds) -> None:
        """Take over which layers budgets do not change."""
        self._holds = holds
        self._tell(Column.HOLD)

    def can_hold(self, row: Row) -> bool:
        """Whether budgets could change a layer, or one of the layers in a module."""
        return any(not self.is_locked(layer) for layer in row.layers())

    def hold(self, row: Row) -> Hold | None:
        """Return how a row is held; a module as all of it that can be."""
        free = [layer.name for layer in row.layers() if not self.is_locked(layer)]
        holds = {self._holds.of(name) for name in free}
        return holds.pop() if len(holds) == 1 else None

    def show_prediction(self, prediction: Prediction | None) -> None:
        """Take over the predicted sizes; None clears them."""
        costs = prediction.layers if prediction else {}
        for row in reversed(self._rows):
            cost = costs.get(row.layer.name) if row.layer else None
            parts = [child.bits for child in row.children]
            own = cost.bits if cost else (row.layer.bits if row.layer else 0)
            row.bits = sum(part or 0 for part in parts) + own if prediction else None
        self._tell(Column.SIZE)

    def filter(self, text: str) -> None:
        """Show only layers whose path, kind or choices hold every word of the text."""
        self._words = tuple(text.lower().split())
        self._rearrange()

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Show all layers flat in the order of a column; the first column brings the tree back."""
        descending = order == Qt.SortOrder.DescendingOrder
        self._sorted = None if column <= 0 else (Column(column), descending)
        self._rearrange()

    @property
    def flat(self) -> bool:
        """Whether the layers stand without their modules."""
        return self._sorted is not None

    def row(self, index: Index) -> Row:
        """Return the row of an index, the invisible root of an invalid one."""
        return self._rows[index.internalId()] if index.isValid() else self._rows[0]

    def index_of(self, name: str, column: int = 0) -> QModelIndex:
        """Return the index of a layer, an invalid one where it is not shown."""
        row = self._by_name.get(name)
        return NO_INDEX if row is None else self._index(row, column)

    def selection_of(self, names: Collection[str]) -> QItemSelection:
        """Return the rows of layers as a selection.

        Qt takes the square of its blocks in time, so that of many layers whole modules are taken,
        and nothing where they lie scattered.
        """
        found = QItemSelection()
        blocks = list(neighbours(self._rows[0], set(names), len(names) > MANY))
        for first, last in blocks if len(blocks) <= MOST_BLOCKS else ():
            found.append(QItemSelectionRange(self._index(first, 0), self._index(last, 0)))
        return found

    def layers_in(self, selection: QItemSelection) -> tuple[str, ...]:
        """Return the names of the layers in selected rows, in the order of the network."""
        found: set[str] = set()
        for block in map(selection.at, range(selection.count())):
            above = block.parent()
            for place in range(block.top(), block.bottom() + 1):
                found.update(self.layers_of(self.index(place, 0, above)))
        return tuple(name for name in self._layers if name in found)

    def layers_of(self, index: Index) -> tuple[str, ...]:
        """Return the names of a row's layers that the filter lets through."""
        row = self.row(index)
        if self.flat:
            return (row.layer.name,) if row.layer else ()
        return tuple(layer.name for layer in row.layers() if self._keeps(self._by_name[layer.name]))

    def is_locked(self, layer: Layer) -> bool:
        """Whether no method can take the layer."""
        return self._method_words.is_locked(layer)

    def lock_reasons(self, layer: Layer) -> tuple[str, ...]:
        """Return what to say of locked slots: one sentence for every reason, once."""
        return self._method_words.lock_reasons(layer)

    def columnCount(self, parent: Index = NO_INDEX) -> int:  # noqa: N802, ARG002
        return len(Column)

    def rowCount(self, parent: Index = NO_INDEX) -> int:  # noqa: N802
        return len(self.row(parent).shown) if parent.column() <= 0 else 0

    def index(self, row: int, column: int, parent: Index = NO_INDEX) -> QModelIndex:
        shown = self.row(parent).shown
        if not (0 <= row < len(shown) and 0 <= column < len(Column)):
            return NO_INDEX
        return self.createIndex(row, column, shown[row].identity)

    @overload
    def parent(self) -> QObject | None: ...

    @overload
    def parent(self, index: Index) -> QModelIndex: ...

    def parent(self, index: Index | None = None) -> QObject | QModelIndex | None:
        if index is None:
            return super().parent()
        row = self.row(index)
        if self.flat or row.parent is None or row.parent.parent is None:
            return NO_INDEX
        return self.createIndex(row.parent.place, 0, row.parent.identity)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if not index.isValid():
            return None
        row, column = self.row(index), Column(index.column())
        if role == Qt.ItemDataRole.DisplayRole:
            return self.text(row, column)
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._tip(row, column)
        if role == Qt.ItemDataRole.TextAlignmentRole and column in NUMBERS:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        if role == LAYER_ROLE:
            return row.layer.name if row.layer else ""
        return None

    def headerData(  # noqa: N802
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> object:
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return TITLES[section]
        if role == Qt.ItemDataRole.ToolTipRole:
            return TIPS[section]
        if role == Qt.ItemDataRole.InitialSortOrderRole:
            falls = section in NUMBERS
            return Qt.SortOrder.DescendingOrder if falls else Qt.SortOrder.AscendingOrder
        if role == Qt.ItemDataRole.TextAlignmentRole:
            side = Qt.AlignmentFlag.AlignRight if section in NUMBERS else Qt.AlignmentFlag.AlignLeft
            return side | Qt.AlignmentFlag.AlignVCenter
        return None

    def text(self, row: Row, column: Column) -> str:
        """Return what a cell says."""
        layer = row.layer
        if column == Column.LAYER:
            return row.path if self.flat else row.label
        if column == Column.KIND:
            return layer.kind if layer else f"{sum(1 for _ in row.layers())} layers"
        if column == Column.SHAPE:
            return wording.shape(layer.output_shape[1:]) if layer else ""
        if column == Column.PARAMETERS:
            return wording.count(row.parameters) if row.parameters else wording.NONE
        if column == Column.MACS:
            if row.uncounted and not row.macs:
                return "not counted"
            return wording.count(row.macs) if row.macs else wording.NONE
        if column == Column.LATENCY:
            return wording.NONE if row.latency is None else wording.milliseconds(row.latency)
        if column == Column.SENSITIVITY:
            return self._sensitivity(row)
        if column == Column.SIZE:
            return wording.bits(row.bits) if row.bits else wording.NONE
        if column == Column.HOLD:
            return self.hold(row) or ""
        return "  →  ".join(row.chips) or self._chosen_in(row)

    def share(self, row: Row, column: Column) -> float:
        """Return the part, 0 to 1, that the bar of a cell shows."""
        if column == Column.PARAMETERS:
            return row.parameters / self.total_parameters if self.total_parameters else 0.0
        if column == Column.MACS:
            return row.macs / self.total_macs if self.total_macs else 0.0
        if column == Column.LATENCY:
            return (row.latency or 0.0) / self.total_latency if self.total_latency else 0.0
        if column == Column.SENSITIVITY:
            whole = self.total_sensitivity
            return max(row.sensitivity or 0.0, 0.0) / whole if whole > 0 else 0.0
        return (row.bits or 0) / row.bits_before if row.bits_before else 0.0

    def _sensitivity(self, row: Row) -> str:
        if row.sensitivity is not None:
            return wording.rise(row.sensitivity)
        # Empty where nobody asked yet.
        return wording.NONE if row.layer and row.layer.sensitivity_lock else ""

    def _chosen_in(self, row: Row) -> str:
        if row.layer is not None:
            return ""
        names = [layer.name for layer in row.layers()]
        chosen = sum(bool(self._by_name[name].chips) for name in names)
        return f"{chosen} of {len(names)} layers" if chosen else ""

    def _tip(self, row: Row, column: Column) -> str:
        layer = row.layer
        if column in (Column.PARAMETERS, Column.MACS, Column.LATENCY):
            return f"{wording.percent(self.share(row, column))} of the network"
        if column == Column.SENSITIVITY:
            return self._sensitivity_tip(row)
        if column == Column.SIZE:
            before = wording.bits(row.bits_before)
            return f"{before} before; predicted, {wording.BASIS_TITLES['estimated']}"
        if column == Column.HOLD:
            return TIPS[column]
        if layer is None:
            return row.path
        if column == Column.KIND:
            return layer.summary
        if column == Column.CHOICES and row.chosen:
            return "  →  ".join(row.chosen)
        if column == Column.SHAPE:
            sides = (layer.input_shape, layer.output_shape)
            return " → ".join(wording.shape(side) for side in sides)
        return "\n".join((layer.name, *self.lock_reasons(layer)))

    def _sensitivity_tip(self, row: Row) -> str:
        if row.sensitivity is None:
            return row.layer.sensitivity_lock if row.layer else ""
        share = wording.percent(self.share(row, Column.SENSITIVITY))
        return f"{wording.risen(row.sensitivity)}; {share} of the sum"

    def _keeps(self, row: Row) -> bool:
        if row.layer is None:
            return False
        if not self._words:
            return True
        locked = "locked" if self.lock_reasons(row.layer) else ""
        text = " ".join((row.path, row.layer.kind, *row.chosen, *row.chips, locked)).lower()
        return all(word in text for word in self._words)

    def _arrange(self) -> None:
        column, descending = self._sorted or (None, False)
        key = None if column is None else lambda row: self._key(row, column)
        arrange(self._rows[0], self._keeps, key, descending)

    def _rearrange(self) -> None:
        self.beginResetModel()
        self._arrange()
        self.endResetModel()

    def _key(self, row: Row, column: Column) -> float | str:
        if column == Column.PARAMETERS:
            return row.parameters
        if column == Column.MACS:
            return row.macs
        if column == Column.LATENCY:
            return row.latency or 0.0
        if column == Column.SENSITIVITY:
            return -math.inf if row.sensitivity is None else row.sensitivity
        if column == Column.SIZE:
            return row.bits or row.bits_before
        if column == Column.SHAPE:
            return row.layer.activations if row.layer else 0
        return self.text(row, column).lower()

    def _index(self, row: Row, column: int) -> QModelIndex:
        parent = self._rows[0] if self.flat or row.parent is None else row.parent
        if row.place < len(parent.shown) and parent.shown[row.place] is row:
            return self.createIndex(row.place, column, row.identity)
        return NO_INDEX

    def _tell(self, column: Column) -> None:
        for row in self._rows:
            if row.shown:
                first, last = row.shown[0], row.shown[-1]
                self.dataChanged.emit(
                    self.createIndex(first.place, column, first.identity),
                    self.createIndex(last.place, column, last.identity),
                )
