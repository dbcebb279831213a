"""A small curve under a slider: an error against a strength, the present value, where gains end."""

from collections.abc import Sequence
from typing import NamedTuple

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QHelpEvent, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from featherweight.engine.options import Option
from featherweight.gui import theme, wording
from featherweight.gui.widgets.slider_scale import SliderScale

HEIGHT, EDGE, DOT = 56, 6, 2.0


class Limit(NamedTuple):
    """Where a gain ends: the last strength that gains (None for none), on which side, in words."""

    at: float | None
    above: bool
    words: str


class StrengthChart(QWidget):
    """Drawn over the width of the slider, on the slider's scale; zero is at the bottom."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.points: tuple[tuple[float, float], ...] = ()
        self.value: float | None = None
        self.limits: tuple[Limit, ...] = ()
        self._error: float | None = None
        self._scale = SliderScale(0.0, 1.0, False)

    def show_curve(
        self,
        option: Option,
        points: Sequence[tuple[float, float]],
        present: tuple[float | None, float | None],
        limits: Sequence[Limit],
    ) -> None:
        """Show other points (strength, error), the present strength and error, and limits."""
        self._scale = scale_of(option)
        self.points, self.limits = tuple(points), tuple(limits)
        self.value, self._error = present
        self.update()

    def sizeHint(self) -> QSize:  # noqa: N802
        return QSize(160, HEIGHT)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        return QSize(48, HEIGHT)

    def event(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent):
            QToolTip.showText(event.globalPos(), self.tip(event.pos().x()), self)
            return True
        return super().event(event)

    def tip(self, x: float) -> str:
        """Return what is to be said of a place: the nearest point, and what ends where."""
        lines = [limit.words for limit in self.limits]
        if self.points:
            strength, error = min(self.points, key=lambda point: abs(self._x(point[0]) - x))
            lines.insert(0, f"At {strength:g}: {wording.error(error)}")
        return "\n".join(lines)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802, ARG002
        shades = theme.colours()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for limit in self.limits:
            self._paint_limit(painter, limit, shades)
        painter.setPen(QPen(QColor(shades.line), 1))
        painter.drawLine(QPointF(EDGE, self._y(0)), QPointF(self.width() - EDGE, self._y(0)))
        curve = [QPointF(self._x(at), self._y(error)) for at, error in self.points]
        if len(self.points) > 1:
            ends = [QPointF(curve[-1].x(), self._y(0)), QPointF(curve[0].x(), self._y(0))]
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(shades.accent_soft))
            painter.drawPolygon(QPolygonF([*curve, *ends]))
            painter.setPen(QPen(QColor(shades.accent), 1.4))
            painter.drawPolyline(curve)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(shades.accent))
        for point in curve:
            painter.drawEllipse(point, DOT, DOT)
        self._paint_present(painter, shades)

    def _paint_limit(self, painter: QPainter, limit: Limit, shades: theme.Colours) -> None:
        left, right = float(EDGE), float(self.width() - EDGE)
        if limit.at is not None:
            at = self._x(limit.at)
            left, right = (at, right) if limit.above else (left, at)
        ground = QColor(shades.warning)
        ground.setAlphaF(0.10)
        painter.fillRect(QRectF(left, 2, right - left, self._y(0) - 2), ground)
        if limit.at is not None:
            painter.setPen(QPen(QColor(shades.warning), 1, Qt.PenStyle.DashLine))
            painter.drawLine(QPointF(self._x(limit.at), 2), QPointF(self._x(limit.at), self._y(0)))

    def _paint_present(self, painter: QPainter, shades: theme.Colours) -> None:
        if self.value is None:
            return
        x = self._x(self.value)
        painter.setPen(QPen(QColor(shades.text), 1))
        painter.drawLine(QPointF(x, 2), QPointF(x, self._y(0)))
        if self._error is not None:
            painter.setPen(QPen(QColor(shades.surface), 1.5))
            painter.setBrush(QColor(shades.text))
            painter.drawEllipse(QPointF(x, self._y(self._error)), 4, 4)

    def _x(self, strength: float) -> float:
        return EDGE + self._scale.share(strength) * (self.width() - 2 * EDGE)

    def _y(self, error: float) -> float:
        most = max([error for _, error in self.points] + [self._error or 0.0]) or 1.0
        floor = HEIGHT - 4.0
        return floor - min(error / most, 1.0) * (floor - EDGE)


def scale_of(option: Option) -> SliderScale:
    """Return the scale of an option's slider; of a list of numbers from the least to the most."""
    if option.choices:
        numbers = [float(choice) for choice in option.choices if not isinstance(choice, str)]
        return SliderScale(min(numbers), max(numbers), False)
    low = option.minimum or 0.0
    high = 1.0 if option.maximum is None else option.maximum
    return SliderScale(low, high, option.kind == "integer")
