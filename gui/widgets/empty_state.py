"""What a view shows while it has nothing: why, and what to do about it."""

from PySide6.QtCore import QEvent, Qt
from PySide6.QtWidgets import QLabel, QPushButton, QVBoxLayout, QWidget

from featherweight.gui import icons, theme
from featherweight.gui.widgets.text import label


class EmptyState(QWidget):
    """An icon, one short title and one sentence, in the middle of the space there is."""

    def __init__(self, icon: str, title: str, text: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setProperty("role", "page")
        self._icon = icon
        self._picture = QLabel()
        self._title = label(title, "section")
        self._text = label(text, "muted", wrap=True)
        layout = self._column = QVBoxLayout(self)
        layout.setContentsMargins(24, 24, 24, 24)
        layout.setSpacing(8)
        layout.addStretch(2)
        for piece in (self._picture, self._title, self._text):
            piece.setAlignment(Qt.AlignmentFlag.AlignCenter)
            layout.addWidget(piece)
        layout.addStretch(3)
        self._paint_picture()

    def explain(self, title: str, text: str) -> None:
        """Say something else."""
        self._title.setText(title)
        self._text.setText(text)

    def offer(self, button: QPushButton) -> None:
        """Put a button below the sentence."""
        self._column.insertWidget(
            self._column.count() - 1, button, 0, Qt.AlignmentFlag.AlignHCenter
        )

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        if event.type() == QEvent.Type.PaletteChange:
            self._paint_picture()
        super().changeEvent(event)

    def _paint_picture(self) -> None:
        self._picture.setPixmap(icons.pixmap(self._icon, 32, theme.colours().muted))
