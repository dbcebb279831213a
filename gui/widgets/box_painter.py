"""Paints boxes, frames and strokes, with as much detail as their size on the screen is worth."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from PySide6.QtCore import QLineF, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPainterPath, QPen

from featherweight.gui import icons, theme

# Below these scales boxes lose all text but their titles, then those, then their outlines.
TEXT_FROM, TITLE_FROM, OUTLINE_FROM = 0.44, 0.2, 0.12
TITLE_PIXELS, LETTER_WIDTH, MOST_TITLES = 9.0, 0.62, 400
RADIUS, ICON = 7.0, 14
SMALLEST = 5.0
INKS = ("#16202e", "#ffffff")

Form = Literal["box", "pill", "stack"]


@dataclass(frozen=True)
class Box:
    """A box in coordinates of the surface. A stack holds more boxes; a pill is a box of less."""

    rect: QRectF
    title: str
    below: str = ""
    form: Form = "box"


@dataclass
class Looks:
    """How boxes stand out, by their places.

    `fills` are the colours of every box from left to right, none for the plain ground. `lit` belong
    to what is `chosen`, `hinted` to what the pointer is over.
    """

    fills: Sequence[tuple[str, ...]] = ()
    locked: frozenset[int] = frozenset()
    chosen: frozenset[int] = frozenset()
    lit: frozenset[int] = frozenset()
    hinted: frozenset[int] = frozenset()
    found: frozenset[int] = frozenset()
    counts: dict[int, str] = field(default_factory=dict)


def contrast(first: str, second: str) -> float:
    """Return the contrast of two colours, 1 to 21, as the accessibility guidelines define it."""
    dark, light = sorted(_luminance(QColor(shade)) for shade in (first, second))
    return (light + 0.05) / (dark + 0.05)


def _luminance(shade: QColor) -> float:
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (shade.redF(), shade.greenF(), shade.blueF())
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def blend(ground: str, shade: str, share: float) -> str:
    """Return a colour between two, `share` of the way from the first to the second."""
    first, second = QColor(ground), QColor(shade)
    red = first.red() + (second.red() - first.red()) * share
    green = first.green() + (second.green() - first.green()) * share
    blue = first.blue() + (second.blue() - first.blue()) * share
    return QColor(round(red), round(green), round(blue)).name()


class BoxPainter:
    """Draws with the colours and the font of the moment; make another when they change."""

    def __init__(self, font: QFont) -> None:
        self.shades = theme.colours()
        self._font = QFont(font)
        self._font.setHintingPreference(QFont.HintingPreference.PreferNoHinting)
        self._strong = QFont(self._font)
        self._strong.setWeight(QFont.Weight.DemiBold)
        self._small = QFont(self._font)
        self._small.setPointSizeF(font.pointSizeF() - 1.2)
        self._elided: dict[tuple[str, float, bool], str] = {}
        self._inks: dict[str, str] = {}
        self._title, self._titles = QFont(self._font), dict[int, str]()
        edge = blend(self.shades.line, self.shades.muted, 0.35)
        self._edge = QColor(edge)
        self._edge_pen = QPen(self._edge, 1)
        self._known: dict[str, QColor] = {}
        self._stroke = QColor(blend(self.shades.line, self.shades.muted, 0.6))

    def paint_frame(self, painter: QPainter, frame: Box, hovered: bool, scale: float) -> None:
        """Draw the ground of an unfolded block, and its title."""
        tint = QColor(self.shades.text)
        tint.setAlphaF(0.05 if hovered else 0.025)
        painter.setPen(QPen(self._edge if hovered else QColor(self.shades.line), 1 / scale))
        painter.setBrush(tint)
        painter.drawRoundedRect(frame.rect, RADIUS + 2, RADIUS + 2)
        if scale >= TEXT_FROM:
            box = QRectF(frame.rect.left() + 12, frame.rect.top() + 3, frame.rect.width() - 24, 22)
            shade = self.shades.text if hovered else self.shades.muted
            half = QRectF(box.left(), box.top(), box.width() / 2 - 8, box.height())
            self._write(painter, half, frame.title, shade, self._small, left=True)

    def paint_plain_frames(self, painter: QPainter, rects: Sequence[QRectF]) -> None:
        """Draw the grounds of many small frames at once."""
        tint = QColor(self.shades.text)
        tint.setAlphaF(0.03)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        painter.setPen(QPen(QColor(self.shades.line), 0))
        painter.setBrush(tint)
        painter.drawRects(rects)

    def paint_strokes(
        self, painter: QPainter, strokes: Sequence[tuple[float, ...]], scale: float
    ) -> None:
        """Draw strokes as lines that leave and arrive upright."""
        path = QPainterPath()
        for x, y, to_x, to_y in strokes:
            path.moveTo(x, y)
            if x == to_x:
                path.lineTo(to_x, to_y)
            else:
                middle = (y + to_y) / 2
                path.cubicTo(x, middle, to_x, middle, to_x, to_y)
        painter.setPen(QPen(self._stroke, max(1.3, 1 / scale)))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPath(path)

    def paint_lines(self, painter: QPainter, lines: Sequence[QLineF]) -> None:
        """Draw strokes as straight lines, one pixel wide."""
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        painter.setPen(QPen(self._stroke, 0))
        painter.drawLines(lines)

    def paint_plain(
        self, painter: QPainter, boxes: Sequence[Box], places: Iterable[int], looks: Looks
    ) -> None:
        """Draw many small boxes, those of one colour at once, and on top those that stand out."""
        scale = painter.worldTransform().m11()
        groups: dict[str, list[QRectF]] = {}
        marked: list[tuple[str, QRectF]] = []
        fills, plain = looks.fills, self.shades.track
        standing = looks.chosen | looks.lit | looks.found | looks.hinted
        for place in places:
            fill = fills[place] if place < len(fills) else ()
            groups.setdefault(fill[0] if fill else plain, []).append(boxes[place].rect)
            if place in standing:
                marked.append((self._ground(place, looks), boxes[place].rect))
        outlined = scale >= OUTLINE_FROM
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, outlined)
        painter.setPen(QPen(self._edge, 0) if outlined else QPen(Qt.PenStyle.NoPen))
        for shade, rects in groups.items():
            painter.setBrush(QColor(shade))
            painter.drawRects(rects)
        self._mark(painter, marked, scale)

    def paint_titles(
        self, painter: QPainter, boxes: Sequence[Box], places: Sequence[int], looks: Looks
    ) -> None:
        """Write titles alone, large enough to be read on small boxes."""
        scale = painter.worldTransform().m11()
        if scale < TITLE_FROM or len(places) > MOST_TITLES:
            return
        font = QFont(self._font)
        font.setPixelSize(round(TITLE_PIXELS / scale))
        if font.pixelSize() != self._title.pixelSize():
            self._title, self._titles = font, {}
        painter.setFont(self._title)
        fills = looks.fills
        for place in places:
            box = boxes[place]
            if box.form == "pill":
                continue
            shown = self._titles.get(place)
            if shown is None:
                # Measuring texts anew at every scale would take longer than painting them.
                room = int(box.rect.width() / (self._title.pixelSize() * LETTER_WIDTH))
                fits = len(box.title) <= room
                shown = box.title if fits else f"{box.title[: max(room - 1, 1)]}…"
                self._titles[place] = shown
            marked = place in looks.chosen or place in looks.lit
            fill = fills[place] if place < len(fills) and not marked else ()
            painter.setPen(QColor(self._ink(fill[0] if fill else self._ground(place, looks))))
            painter.drawText(box.rect, int(Qt.AlignmentFlag.AlignCenter), shown)

    def _ground(self, place: int, looks: Looks) -> str:
        if place in looks.chosen or place in looks.found:
            return self.shades.accent
        marked = place in looks.lit or place in looks.hinted
        return self.shades.coupled if marked else self.shades.track

    def _mark(self, painter: QPainter, marked: Sequence[tuple[str, QRectF]], scale: float) -> None:
        for shade, rect in marked:
            side = SMALLEST / scale
            grown = QRectF(0, 0, max(rect.width(), side), max(rect.height(), side))
            grown.moveCenter(rect.center())
            painter.setPen(QPen(QColor(shade), 2 / scale))
            painter.setBrush(QColor(shade))
            painter.drawRect(grown)

    def paint_box(self, painter: QPainter, box: Box, place: int, looks: Looks, focus: bool) -> None:
        """Draw a box with its text and its marks."""
        rect = box.rect
        radius = rect.height() / 2 if box.form == "pill" else RADIUS
        self._paint_glow(painter, rect, radius, place, looks)
        fill = looks.fills[place] if place < len(looks.fills) else ()
        if box.form == "stack":
            painter.setPen(self._edge_pen)
            painter.setBrush(self._colour(fill[0] if fill else self.shades.surface))
            painter.drawRoundedRect(rect.translated(4, 4), radius, radius)
        pen = self._pen_of(place, looks)
        self._paint_card(painter, rect, radius, fill, pen)
        if focus:
            painter.setPen(QPen(QColor(self.shades.accent), 1, Qt.PenStyle.DotLine))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(rect.adjusted(-4, -4, 4, 4), radius + 4, radius + 4)
        ink = self._ink(fill[0] if fill else self.shades.surface)
        self._paint_text(painter, box, place, looks, ink)

    def _paint_glow(
        self, painter: QPainter, rect: QRectF, radius: float, place: int, looks: Looks
    ) -> None:
        if place in looks.chosen:
            shade = QColor(self.shades.accent)
        elif place in looks.lit:
            shade = QColor(self.shades.coupled)
        else:
            return
        shade.setAlphaF(0.22)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(shade)
        painter.drawRoundedRect(rect.adjusted(-6, -6, 6, 6), radius + 6, radius + 6)

    def _paint_card(
        self, painter: QPainter, rect: QRectF, radius: float, fill: tuple[str, ...], pen: QPen
    ) -> None:
        painter.setPen(pen)
        painter.setBrush(self._colour(fill[0] if fill else self.shades.surface))
        if len(fill) > 1:
            clip = QPainterPath()
            clip.addRoundedRect(rect, radius, radius)
            painter.save()
            painter.setClipPath(clip, Qt.ClipOperation.IntersectClip)
            width = rect.width() / len(fill)
            for band, shade in enumerate(fill):
                left = rect.left() + band * width
                painter.fillRect(QRectF(left, rect.top(), width, rect.height()), QColor(shade))
            painter.restore()
            painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRoundedRect(rect, radius, radius)

    def _colour(self, shade: str) -> QColor:
        known = self._known.get(shade)
        if known is None:
            known = self._known[shade] = QColor(shade)
        return known

    def _pen_of(self, place: int, looks: Looks) -> QPen:
        if place in looks.chosen:
            return QPen(self._colour(self.shades.accent), 2.0, Qt.PenStyle.SolidLine)
        if place in looks.lit:
            return QPen(self._colour(self.shades.coupled), 2.0, Qt.PenStyle.SolidLine)
        if place in looks.hinted:
            return QPen(self._colour(self.shades.coupled), 2.0, Qt.PenStyle.DashLine)
        if place in looks.found:
            return QPen(self._colour(self.shades.accent), 1.5, Qt.PenStyle.DashLine)
        return self._edge_pen

    def _paint_text(self, painter: QPainter, box: Box, place: int, looks: Looks, ink: str) -> None:
        rect = box.rect.adjusted(9, 0, -9, 0)
        marks = [name for name, places in self._marks(looks) if place in places]
        for position, name in enumerate(marks):
            shade = self.shades.coupled if name == "coupled" else ink
            left = box.rect.right() - 7 - ICON * (position + 1) - 3 * position
            picture = icons.pixmap(name, ICON, shade)
            target = QRectF(left, box.rect.top() + 5, ICON, ICON)
            painter.drawPixmap(target, picture, QRectF(picture.rect()))
        used = (ICON + 3) * len(marks)
        if not box.below:
            self._write(painter, rect, box.title, ink, self._small)
            return
        half = rect.height() / 2
        top = QRectF(rect.left() + used, rect.top() + 3, rect.width() - 2 * used, half)
        bottom = QRectF(rect.left(), rect.center().y() - 1, rect.width(), half - 2)
        self._write(painter, top, box.title, ink, self._strong)
        text = looks.counts.get(place, box.below)
        self._write(painter, bottom, text, ink, self._small)

    def _marks(self, looks: Looks) -> tuple[tuple[str, frozenset[int]], ...]:
        return (("lock", looks.locked), ("coupled", looks.lit | looks.hinted))

    def _ink(self, ground: str) -> str:
        ink = self._inks.get(ground)
        if ink is None:
            ink = self._inks[ground] = max(INKS, key=lambda ink: contrast(ink, ground))
        return ink

    def _write(
        self,
        painter: QPainter,
        rect: QRectF,
        text: str,
        shade: str,
        font: QFont,
        left: bool = False,
    ) -> None:
        key = (text, round(rect.width()), font is self._strong)
        shown = self._elided.get(key)
        if shown is None:
            metrics = QFontMetricsF(font)
            shown = metrics.elidedText(text, Qt.TextElideMode.ElideMiddle, rect.width())
            self._elided[key] = shown
        painter.setFont(font)
        painter.setPen(self._colour(shade))
        side = Qt.AlignmentFlag.AlignLeft if left else Qt.AlignmentFlag.AlignHCenter
        painter.drawText(rect, int(side | Qt.AlignmentFlag.AlignVCenter), shown)
