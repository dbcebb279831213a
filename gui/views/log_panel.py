"""What the engine printed and what was noticed, for whoever wants to look into it."""

from PySide6.QtGui import QFontDatabase, QGuiApplication, QTextCursor
from PySide6.QtWidgets import QHBoxLayout, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from featherweight.gui.engine_client import EngineClient

LINES = 5000


class LogPanel(QWidget):
    """The log of one window, the newest line last."""

    def __init__(self, client: EngineClient, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._text = QPlainTextEdit(readOnly=True)
        self._text.setAccessibleName("Log")
        self._text.setMaximumBlockCount(LINES)
        self._text.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self._text.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self._text.setPlaceholderText("What the engine prints appears here.")
        copy, clear = QPushButton("Copy all"), QPushButton("Clear")
        copy.setAccessibleName("Copy the whole log")
        clear.setAccessibleName("Clear the log")
        copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(self.text))
        clear.clicked.connect(self._text.clear)
        buttons = QHBoxLayout()
        buttons.setContentsMargins(12, 0, 12, 8)
        buttons.addStretch()
        buttons.addWidget(copy)
        buttons.addWidget(clear)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._text)
        layout.addLayout(buttons)
        client.log.connect(self.append)

    @property
    def text(self) -> str:
        """The whole log."""
        return self._text.toPlainText()

    def append(self, text: str) -> None:
        """Add text as it comes, whole lines or parts of them."""
        cursor = QTextCursor(self._text.document())
        cursor.movePosition(QTextCursor.MoveOperation.End)
        cursor.insertText(text)
        bar = self._text.verticalScrollBar()
        bar.setValue(bar.maximum())
