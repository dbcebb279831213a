"""Which version this is, and what the keyboard does."""

from collections.abc import Iterable

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QDialogButtonBox,
    QHeaderView,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from featherweight.gui import icons
from featherweight.gui.widgets.text import label


class AboutDialog(QDialog):
    """Name, version and licence."""

    def __init__(self, version: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("About Featherweight")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        mark = QLabel()
        mark.setPixmap(icons.application_icon().pixmap(QSize(64, 64)))
        layout = _layout(self)
        layout.addWidget(mark)
        layout.addWidget(label(f"Featherweight {version}", "heading"))
        layout.addWidget(label("Make neural networks smaller and faster, layer by layer."))
        layout.addWidget(label("Apache License 2.0. Nothing leaves this machine.", "muted"))
        layout.addWidget(_close_button(self))


class ShortcutsDialog(QDialog):
    """All actions that the keyboard reaches."""

    def __init__(self, actions: Iterable[QAction], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Keyboard shortcuts")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.resize(560, 560)
        rows = list(actions)
        table = QTableWidget(len(rows), 2)
        table.setAccessibleName("Keyboard shortcuts")
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setShowGrid(False)
        table.verticalHeader().hide()
        table.horizontalHeader().hide()
        table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        native = QKeySequence.SequenceFormat.NativeText
        for row, action in enumerate(rows):
            table.setItem(row, 0, QTableWidgetItem(action.statusTip()))
            table.setItem(row, 1, QTableWidgetItem(action.shortcut().toString(native)))
        table.resizeColumnToContents(1)
        layout = _layout(self)
        layout.addWidget(table)
        layout.addWidget(_close_button(self))


def _layout(dialog: QDialog) -> QVBoxLayout:
    layout = QVBoxLayout(dialog)
    layout.setContentsMargins(20, 20, 20, 16)
    layout.setSpacing(10)
    return layout


def _close_button(dialog: QDialog) -> QDialogButtonBox:
    buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
    buttons.rejected.connect(dialog.reject)
    return buttons
