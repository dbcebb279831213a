"""One sentence that the person has to know, with what to do about it."""

from collections.abc import Callable

from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QColor, QGuiApplication, QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from featherweight.gui import icons, theme
from featherweight.gui.widgets.text import label

EDGE = 3


class NoticeBar(QFrame):
    """Shows the newest notice until it is dismissed; the log panel keeps them all."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("notice_bar")
        self.setAccessibleName("Notice")
        self._act: Callable[[], None] | None = None
        self._sign = QLabel()
        self._text = label("", "plain", wrap=True)
        self._text.setObjectName("notice_text")
        self._text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._action = self._button("notice_action", "", "Mend it", self._on_action)
        self._more = self._button("notice_details", "Details", "Show details", self._on_more)
        self._copy = self._button("notice_copy", "Copy", "Copy the details", self._on_copy)
        self._dismiss = self._button("notice_dismiss", "Dismiss", "Dismiss the notice", self.clear)
        self._details = QPlainTextEdit(readOnly=True)
        self._details.setAccessibleName("Details of the notice")
        self._details.setMaximumHeight(160)
        line = QHBoxLayout()
        line.setSpacing(8)
        line.addWidget(self._sign)
        line.addWidget(self._text, 1)
        for button in (self._action, self._copy, self._more, self._dismiss):
            line.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 6, 12, 6)
        layout.addLayout(line)
        layout.addWidget(self._details)
        self._draw_sign()
        self.clear()

    @property
    def text(self) -> str:
        """The sentence that is shown, empty for none."""
        return "" if self.isHidden() else self._text.text()

    def show_notice(self, sentence: str, hint: str = "", details: str = "") -> None:
        """Show a sentence, how to mend it, and keep the details at hand."""
        self._text.setText(f"{sentence} {hint}".strip())
        self._details.setPlainText(details.strip())
        self._more.setVisible(bool(details.strip()))
        self._details.hide()
        self._copy.hide()
        self._action.hide()
        self.show()

    def offer(self, text: str, act: Callable[[], None]) -> None:
        """Offer a button beside the notice that is shown."""
        self._act = act
        self._action.setText(text)
        self._action.setAccessibleName(text)
        self._action.show()

    def settle(self, sentence: str) -> None:
        """Clear a notice that begins with this sentence: it holds no more."""
        if self.text.startswith(sentence):
            self.clear()

    def clear(self) -> None:
        """Show nothing."""
        self.hide()
        self._act = None

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        if event.type() == QEvent.Type.PaletteChange:
            self._draw_sign()
        super().changeEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802, ARG002
        shades = theme.colours()
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor(shades.raised))
        painter.fillRect(0, 0, EDGE, self.height(), QColor(shades.warning))
        painter.fillRect(0, self.height() - 1, self.width(), 1, QColor(shades.line))

    def _button(self, name: str, text: str, said: str, act: Callable[[], None]) -> QPushButton:
        button = QPushButton(text)
        button.setObjectName(name)
        button.setAccessibleName(said)
        button.setProperty("role", "link")
        button.setCursor(Qt.CursorShape.PointingHandCursor)
        button.clicked.connect(lambda: act())
        return button

    def _on_action(self) -> None:
        act = self._act
        self.clear()
        if act is not None:
            act()

    def _on_more(self) -> None:
        self._details.setVisible(self._details.isHidden())
        self._copy.setVisible(not self._details.isHidden())

    def _on_copy(self) -> None:
        QGuiApplication.clipboard().setText(f"{self._text.text()}\n\n{self._details.toPlainText()}")

    def _draw_sign(self) -> None:
        self._sign.setPixmap(icons.pixmap("warning", 16, theme.colours().warning))
