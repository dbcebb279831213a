"""Boxes in frames, joined by strokes, on a surface that pans and zooms."""

from collections.abc import Callable, Sequence

import numpy as np
from PySide6.QtCore import QEvent, QLineF, QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QHelpEvent, QKeyEvent, QKeySequence, QMouseEvent, QPainter
from PySide6.QtWidgets import QToolTip, QWidget

from featherweight.gui.widgets.box_painter import OUTLINE_FROM, TEXT_FROM, Box, BoxPainter, Looks
from featherweight.gui.widgets.pan_zoom import PanZoom

ARROWS = {
    Qt.Key.Key_Up: "up",
    Qt.Key.Key_Down: "down",
    Qt.Key.Key_Left: "left",
    Qt.Key.Key_Right: "right",
}
NOBODY = -1
SEEN_FROM = 1.0  # pixels


class BoxCanvas(PanZoom):
    """Shows boxes and tells what is done with them; boxes and frames are named by their places."""

    clicked = Signal(int, object)  # box or NOBODY, Qt.KeyboardModifier
    frame_clicked = Signal(int, object)
    hovered = Signal(int)  # box or NOBODY
    opened = Signal(int)  # a box that was double-clicked or entered
    closed = Signal(int)  # a frame that was double-clicked
    moved = Signal(str, object)  # an arrow, Qt.KeyboardModifier
    dismissed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.looks = Looks()
        self.current = NOBODY
        self.tip: Callable[[int], str] = lambda place: self._boxes[place].title
        self._boxes: Sequence[Box] = ()
        self._frames: Sequence[Box] = ()
        self._strokes: Sequence[tuple[float, ...]] = ()
        self._lines: list[QLineF] = []
        self._box_sides = self._frame_sides = self._stroke_sides = np.zeros((4, 0))
        self._over = self._over_frame = NOBODY
        self._painter = BoxPainter(self.font())

    def show_boxes(
        self,
        boxes: Sequence[Box],
        frames: Sequence[Box],
        strokes: Sequence[tuple[float, ...]],
        size: tuple[float, float],
    ) -> None:
        """Show others; what is seen stays where it is."""
        self._boxes, self._frames, self._strokes = boxes, frames, strokes
        self._lines = []
        self._box_sides = _sides([box.rect for box in boxes])
        self._frame_sides = _sides([frame.rect for frame in frames])
        ends = np.asarray(strokes, dtype=float).reshape(-1, 4).T
        self._stroke_sides = np.stack(
            (
                np.minimum(ends[0], ends[2]),
                np.minimum(ends[1], ends[3]),
                np.maximum(ends[0], ends[2]),
                np.maximum(ends[1], ends[3]),
            )
        )
        self.bounds = QRectF(0.0, 0.0, *size)
        self._over = self._over_frame = self.current = NOBODY
        self._painter = BoxPainter(self.font())
        self.update()

    def show_looks(self, looks: Looks) -> None:
        """Let other boxes stand out."""
        self.looks = looks
        self.update()

    def rect_of(self, place: int) -> QRectF:
        """Return where a box lies."""
        return self._boxes[place].rect

    def box_at(self, point: QPointF) -> int:
        """Return the box at a point, NOBODY where there is none."""
        found = _within(self._box_sides, QRectF(point, point))
        return int(found[-1]) if len(found) else NOBODY

    def frame_at(self, point: QPointF) -> int:
        """Return the innermost frame at a point, NOBODY where there is none."""
        found = _within(self._frame_sides, QRectF(point, point))
        return int(found[-1]) if len(found) else NOBODY

    def boxes_in(self, area: QRectF) -> list[int]:
        """Return the boxes that an area touches."""
        return [int(place) for place in _within(self._box_sides, area)]

    def paint_surface(self, painter: QPainter, seen: QRectF) -> None:
        self._paint_frames(painter, seen)
        strokes = _within(self._stroke_sides, seen, SEEN_FROM / self.scale).tolist()
        if self.scale >= TEXT_FROM:
            self._painter.paint_strokes(painter, [self._strokes[s] for s in strokes], self.scale)
        else:
            if not self._lines:
                self._lines = [QLineF(*stroke) for stroke in self._strokes]
            self._painter.paint_lines(painter, [self._lines[stroke] for stroke in strokes])
        margin = 12 / self.scale
        boxes = _within(self._box_sides, seen.adjusted(-margin, -margin, margin, margin)).tolist()
        if self.scale < TEXT_FROM:
            self._painter.paint_plain(painter, self._boxes, boxes, self.looks)
            self._painter.paint_titles(painter, self._boxes, boxes, self.looks)
            return
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        for place in boxes:
            focus = place == self.current and self.hasFocus()
            self._painter.paint_box(painter, self._boxes[place], place, self.looks, focus)

    def _paint_frames(self, painter: QPainter, seen: QRectF) -> None:
        frames = _within(self._frame_sides, seen, SEEN_FROM / self.scale).tolist()
        if self.scale < OUTLINE_FROM:
            rects = [self._frames[place].rect for place in frames]
            self._painter.paint_plain_frames(painter, rects)
            return
        for place in frames:
            hovered = place == self._over_frame and self._over == NOBODY
            self._painter.paint_frame(painter, self._frames[place], hovered, self.scale)

    def pressed(self, point: QPointF, modifiers: Qt.KeyboardModifier) -> None:
        box = self.box_at(point)
        frame = self.frame_at(point) if box == NOBODY else NOBODY
        if frame != NOBODY and self._on_title(frame, point):
            self.frame_clicked.emit(frame, modifiers)
        else:
            self.clicked.emit(box, modifiers)

    def passed(self, point: QPointF | None) -> None:
        over = NOBODY if point is None else self.box_at(point)
        frame = NOBODY if point is None else self.frame_at(point)
        if (over, frame) == (self._over, self._over_frame):
            return
        changed, self._over, self._over_frame = over != self._over, over, frame
        if changed:
            self.hovered.emit(over)
        self.setCursor(
            Qt.CursorShape.ArrowCursor if over == NOBODY else Qt.CursorShape.PointingHandCursor
        )
        self.update()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        point = self.to_scene(event.position())
        box, frame = self.box_at(point), self.frame_at(point)
        if event.button() == Qt.MouseButton.LeftButton and box != NOBODY:
            self.opened.emit(box)
        elif event.button() == Qt.MouseButton.LeftButton and frame != NOBODY:
            self.closed.emit(frame)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        key = Qt.Key(event.key())
        if event.matches(QKeySequence.StandardKey.SelectAll):
            self.swept.emit(self.bounds, Qt.KeyboardModifier.NoModifier)
        elif key in ARROWS:
            self.moved.emit(ARROWS[key], event.modifiers())
        elif key in (Qt.Key.Key_F, Qt.Key.Key_Home):
            self.fit()
        elif key in (Qt.Key.Key_Plus, Qt.Key.Key_Equal):
            self.zoom(1.25)
        elif key == Qt.Key.Key_Minus:
            self.zoom(0.8)
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space):
            if self.current != NOBODY:
                self.opened.emit(self.current)
        elif key == Qt.Key.Key_Escape:
            self.dismissed.emit()
        else:
            super().keyPressEvent(event)

    def event(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent):
            box = self.box_at(self.to_scene(event.pos()))
            QToolTip.showText(event.globalPos(), self.tip(box) if box != NOBODY else "", self)
            return True
        return super().event(event)

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.FontChange):
            self._painter = BoxPainter(self.font())
        super().changeEvent(event)

    def _on_title(self, frame: int, point: QPointF) -> bool:
        return point.y() - self._frames[frame].rect.top() < 26


def _sides(rects: Sequence[QRectF]) -> np.ndarray:
    sides = [(rect.left(), rect.top(), rect.right(), rect.bottom()) for rect in rects]
    return np.asarray(sides, dtype=float).reshape(-1, 4).T


def _within(sides: np.ndarray, area: QRectF, least: float = 0.0) -> np.ndarray:
    """Return what an area touches and what is as large as `least` in one direction."""
    left, top, right, bottom = sides
    touched = (left <= area.right()) & (right >= area.left())
    touched &= (top <= area.bottom()) & (bottom >= area.top())
    if least:
        touched &= np.maximum(right - left, bottom - top) >= least
    return np.flatnonzero(touched)
