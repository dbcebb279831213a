"""A read-only table of text and numbers that sorts by its numbers."""

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHeaderView, QTreeWidget, QTreeWidgetItem, QWidget

Cell = tuple[float | str, str]


class _Line(QTreeWidgetItem):
    """Compares by what a cell is worth, not by how it reads."""

    def __lt__(self, other: QTreeWidgetItem) -> bool:
        tree = self.treeWidget()
        column = tree.sortColumn() if tree is not None else 0
        role = Qt.ItemDataRole.UserRole
        return bool(self.data(column, role) < other.data(column, role))


class PlainTable(QTreeWidget):
    """The first column is text and stretches; the others are numbers at the right."""

    def __init__(self, heads: Sequence[str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setHeaderLabels(list(heads))
        self.setRootIsDecorated(False)
        self.setUniformRowHeights(True)
        self.setSortingEnabled(True)
        self.header().setStretchLastSection(False)
        self.header().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.header().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        for column in range(1, len(heads)):
            self.headerItem().setTextAlignment(column, right)

    def show_lines(self, lines: Sequence[Sequence[Cell]], by: int) -> None:
        """Show other lines, the largest of column `by` first; a cell is its worth and its text."""
        self.setSortingEnabled(False)
        self.clear()
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        items = []
        for line in lines:
            item = _Line()
            for column, (worth, text) in enumerate(line):
                item.setText(column, text)
                item.setData(column, Qt.ItemDataRole.UserRole, worth)
                if column:
                    item.setTextAlignment(column, right)
            items.append(item)
        self.addTopLevelItems(items)
        self.setSortingEnabled(True)
        self.sortByColumn(by, Qt.SortOrder.DescendingOrder)
