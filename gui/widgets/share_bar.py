"""A bar that shows a share of a whole, drawn behind or below a number."""

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QPainter


def paint_share(painter: QPainter, box: QRectF, share: float, bar: str, track: str = "") -> None:
    """Fill the left `share` (0 to 1) of the box with `bar` over `track`, with round ends."""
    painter.setPen(Qt.PenStyle.NoPen)
    radius = min(box.height() / 2, 2.0)
    if track:
        painter.setBrush(QColor(track))
        painter.drawRoundedRect(box, radius, radius)
    width = box.width() * min(max(share, 0.0), 1.0)
    if width >= 0.5:
        painter.setBrush(QColor(bar))
        filled = QRectF(box.left(), box.top(), max(width, 2.0), box.height())
        painter.drawRoundedRect(filled, radius, radius)
