"""A list of names with two counts each, as bars to the left and to the right of a middle."""

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QListView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QWidget,
)

from featherweight.gui import theme

Index = QModelIndex | QPersistentModelIndex
LEFT, RIGHT = Qt.ItemDataRole.UserRole + 1, Qt.ItemDataRole.UserRole + 2
ROW, BAR, EDGE, GAP = 26, 10, 12, 6
NAMES = 0.38
WRITTEN = 80


class DivergingBars(QListView):
    """The first row sums the others up and has no bars; one row is current."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.most = 1
        self.setUniformItemSizes(True)
        self.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setEditTriggers(QListView.EditTrigger.NoEditTriggers)
        self.setItemDelegate(_Painter(self))
        self.setMouseTracking(True)

    def scale_to(self, most: int) -> None:
        """Let the longest bar be of this count."""
        self.most = max(most, 1)
        self.viewport().update()

    def middle(self, width: int) -> int:
        """Return where bars begin in a row of some width."""
        left = EDGE + round(NAMES * (width - 2 * EDGE))
        return (left + width - EDGE) // 2


class _Painter(QStyledItemDelegate):
    """Draws one row."""

    def __init__(self, bars: DivergingBars) -> None:
        super().__init__(bars)
        self._bars = bars

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:  # noqa: N802
        del option, index
        return QSize(180, ROW)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        shades, box = theme.colours(), option.rect
        state = option.state
        chosen = bool(state & QStyle.StateFlag.State_Selected)
        if chosen or state & QStyle.StateFlag.State_MouseOver:
            painter.fillRect(box, QColor(shades.accent_soft if chosen else shades.hover))
        if chosen and self._bars.hasFocus():
            painter.fillRect(box.x(), box.y(), 3, box.height(), QColor(shades.accent))
        middle = box.x() + self._bars.middle(box.width())
        names = round(NAMES * (box.width() - 2 * EDGE))
        metrics, centre = option.fontMetrics, Qt.AlignmentFlag.AlignVCenter
        counts = metrics.horizontalAdvance(f"{self._bars.most:,}") + GAP
        room = middle - box.x() - EDGE - names - counts
        painter.setPen(QColor(shades.text))
        name = metrics.elidedText(str(index.data()), Qt.TextElideMode.ElideRight, names - GAP)
        place = QRect(box.x() + EDGE, box.y(), names, box.height())
        painter.drawText(place, int(centre | Qt.AlignmentFlag.AlignLeft), name)
        for sign, role, shade in ((-1, LEFT, shades.danger), (1, RIGHT, shades.good)):
            count = index.data(role)
            long = round(room * count / self._bars.most) if index.row() else 0
            self._paint_bar(painter, box, middle, sign * long, shade)
            self._paint_count(painter, box, middle + sign * long, sign, count)
        painter.setPen(QColor(shades.line))
        painter.drawLine(middle, box.top(), middle, box.bottom())

    def _paint_bar(self, painter: QPainter, box: QRect, middle: int, long: int, shade: str) -> None:
        bar = QRectF(middle, box.center().y() - BAR / 2 + 1, long, BAR)
        painter.fillRect(bar.normalized(), QColor(shade))

    def _paint_count(self, painter: QPainter, box: QRect, end: int, sign: int, count: int) -> None:
        shades = theme.colours()
        painter.setPen(QColor(shades.text if count else shades.muted))
        _beside(painter, box, end, sign, f"{count:,}")


class BarsHead(QWidget):
    """Stands above the bars: what the names are, and what each side means."""

    def __init__(self, bars: DivergingBars, titles: tuple[str, str, str]) -> None:
        super().__init__()
        self._bars, self._titles = bars, titles
        self.setFixedHeight(ROW)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802, ARG002
        painter, box = QPainter(self), self.rect()
        # The bars are narrower where they scroll.
        middle = self._bars.middle(self._bars.viewport().width())
        painter.setPen(QColor(theme.colours().muted))
        name, left, right = self._titles
        flags = Qt.AlignmentFlag
        painter.drawText(
            box.adjusted(EDGE, 0, 0, 0), int(flags.AlignLeft | flags.AlignVCenter), name
        )
        _beside(painter, box, middle, -1, left)
        _beside(painter, box, middle, 1, right)


def _beside(painter: QPainter, box: QRect, x: int, sign: int, text: str) -> None:
    """Write on the left (sign -1) or the right of a place of a row."""
    flags = Qt.AlignmentFlag
    left, side = (x - GAP - WRITTEN, flags.AlignRight) if sign < 0 else (x + GAP, flags.AlignLeft)
    place = QRect(left, box.y(), WRITTEN, box.height())
    painter.drawText(place, int(side | flags.AlignVCenter), text)
