"""A surface larger than the window: the wheel zooms at the pointer, dragging moves it."""

from enum import Enum, auto

from PySide6.QtCore import QPoint, QPointF, QRectF, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QApplication, QWidget

from featherweight.gui import theme

LARGEST = 2.5
NOTCH = 120.0
STEP = 1.2
MARGIN = 24.0
READABLE = 0.45


class Drag(Enum):
    """What moving the pointer with a button down does."""

    NOTHING = auto()
    WAIT = auto()
    PAN = auto()
    BAND = auto()


class PanZoom(QWidget):
    """What is painted lies at `bounds` in coordinates of its own; Shift and dragging sweep."""

    view_changed = Signal()
    swept = Signal(QRectF, object)  # where, Qt.KeyboardModifier

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.scale = 1.0
        self.origin = QPointF()
        self.bounds = QRectF()
        self._drag = Drag.NOTHING
        self._pressed = QPointF()
        self._last = QPointF()
        self._fitted = True
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def to_scene(self, point: QPointF | QPoint) -> QPointF:
        """Return what lies under a point of the widget."""
        return QPointF(point.x(), point.y()) / self.scale + self.origin

    def to_view(self, point: QPointF) -> QPointF:
        """Return where a point of the surface is seen."""
        return (point - self.origin) * self.scale

    def shown(self) -> QRectF:
        """Return the part of the surface that is seen."""
        return QRectF(self.origin, self.to_scene(QPoint(self.width(), self.height())))

    def fit(self) -> None:
        """Show everything."""
        self._fitted = True
        self._look(self._fitting(), self.bounds.center())

    def fit_readably(self) -> None:
        """Show everything, or as much from the top as can still be read."""
        self.fit()
        if self.scale < READABLE:
            self._fitted = False
            room = (self.width() - 2 * MARGIN) / max(self.bounds.width(), 1.0)
            scale = min(max(room, READABLE / 2), READABLE)
            middle = self.height() / 2 / scale - MARGIN
            self._look(scale, QPointF(self.bounds.center().x(), self.bounds.top() + middle))

    def zoom(self, factor: float, at: QPointF | None = None) -> None:
        """Change the scale; the point `at` of the widget, else its middle, stays where it is."""
        point = QPointF(self.width() / 2, self.height() / 2) if at is None else at
        held = self.to_scene(point)
        self._fitted = False
        self.scale = min(max(self.scale * factor, min(self._fitting(), 1.0) / 2), LARGEST)
        self._move_to(held - point / self.scale)

    def centre_on(self, point: QPointF) -> None:
        """Bring a point of the surface to the middle."""
        self._fitted = False
        self._look(self.scale, point)

    def bring_into_view(self, box: QRectF) -> None:
        """Move as little as shows a box with some room around, or to it where it is far away."""
        room = QRectF(box).adjusted(*(side * MARGIN / self.scale for side in (-1, -1, 1, 1)))
        seen = self.shown()
        if seen.contains(room):
            return
        if not seen.intersects(room) or room.width() > seen.width():
            self.centre_on(box.center())
            return
        right = max(room.right() - seen.right(), 0.0) + min(room.left() - seen.left(), 0.0)
        down = max(room.bottom() - seen.bottom(), 0.0) + min(room.top() - seen.top(), 0.0)
        self._fitted = False
        self._move_to(self.origin + QPointF(right, down))

    def pan(self, right: float, down: float) -> None:
        """Move what is seen, by pixels of the widget."""
        self._fitted = False
        self._move_to(self.origin + QPointF(right, down) / self.scale)

    def paint_surface(self, painter: QPainter, seen: QRectF) -> None:
        """Paint what is seen; the painter has the coordinates of the surface."""

    def pressed(self, point: QPointF, modifiers: Qt.KeyboardModifier) -> None:
        """Take a click of the left button that did not become a drag."""

    def passed(self, point: QPointF | None) -> None:
        """Take the pointer passing over a point of the surface, None as it leaves."""

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        super().resizeEvent(event)
        if self._fitted:
            self.fit_readably()

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802
        notches = event.angleDelta().y() / NOTCH
        self.zoom(STEP**notches, event.position())
        event.accept()

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        if event.button() in (Qt.MouseButton.LeftButton, Qt.MouseButton.MiddleButton):
            self._pressed = self._last = event.position()
            self._drag = Drag.WAIT

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        point = event.position()
        far = (point - self._pressed).manhattanLength() >= QApplication.startDragDistance()
        if self._drag is Drag.WAIT and far:
            sweeps = event.modifiers() & Qt.KeyboardModifier.ShiftModifier
            left = event.buttons() & Qt.MouseButton.LeftButton
            self._drag = Drag.BAND if sweeps and left else Drag.PAN
            if self._drag is Drag.PAN:
                self.setCursor(Qt.CursorShape.ClosedHandCursor)
        if self._drag is Drag.PAN:
            self.pan(self._last.x() - point.x(), self._last.y() - point.y())
        elif self._drag is Drag.BAND:
            self.update()
        elif self._drag is Drag.NOTHING:
            self.passed(self.to_scene(point))
        self._last = point

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        drag, self._drag = self._drag, Drag.NOTHING
        self.unsetCursor()
        if drag is Drag.BAND:
            self.swept.emit(self._band(), event.modifiers())
            self.update()
        elif drag is Drag.WAIT and event.button() == Qt.MouseButton.LeftButton:
            self.pressed(self.to_scene(event.position()), event.modifiers())

    def leaveEvent(self, event: object) -> None:  # noqa: N802, ARG002
        self.passed(None)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802, ARG002
        painter = QPainter(self)
        shades = theme.colours()
        painter.fillRect(self.rect(), QColor(shades.surface))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.save()
        painter.scale(self.scale, self.scale)
        painter.translate(-self.origin)
        self.paint_surface(painter, self.shown())
        painter.restore()
        if self._drag is Drag.BAND:
            tint = QColor(shades.accent)
            painter.setPen(QPen(tint, 1))
            tint.setAlphaF(0.12)
            painter.setBrush(tint)
            painter.drawRect(QRectF(self._pressed, self._last).normalized())
        if self.hasFocus():
            painter.setPen(QPen(QColor(shades.accent), 1))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5))
        painter.end()

    def _band(self) -> QRectF:
        return QRectF(self.to_scene(self._pressed), self.to_scene(self._last)).normalized()

    def _fitting(self) -> float:
        across = (self.width() - 2 * MARGIN) / max(self.bounds.width(), 1.0)
        down = (self.height() - 2 * MARGIN) / max(self.bounds.height(), 1.0)
        return max(min(across, down, 1.0), 1e-3)

    def _look(self, scale: float, middle: QPointF) -> None:
        self.scale = scale
        self._move_to(middle - QPointF(self.width(), self.height()) / (2 * scale))

    def _move_to(self, origin: QPointF) -> None:
        self.origin = origin
        self.update()
        self.view_changed.emit()
