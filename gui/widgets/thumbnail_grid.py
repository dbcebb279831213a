"""Pictures with captions in rows that fill the width; only what is seen is painted."""

from typing import Literal

from PySide6.QtCore import (
    QAbstractItemModel,
    QModelIndex,
    QPersistentModelIndex,
    QRect,
    QRectF,
    QSize,
    Qt,
    QTimer,
    Signal,
)
from PySide6.QtGui import QColor, QFont, QFontMetrics, QImage, QPainter, QPen, QResizeEvent
from PySide6.QtWidgets import (
    QListView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QWidget,
)

from featherweight.gui import theme

Index = QModelIndex | QPersistentModelIndex
Mark = Literal["danger", "good", "muted"]
# A caption is what was and what is; the mark is the colour of what became of it.
CAPTION, MARK = Qt.ItemDataRole.UserRole + 1, Qt.ItemDataRole.UserRole + 2
NARROWEST, HEIGHT, SIDE = 148, 152, 96
TOP, LINE = 8, 17
ARROW = "→"
SEEN_MS = 30
NO_PICTURE = "No image"


class ThumbnailGrid(QListView):
    """The model's decoration is an image, one without size for none, nothing while it is awaited.

    `seen` tells which rows are in sight, a moment after that has changed.
    """

    seen = Signal(object)  # range of rows

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFlow(QListView.Flow.LeftToRight)
        self.setWrapping(True)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setUniformItemSizes(True)
        self.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setEditTriggers(QListView.EditTrigger.NoEditTriggers)
        self.setMouseTracking(True)
        self.setItemDelegate(_Painter(self))
        self._tell = QTimer(self, singleShot=True, interval=SEEN_MS)
        self._tell.timeout.connect(self._tell_seen)
        self.verticalScrollBar().valueChanged.connect(lambda: self._tell.start())
        self.verticalScrollBar().setSingleStep(HEIGHT // 3)

    def setModel(self, model: QAbstractItemModel | None) -> None:  # noqa: N802
        super().setModel(model)
        if model is not None:
            model.modelReset.connect(self._tell.start)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        self.setGridSize(QSize(self._room // self._columns, HEIGHT))
        super().resizeEvent(event)
        self._tell.start()

    @property
    def _columns(self) -> int:
        return max(1, self._room // NARROWEST)

    @property
    def _room(self) -> int:
        # A line that is filled to its very end loses its last cell to the next line.
        return self.viewport().width() - 1

    def visible_rows(self) -> range:
        """Return the rows of the model that are in sight, also in part."""
        place, count = self.viewport().rect(), self.model().rowCount()
        columns = self._columns
        lines = (
            self.verticalOffset() // HEIGHT,
            (self.verticalOffset() + place.height()) // HEIGHT,
        )
        return range(min(lines[0] * columns, count), min((lines[1] + 1) * columns, count))

    def _tell_seen(self) -> None:
        if self.isVisible():
            self.seen.emit(self.visible_rows())


class _Painter(QStyledItemDelegate):
    """Draws one cell."""

    def __init__(self, grid: ThumbnailGrid) -> None:
        super().__init__(grid)
        self._grid = grid

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:  # noqa: N802
        del option, index
        return self._grid.gridSize()

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        shades, box, state = theme.colours(), option.rect.adjusted(2, 2, -2, -2), option.state
        painter.save()
        chosen = bool(state & QStyle.StateFlag.State_Selected)
        if chosen or state & QStyle.StateFlag.State_MouseOver:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(QPen(QColor(shades.accent), 1) if chosen else Qt.PenStyle.NoPen)
            painter.setBrush(QColor(shades.accent_soft if chosen else shades.hover))
            painter.drawRoundedRect(QRectF(box).adjusted(0.5, 0.5, -0.5, -0.5), 6, 6)
        frame = QRect(box.center().x() - SIDE // 2, box.y() + TOP, SIDE, SIDE)
        self._paint_image(painter, frame, index.data(Qt.ItemDataRole.DecorationRole))
        shade = QColor(getattr(shades, index.data(MARK)))
        painter.fillRect(QRect(frame.x(), frame.bottom() + 1, SIDE, 3), shade)
        first = QRect(box.x() + 1, frame.bottom() + 5, box.width() - 2, LINE)
        strong = QFont(option.font)
        strong.setWeight(QFont.Weight.DemiBold)
        painter.setFont(strong)
        painter.setPen(QColor(shades.text))
        title = _fitted(QFontMetrics(strong), str(index.data()), first.width())
        painter.drawText(first, int(Qt.AlignmentFlag.AlignCenter), title)
        painter.setFont(option.font)
        caption = _both(option.fontMetrics, index.data(CAPTION), first.width())
        painter.drawText(first.translated(0, LINE), int(Qt.AlignmentFlag.AlignCenter), caption)
        painter.restore()

    def _paint_image(self, painter: QPainter, frame: QRect, image: QImage | None) -> None:
        shades = theme.colours()
        painter.fillRect(frame, QColor(shades.track))
        if image is None:
            return
        if image.isNull():
            painter.setPen(QColor(shades.muted))
            painter.drawText(frame, int(Qt.AlignmentFlag.AlignCenter), NO_PICTURE)
            return
        factor = min(SIDE / image.width(), SIDE / image.height())
        # Small pictures keep their pixels, all of one size.
        factor = int(factor) if factor >= 2 else factor
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, factor < 2)
        place = QRect(0, 0, round(image.width() * factor), round(image.height() * factor))
        place.moveCenter(frame.center())
        painter.drawImage(place, image)


def _fitted(metrics: QFontMetrics, text: str, width: int) -> str:
    if metrics.horizontalAdvance(text) <= width:
        return text
    return metrics.elidedText(text, Qt.TextElideMode.ElideRight, width)


def _both(metrics: QFontMetrics, pair: tuple[str, str], width: int) -> str:
    """Return both names with an arrow between, the longer one shortened where there is no room."""
    arrow = f" {ARROW} "
    whole = arrow.join(pair)
    if metrics.horizontalAdvance(whole) <= width:
        return whole
    room = width - metrics.horizontalAdvance(arrow)
    long = [metrics.horizontalAdvance(name) for name in pair]
    shares = [max(room // 2, room - long[1]), max(room // 2, room - long[0])]
    shown = [_fitted(metrics, name, share) for name, share in zip(pair, shares, strict=True)]
    return arrow.join(shown)
