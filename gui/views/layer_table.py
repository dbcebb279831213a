"""The layer table: where size, compute and latency sit, and what the recipe does to each layer."""

from collections.abc import Callable, Iterator

from PySide6.QtCore import (
    QEvent,
    QItemSelection,
    QItemSelectionModel,
    QModelIndex,
    QPersistentModelIndex,
    QRect,
    QSignalBlocker,
    QSize,
    Qt,
)
from PySide6.QtGui import QAction, QKeySequence, QMouseEvent, QPainter, QResizeEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLineEdit,
    QPushButton,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTreeView,
    QVBoxLayout,
    QWidget,
)

from featherweight.gui import icons, theme, wording
from featherweight.gui.document import Document
from featherweight.gui.item_models.layer_painter import ROW_HEIGHT, LayerPainter, RowState
from featherweight.gui.item_models.layer_table import Column, LayerTableModel
from featherweight.gui.widgets.text import ElidedLabel

Index = QModelIndex | QPersistentModelIndex
WIDTHS = {
    Column.LAYER: 156,
    Column.KIND: 108,
    Column.SHAPE: 104,
    Column.PARAMETERS: 102,
    Column.MACS: 76,
    Column.LATENCY: 80,
    Column.SENSITIVITY: 96,
    Column.SIZE: 90,
    Column.CHOICES: 120,
}
WIDEST_LAYER, NARROWEST_LAYER = 320, 132


class RowHeight(QStyledItemDelegate):
    """Gives every row its height; it paints nothing, the tree does."""

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:  # noqa: N802, ARG002
        return QSize(0, ROW_HEIGHT)


