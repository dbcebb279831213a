"""What the window shows first: open a file, go on with a recent one, or try the demo."""

from pathlib import Path

from PySide6.QtCore import QEvent, QModelIndex, QPersistentModelIndex, QSize, Qt, Signal
from PySide6.QtGui import QAction, QColor, QPainter
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from featherweight.engine.events import is_library_name
from featherweight.gui import icons, theme
from featherweight.gui.project_file import SUFFIX
from featherweight.gui.settings import Settings
from featherweight.gui.widgets.text import label

FORMATS = "PyTorch (.pt, .pth), .pt2, ONNX, safetensors, or a Featherweight project"

PATH = int(Qt.ItemDataRole.UserRole)
PLACE = PATH + 1
SHOWN = 5


class StartScreen(QWidget):
    """Two ways in, and the recent files."""

    chosen = Signal(Path)  # a recent file

    def __init__(
        self, settings: Settings, open_file: QAction, demo: QAction, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._settings = settings
        self._mark = QLabel()
        self._mark.setPixmap(icons.application_icon().pixmap(QSize(56, 56)))
        self._recent = self._build_recent()
        self._pictures: list[tuple[QLabel, str]] = []
        cards = QHBoxLayout()
        cards.setSpacing(16)
        said = f"{FORMATS}. Or drop it anywhere on this window."
        cards.addWidget(self._card("open", "Open a network", said, open_file, primary=True))
        said = "A residual network for clothes, and 6,000 labelled images to measure it on."
        cards.addWidget(self._card("demo", "Try the demo", said, demo, primary=False))
        column = QWidget()
        column.setMaximumWidth(760)
        inner = QVBoxLayout(column)
        inner.setSpacing(16)
        inner.addStretch(2)
        inner.addLayout(self._heading())
        inner.addSpacing(8)
        inner.addLayout(cards)
        inner.addSpacing(8)
        inner.addWidget(self._recent_title)
        inner.addWidget(self._recent_card)
        inner.addStretch(3)
        row = QHBoxLayout(self)
        row.addStretch(1)
        row.addWidget(column, 20)
        row.addStretch(1)
        self.refresh()

    def refresh(self) -> None:
        """Read the recent files again."""
        self._recent.clear()
        for path in self._settings.recent:
            item = QListWidgetItem(path.name.removesuffix(SUFFIX))
            item.setData(PATH, str(path))
            item.setData(PLACE, _kind(path))
            item.setToolTip(str(path))
            self._recent.addItem(item)
        filled = self._recent.count() > 0
        self._recent_card.setVisible(filled)
        self._recent_title.setVisible(filled)
        rows = min(self._recent.count(), SHOWN)
        self._recent.setFixedHeight(rows * max(self._recent.sizeHintForRow(0), 1))

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        if event.type() == QEvent.Type.PaletteChange:
            for picture, name in self._pictures:
                picture.setPixmap(icons.pixmap(name, 24, theme.colours().accent))
        super().changeEvent(event)

    def _heading(self) -> QHBoxLayout:
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addWidget(label("Featherweight", "title"))
        words.addWidget(label("Make a network smaller and faster, layer by layer.", "muted"))
        row = QHBoxLayout()
        row.setSpacing(16)
        row.addWidget(self._mark)
        row.addLayout(words)
        row.addStretch()
        return row

    def _card(self, icon: str, title: str, text: str, action: QAction, primary: bool) -> QFrame:
        card = QFrame()
        card.setProperty("role", "card")
        picture = QLabel()
        picture.setPixmap(icons.pixmap(icon, 24, theme.colours().accent))
        self._pictures.append((picture, icon))
        button = QPushButton(action.text().replace("&", ""))
        button.setObjectName(f"start_{icon}")
        button.setAccessibleName(title)
        button.setToolTip(action.toolTip())
        button.setProperty("role", "primary" if primary else "")
        button.clicked.connect(action.trigger)
        layout = QVBoxLayout(card)
        layout.setContentsMargins(20, 20, 20, 20)
        layout.setSpacing(8)
        layout.addWidget(picture)
        layout.addWidget(label(title, "heading"))
        said = label(text, "muted", wrap=True)
        said.setAlignment(Qt.AlignmentFlag.AlignTop)
        layout.addWidget(said, 1)
        layout.addSpacing(4)
        layout.addWidget(button, 0, Qt.AlignmentFlag.AlignLeft)
        return card

    def _build_recent(self) -> QListWidget:
        self._recent_title = label("Recent", "section")
        made = QListWidget()
        made.setObjectName("recent_files")
        made.setAccessibleName("Recent files")
        made.setFrameShape(QFrame.Shape.NoFrame)
        made.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        made.setItemDelegate(RecentDelegate(made))
        self._recent_card = QFrame()
        self._recent_card.setProperty("role", "card")
        padding = QVBoxLayout(self._recent_card)
        padding.setContentsMargins(6, 6, 6, 6)
        padding.addWidget(made)
        made.itemActivated.connect(self._on_activated)
        made.itemClicked.connect(self._on_activated)
        return made

    def _on_activated(self, item: QListWidgetItem) -> None:
        self.chosen.emit(Path(item.data(PATH)))


class RecentDelegate(QStyledItemDelegate):
    """Draws the name of a file, and below it, muted, where it lies."""

    def sizeHint(  # noqa: N802
        self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> QSize:
        width = super().sizeHint(option, index).width()
        return QSize(width, 2 * option.fontMetrics.height() + 14)

    def paint(
        self,
        painter: QPainter,
        option: QStyleOptionViewItem,
        index: QModelIndex | QPersistentModelIndex,
    ) -> None:
        self.initStyleOption(option, index)
        name, option.text = option.text, ""
        option.widget.style().drawControl(
            QStyle.ControlElement.CE_ItemViewItem, option, painter, option.widget
        )
        box = option.rect.adjusted(10, 6, -10, -6)
        shades, metrics = theme.colours(), option.fontMetrics
        place = metrics.elidedText(index.data(PLACE), Qt.TextElideMode.ElideMiddle, box.width())
        painter.setPen(QColor(shades.text))
        painter.drawText(box, Qt.AlignmentFlag.AlignTop, name)
        painter.setPen(QColor(shades.muted))
        painter.drawText(box, Qt.AlignmentFlag.AlignBottom, place)


def _kind(path: Path) -> str:
    if is_library_name(str(path)):
        return "Network of an installed library"
    if path.suffix == SUFFIX and path.parent.name == "projects":
        return "Project, saved by itself"
    return f"Project in {path.parent}" if path.suffix == SUFFIX else str(path.parent)
