"""Paints one row of the layer table at once: a delegate per cell would be four times slower."""

from dataclasses import dataclass

from PySide6.QtCore import QPointF, QRect, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QFontMetrics, QPainter, QPen, QPolygonF

from featherweight.gui import icons, theme
from featherweight.gui.holds import Hold
from featherweight.gui.item_models.layer_rows import Row
from featherweight.gui.item_models.layer_table import NUMBERS, Column, LayerTableModel
from featherweight.gui.widgets.share_bar import paint_share

ROW_HEIGHT = 32
PADDING = 8
ICON = 14
CHIP_GAP = 4
MORE = 30
SHORTEST_CHIP = 56
HOLD_ICONS: dict[Hold, str] = {"kept": "pin", "left": "leave"}
HOLD_STEP = 24
FLASH = 0.30


@dataclass(frozen=True)
class RowState:
    """How a row stands among the others."""

    selected: bool = False
    inside: bool = False
    coupled: bool = False
    hovered: bool = False
    focused: bool = False
    opened: bool | None = None
    flash: float = 0.0


class LayerPainter:
    """Draws rows with the colours and the font of the moment; make another when they change."""

    def __init__(self, model: LayerTableModel, font: QFont) -> None:
        self._model = model
        self._font = font
        self._strong = QFont(font)
        self._strong.setWeight(QFont.Weight.DemiBold)
        self._small = QFont(font)
        self._small.setPointSizeF(font.pointSizeF() - 1)
        self._metrics = QFontMetrics(font)
        self._strong_metrics = QFontMetrics(self._strong)
        self._small_metrics = QFontMetrics(self._small)
        self._shades = theme.colours()
        self._elided: dict[tuple[str, int, bool], str] = {}

    def paint_ground(self, painter: QPainter, box: QRect, state: RowState) -> None:
        """Fill the row's ground and mark the row at its left edge."""
        shades = self._shades
        if state.selected:
            painter.fillRect(box, QColor(shades.accent_soft))
        elif state.coupled:
            tint = QColor(shades.coupled)
            tint.setAlphaF(0.10)
            painter.fillRect(box, tint)
        elif state.hovered:
            painter.fillRect(box, QColor(shades.hover))
        if state.flash:
            light = QColor(shades.accent)
            light.setAlphaF(FLASH * state.flash)
            painter.fillRect(box, light)
        edge = shades.accent if state.selected or state.inside else shades.coupled
        if state.selected or state.inside or state.coupled:
            painter.fillRect(box.left(), box.top(), 3, box.height(), QColor(edge))
        line = QColor(shades.line)
        line.setAlphaF(0.5)
        painter.fillRect(box.left(), box.bottom(), box.width(), 1, line)
        if state.focused:
            painter.setPen(QPen(QColor(shades.accent), 1))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(box.adjusted(0, 0, -1, -1))

    def paint_cell(
        self, painter: QPainter, box: QRect, row: Row, column: Column, state: RowState
    ) -> None:
        """Draw one cell."""
        if column == Column.LAYER:
            self._paint_name(painter, box, row, state)
        elif column in NUMBERS:
            self._paint_number(painter, box, row, column)
        elif column == Column.HOLD:
            self._paint_holds(painter, box, row, state)
        elif column == Column.CHOICES and row.chips:
            self._paint_chips(painter, box, row, state)
        else:
            inner = box.adjusted(PADDING, 0, -PADDING, 0)
            self._write(painter, inner, self._model.text(row, column), self._shades.muted)

    def _paint_name(self, painter: QPainter, box: QRect, row: Row, state: RowState) -> None:
        self._paint_arrow(painter, box, state.opened)
        inner = box.adjusted(20, 0, -PADDING, 0)
        for name in self._marks(row, state):
            shade = self._shades.coupled if name == "coupled" else self._shades.muted
            picture = icons.pixmap(name, ICON, shade)
            painter.drawPixmap(
                inner.right() - ICON, box.top() + (box.height() - ICON) // 2, ICON, ICON, picture
            )
            inner.setRight(inner.right() - ICON - 4)
        strong = row.layer is None
        text = self._model.text(row, Column.LAYER)
        faded = row.layer is not None and self._model.is_locked(row.layer)
        shade = self._shades.muted if faded else self._shades.text
        self._write(painter, inner, text, shade, strong=strong)

    def _marks(self, row: Row, state: RowState) -> list[str]:
        marks = []
        if row.layer is not None and self._model.lock_reasons(row.layer):
            marks.append("lock")
        if state.coupled:
            marks.append("coupled")
        return marks

    def _paint_arrow(self, painter: QPainter, box: QRect, opened: bool | None) -> None:
        if opened is None:
            return
        x, y = box.left() + 9, box.center().y() + 1
        shape = [(-3, -2), (0, 1.5), (3, -2)] if opened else [(-1.5, -4), (2, -0.5), (-1.5, 3)]
        painter.setPen(QPen(QColor(self._shades.muted), 1.5))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPolyline(QPolygonF([QPointF(x + dx, y + dy) for dx, dy in shape]))

    def _paint_number(self, painter: QPainter, box: QRect, row: Row, column: Column) -> None:
        inner = box.adjusted(PADDING, 3, -PADDING, -9)
        text = self._model.text(row, column)
        share = self._model.share(row, column)
        shade = self._shades.text if share >= 0.0005 else self._shades.muted
        self._write(painter, inner, text, shade, right=True)
        if share <= 0.0:
            return
        bar = QRectF(box.left() + PADDING, box.bottom() - 8, box.width() - 2 * PADDING, 3)
        shade = self._shades.bar
        if column == Column.SIZE and share < 0.9995:
            shade = self._shades.accent
        paint_share(painter, bar, share, shade, self._shades.track)

    def _paint_holds(self, painter: QPainter, box: QRect, row: Row, state: RowState) -> None:
        if not self._model.can_hold(row):
            return
        held = self._model.hold(row)
        top = box.top() + (box.height() - ICON) // 2
        for place, (hold, name) in enumerate(HOLD_ICONS.items()):
            marked = state.hovered or state.selected
            shade = self._shades.muted if marked else self._shades.line
            shade = self._shades.accent if hold == held else shade
            left = box.left() + PADDING + place * HOLD_STEP
            painter.drawPixmap(left, top, ICON, ICON, icons.pixmap(name, ICON, shade))

    def _paint_chips(self, painter: QPainter, box: QRect, row: Row, state: RowState) -> None:
        ground = self._shades.surface if state.selected else self._shades.accent_soft
        left = box.left() + PADDING
        height = self._small_metrics.height() + 4
        top = box.top() + (box.height() - height) // 2
        painter.setFont(self._small)
        for place, chip in enumerate(row.chips):
            rest = len(row.chips) - place
            room = box.right() - PADDING - left - (MORE + CHIP_GAP if rest > 1 else 0)
            needed = self._small_metrics.horizontalAdvance(chip) + 14
            fits = room >= min(needed, SHORTEST_CHIP)
            mode = Qt.TextElideMode.ElideRight
            chip = self._small_metrics.elidedText(chip, mode, room - 14) if fits else f"+{rest}"
            width = self._small_metrics.horizontalAdvance(chip) + 14
            pill = QRectF(left, top, width, height)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(ground))
            painter.drawRoundedRect(pill, height / 2, height / 2)
            painter.setPen(QColor(self._shades.accent_strong))
            painter.drawText(pill, Qt.AlignmentFlag.AlignCenter, chip)
            left += width + CHIP_GAP
            if not fits:
                return

    def _write(
        self,
        painter: QPainter,
        box: QRect,
        text: str,
        shade: str,
        right: bool = False,
        strong: bool = False,
    ) -> None:
        if not text or box.width() < 8:
            return
        key = (text, box.width(), strong)
        shown = self._elided.get(key)
        if shown is None:
            metrics = self._strong_metrics if strong else self._metrics
            mode = Qt.TextElideMode.ElideMiddle
            shown = self._elided[key] = metrics.elidedText(text, mode, box.width())
        painter.setFont(self._strong if strong else self._font)
        painter.setPen(QColor(shade))
        side = Qt.AlignmentFlag.AlignRight if right else Qt.AlignmentFlag.AlignLeft
        painter.drawText(box, int(side | Qt.AlignmentFlag.AlignVCenter), shown)


def hold_at(x: int) -> Hold | None:
    """Return the mark at a place of the column for holds, in pixels from its left edge."""
    place = (x - PADDING + (HOLD_STEP - ICON) // 2) // HOLD_STEP
    return tuple(HOLD_ICONS)[place] if 0 <= place < len(HOLD_ICONS) else None