class LayerTree(QTreeView):
    """A tree that paints whole rows; it marks layers inside a selection and coupled to it."""

    def __init__(self, model: LayerTableModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.inside: frozenset[str] = frozenset()
        self.coupled: frozenset[str] = frozenset()
        self._model = model
        self._hovered: QPersistentModelIndex | None = None
        self._fitted = WIDTHS[Column.LAYER]
        self.setModel(model)
        self.setItemDelegate(RowHeight(self))
        self.setUniformRowHeights(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setMouseTracking(True)
        self.setIndentation(16)
        self.setSortingEnabled(False)
        self.setExpandsOnDoubleClick(True)
        self._painter = LayerPainter(model, self.font())
        header = self.header()
        header.setSectionsClickable(True)
        header.setSortIndicatorShown(True)
        header.setSortIndicatorClearable(True)
        header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        header.setStretchLastSection(True)
        header.setMinimumSectionSize(56)
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        for column, width in WIDTHS.items():
            header.resizeSection(column, width)

    def selectAll(self) -> None:  # noqa: N802
        """Select the outermost rows, which stand for all that lies in them."""
        every = QItemSelection(
            self._model.index(0, 0), self._model.index(self._model.rowCount() - 1, 0)
        )
        flags = QItemSelectionModel.SelectionFlag
        self.selectionModel().select(every, flags.ClearAndSelect | flags.Rows)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        super().resizeEvent(event)
        self._fit()

    def show_column(self, column: Column, shown: bool) -> None:
        """Show or hide a column; the names and the choices make room for it."""
        if self.header().isSectionHidden(column) == shown:
            self.header().setSectionHidden(column, not shown)
            self._fit()

    def _fit(self) -> None:
        header = self.header()
        if header.sectionSize(Column.LAYER) != self._fitted:
            return
        wanted = sum(width for at, width in WIDTHS.items() if not header.isSectionHidden(at))
        spare, narrow = self.viewport().width() - wanted, WIDTHS[Column.LAYER] - NARROWEST_LAYER
        given = min(spare // 3, WIDEST_LAYER - WIDTHS[Column.LAYER]) if spare > 0 else spare
        self._fitted = WIDTHS[Column.LAYER] + max(given, -narrow)
        header.resizeSection(Column.LAYER, self._fitted)
        header.resizeSection(Column.CHOICES, WIDTHS[Column.CHOICES] + min(spare + narrow, 0))

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.FontChange):
            self._painter = LayerPainter(self._model, self.font())
        super().changeEvent(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        self._hover(self.indexAt(event.position().toPoint()))
        super().mouseMoveEvent(event)

    def leaveEvent(self, event: QEvent) -> None:  # noqa: N802
        self._hover(QModelIndex())
        super().leaveEvent(event)

    def drawRow(  # noqa: N802
        self, painter: QPainter, option: QStyleOptionViewItem, index: Index
    ) -> None:
        del option
        row = self._model.row(index)
        name = row.layer.name if row.layer else ""
        state = RowState(
            selected=self.selectionModel().isSelected(index),
            inside=name in self.inside,
            coupled=name in self.coupled,
            hovered=self._hovered is not None and self._hovered == index.sibling(index.row(), 0),
            focused=self.hasFocus() and self.currentIndex().siblingAtColumn(0) == index,
            opened=self.isExpanded(index) if row.shown and not self._model.flat else None,
        )
        place = self.visualRect(index)
        box = QRect(0, place.top(), self.viewport().width(), place.height())
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._painter.paint_ground(painter, box, state)
        indent = self._indent(index)
        for column, left, width in self._columns():
            inset = indent if column == Column.LAYER else 0
            cell = QRect(left + inset, box.top(), width - inset, box.height())
            self._painter.paint_cell(painter, cell, row, column, state)
        painter.restore()

    def drawBranches(self, painter: QPainter, rect: QRect, index: Index) -> None:  # noqa: N802
        """Leave the branches to drawRow."""

    def _columns(self) -> Iterator[tuple[Column, int, int]]:
        header = self.header()
        edge = self.viewport().width()
        for column in Column:
            left = header.sectionViewportPosition(column)
            width = header.sectionSize(column)
            if not header.isSectionHidden(column) and left < edge and left + width > 0:
                yield column, left, width

    def _indent(self, index: Index) -> int:
        depth = 0
        if not self._model.flat:
            row = self._model.row(index)
            depth = sum(1 for _ in row.lineage()) - 1
        return 4 + depth * self.indentation()

    def _hover(self, index: QModelIndex) -> None:
        index = index.siblingAtColumn(0)
        if self._hovered is not None and self._hovered == index:
            return
        for changed in (self._hovered, index):
            if changed is not None and changed.isValid():
                box = self.visualRect(changed)
                box.setLeft(0)
                box.setRight(self.viewport().width())
                self.viewport().update(box)
        self._hovered = QPersistentModelIndex(index) if index.isValid() else None


class LayerTableView(QWidget):
    """Filter, table, and one line about what is selected."""

    def __init__(self, document: Document, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._document = document
        self._following = False
        self.model = LayerTableModel(self)
        self.tree = LayerTree(self.model)
        self.tree.setObjectName("layer_table")
        self.tree.setAccessibleName("Layers of the network")
        self._build()
        self._connect()
        self._on_network_changed()

    def _build(self) -> None:
        self.filter_box = QLineEdit()
        self.filter_box.setObjectName("layer_filter")
        self.filter_box.setAccessibleName("Filter layers")
        self.filter_box.setPlaceholderText("Filter by name, kind, method or “locked”")
        self.filter_box.setToolTip("Show only layers that hold every word, for example: conv svd")
        self.filter_box.setClearButtonEnabled(True)
        self._glass = QAction(self)
        self.filter_box.addAction(self._glass, QLineEdit.ActionPosition.LeadingPosition)
        self.measure_button = QPushButton("Measure latency")
        self.measure_button.setObjectName("measure_latency_button")
        self.measure_button.setToolTip("Time every layer on this machine")
        self.about = ElidedLabel(mode=Qt.TextElideMode.ElideRight)
        self.about.setObjectName("layer_about")
        self.about.setProperty("role", "muted")
        top = QHBoxLayout()
        top.setContentsMargins(12, 8, 12, 8)
        top.setSpacing(8)
        top.addWidget(self.filter_box, 1)
        top.addWidget(self.measure_button)
        bottom = QHBoxLayout()
        bottom.setContentsMargins(12, 6, 12, 6)
        bottom.addWidget(self.about)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(top)
        layout.addWidget(self.tree, 1)
        layout.addLayout(bottom)
        self._dress()

    def _connect(self) -> None:
        document = self._document
        document.network_changed.connect(self._on_network_changed)
        document.methods_changed.connect(self._on_methods_changed)
        document.recipe_changed.connect(self._on_recipe_changed)
        document.prediction_changed.connect(self._on_prediction_changed)
        document.latency_changed.connect(self._on_figures_changed)
        document.sensitivity_changed.connect(self._on_figures_changed)
        document.selection_changed.connect(self._on_selection_changed)
        self.filter_box.textChanged.connect(self._on_filter_changed)
        self.measure_button.clicked.connect(self._on_measure)
        document.noticed.connect(self._show_whether_measured)
        self.tree.header().sortIndicatorChanged.connect(self._on_sort_changed)
        self.tree.selectionModel().selectionChanged.connect(self._on_rows_selected)
        find = QAction("Filter layers", self)
        find.setShortcut(QKeySequence.StandardKey.Find)
        find.triggered.connect(self.filter_box.setFocus)
        self.addAction(find)

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        if event.type() == QEvent.Type.PaletteChange:
            self._dress()
        super().changeEvent(event)

    def _dress(self) -> None:
        self.measure_button.setIcon(icons.icon("stopwatch"))
        self._glass.setIcon(icons.icon("filter", theme.colours().muted))

    def _on_network_changed(self) -> None:
        with QSignalBlocker(self.filter_box):
            self.filter_box.clear()
        self.model.filter("")
        self.model.show_layers(self._document.layers)
        self._show_figures()
        self._on_methods_changed()
        self._on_prediction_changed()
        self.tree.expandAll()
        self._on_selection_changed()
        self._show_whether_measured()

    def _on_methods_changed(self) -> None:
        self.model.show_methods(self._document.methods)
        self._on_recipe_changed()

    def _on_recipe_changed(self) -> None:
        self.model.show_recipe(self._document.recipe)

    def _on_prediction_changed(self) -> None:
        self.model.show_prediction(self._document.prediction)

    def _on_figures_changed(self) -> None:
        self._show_figures()
        self._show_whether_measured()

    def _show_figures(self) -> None:
        self.model.show_figures(self._document.layers)
        self.tree.show_column(Column.SENSITIVITY, self._document.sensitivity is not None)

    def _on_measure(self) -> None:
        self.measure_button.setEnabled(False)
        self.measure_button.setText("Measuring…")
        self._document.measure_latency()

    def _show_whether_measured(self) -> None:
        again = self._document.latency is not None
        self.measure_button.setText("Measure again" if again else "Measure latency")
        self.measure_button.setEnabled(self._document.network is not None)

    def _on_filter_changed(self, text: str) -> None:
        self._rearranged(lambda: self.model.filter(text))

    def _on_sort_changed(self, column: int, order: Qt.SortOrder) -> None:
        self._rearranged(lambda: self.model.sort(column, order))

    def _on_rows_selected(self) -> None:
        if self._following:
            return
        names = self.model.layers_in(self.tree.selectionModel().selection())
        self._following = True
        self._document.select(names)
        self._following = False
        self._mark()

    def _on_selection_changed(self) -> None:
        if not self._following:
            self._following = True
            self._select_rows()
            self._following = False
        self._mark()

    def _select_rows(self) -> None:
        names = self._document.selection
        flags = QItemSelectionModel.SelectionFlag
        rows = self.model.selection_of(names)
        self.tree.selectionModel().select(rows, flags.ClearAndSelect | flags.Rows)
        index = self.model.index_of(names[0]) if len(names) == 1 else QModelIndex()
        if index.isValid():
            self.tree.selectionModel().setCurrentIndex(index, flags.NoUpdate)
            self.tree.scrollTo(index)

    def _mark(self) -> None:
        selection = self._document.selection
        layers = self._document.layers
        partners = {partner for name in selection for partner in layers[name].coupled}
        self.tree.inside = frozenset(selection)
        self.tree.coupled = frozenset(partners - set(selection))
        self.tree.viewport().update()
        self.about.setText(self._summary())

    def _summary(self) -> str:
        document = self._document
        if document.network is None:
            return ""
        names = document.selection or tuple(document.layers)
        layers = [document.layers[name] for name in names]
        parts = [
            f"{wording.count(sum(layer.parameters for layer in layers))} parameters",
            f"{wording.count(sum(layer.macs or 0 for layer in layers))} MACs",
        ]
        if len(layers) == 1:
            parts.insert(0, f"{layers[0].name}: {layers[0].kind} {layers[0].summary}")
            parts += self.model.lock_reasons(layers[0])
        else:
            parts.insert(0, f"{len(layers)} layers{' selected' if document.selection else ''}")
            network = document.network
            if not document.selection and network.uncounted:
                parts.append(f"not counted: {', '.join(network.uncounted)}")
            if not document.selection:
                parts += [*network.notes, *filter(None, (network.graph_lock,))]
        if self.tree.coupled:
            parts.append(f"{len(self.tree.coupled)} more lose channels together with the selection")
        return "  ·  ".join(parts)

    def _rearranged(self, arrange: Callable[[], None]) -> None:
        arrange()
        self.tree.expandAll()
        self._on_selection_changed()
