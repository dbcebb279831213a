"""The tree of the layer table: it paints whole rows, holds layers by a click, and flashes rows."""

from collections.abc import Collection, Iterator

from PySide6.QtCore import (
    QElapsedTimer,
    QEvent,
    QItemSelection,
    QItemSelectionModel,
    QModelIndex,
    QPersistentModelIndex,
    QPoint,
    QRect,
    QSize,
    Qt,
    QVariantAnimation,
    Signal,
)
from PySide6.QtGui import QMouseEvent, QPainter, QResizeEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTreeView,
    QWidget,
)

from featherweight.gui.item_models.layer_painter import (
    ROW_HEIGHT,
    LayerPainter,
    RowState,
    hold_at,
)
from featherweight.gui.item_models.layer_table import Column, LayerTableModel

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
    Column.HOLD: 64,
    Column.CHOICES: 120,
}
WIDEST_LAYER, NARROWEST_LAYER = 320, 132
FLASH_MS = 600


class RowHeight(QStyledItemDelegate):
    """Gives every row its height; it paints nothing, the tree does."""

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:  # noqa: N802, ARG002
        return QSize(0, ROW_HEIGHT)


class LayerTree(QTreeView):
    """A tree that paints whole rows; it marks layers inside a selection and coupled to it.

    A click on a mark that holds a layer is told with the index of its row, and selects nothing.
    """

    hold_clicked = Signal(QModelIndex, str)  # Hold

    def __init__(self, model: LayerTableModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.inside: frozenset[str] = frozenset()
        self.coupled: frozenset[str] = frozenset()
        self._model = model
        self._hovered: QPersistentModelIndex | None = None
        self._fitted = WIDTHS[Column.LAYER]
        self._flashed: dict[str, int] = {}
        self._clock = QElapsedTimer()
        self._clock.start()
        self._fading = QVariantAnimation(self, startValue=0.0, endValue=1.0, duration=FLASH_MS)
        self._fading.valueChanged.connect(self.viewport().update)
        self._fading.finished.connect(self._flashed.clear)
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

    @property
    def flashing(self) -> frozenset[str]:
        """The layers whose rows have not faded yet."""
        return frozenset(self._flashed)

    def flash(self, names: Collection[str]) -> None:
        """Light up the rows of layers; they fade."""
        self._flashed.update(dict.fromkeys(names, self._clock.elapsed()))
        self._fading.stop()
        self._fading.start()

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

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        where = event.position().toPoint()
        hold = self._hold_at(where) if event.button() == Qt.MouseButton.LeftButton else None
        if hold is not None:
            self.hold_clicked.emit(self.indexAt(where), hold)
        else:
            super().mousePressEvent(event)

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
            flash=self._light(name),
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

    def _hold_at(self, where: QPoint) -> str | None:
        index = self.indexAt(where)
        if index.column() != Column.HOLD or not self._model.can_hold(self._model.row(index)):
            return None
        return hold_at(where.x() - self.header().sectionViewportPosition(Column.HOLD))

    def _light(self, name: str) -> float:
        at = self._flashed.get(name)
        return 0.0 if at is None else max(0.0, 1 - (self._clock.elapsed() - at) / FLASH_MS)

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
