"""Edits the name of an item, of whose text the name is only the first line."""

from PySide6.QtCore import QAbstractItemModel, QModelIndex, QPersistentModelIndex, Qt, Signal
from PySide6.QtWidgets import QLineEdit, QStyledItemDelegate, QStyleOptionViewItem, QWidget

NAME = Qt.ItemDataRole.UserRole
Index = QModelIndex | QPersistentModelIndex


class NameDelegate(QStyledItemDelegate):
    """Shows the data of the user's role to be edited, and tells the new name."""

    named = Signal(int, str)  # row, name

    def createEditor(  # noqa: N802
        self, parent: QWidget, option: QStyleOptionViewItem, index: Index
    ) -> QWidget:
        del option, index
        editor = QLineEdit(parent)
        editor.setAccessibleName("Name of the result")
        return editor

    def setEditorData(self, editor: QWidget, index: Index) -> None:  # noqa: N802
        if isinstance(editor, QLineEdit):
            editor.setText(str(index.data(NAME)))

    def setModelData(  # noqa: N802
        self, editor: QWidget, model: QAbstractItemModel, index: Index
    ) -> None:
        del model
        if isinstance(editor, QLineEdit):
            self.named.emit(index.row(), editor.text().strip())

    def updateEditorGeometry(  # noqa: N802
        self, editor: QWidget, option: QStyleOptionViewItem, index: Index
    ) -> None:
        del index
        box = option.rect
        editor.setGeometry(box.x(), box.y(), box.width(), editor.sizeHint().height())
