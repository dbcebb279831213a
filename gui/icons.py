"""Icons drawn from the SVG files of resources/icons in the text colour of the moment."""

from functools import cache
from importlib.resources import files

from PySide6.QtCore import QByteArray, QRectF, QSize, Qt
from PySide6.QtGui import QGuiApplication, QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer

from featherweight.gui import theme


def icon(name: str, colour: str = "") -> QIcon:
    """Return the icon in the colours of the theme; ask again after the theme has changed."""
    shades = theme.colours()
    made = QIcon()
    for size in (16, 24, 32, 48):
        made.addPixmap(pixmap(name, size, colour or shades.text), QIcon.Mode.Normal)
        made.addPixmap(pixmap(name, size, shades.muted), QIcon.Mode.Disabled)
    return made


def pixmap(name: str, size: int, colour: str) -> QPixmap:
    """Return a square pixmap of `size` logical pixels, sharp on the sharpest screen there is."""
    ratio = max((screen.devicePixelRatio() for screen in QGuiApplication.screens()), default=1.0)
    return _pixmap(name, size, colour, ratio)


def application_icon() -> QIcon:
    """Return the icon of the application itself, which keeps its own colours."""
    made = QIcon()
    for size in (16, 32, 64, 128, 256):
        made.addPixmap(_pixmap("featherweight", size, "", 1.0))
    return made


@cache
def _pixmap(name: str, size: int, colour: str, ratio: float) -> QPixmap:
    drawing = _drawing(name).replace("currentColor", colour or "currentColor")
    renderer = QSvgRenderer(QByteArray(drawing.encode()))
    made = QPixmap(QSize(round(size * ratio), round(size * ratio)))
    made.fill(Qt.GlobalColor.transparent)
    painter = QPainter(made)
    renderer.render(painter, QRectF(0, 0, made.width(), made.height()))
    painter.end()
    made.setDevicePixelRatio(ratio)
    return made


@cache
def _drawing(name: str) -> str:
    return files("featherweight.resources.icons").joinpath(f"{name}.svg").read_text("utf-8")
