"""The look: Fusion, one palette for light and one for dark, a short style sheet, chart colours."""

from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Literal

from PySide6.QtCore import QObject, Qt, Slot
from PySide6.QtGui import QColor, QFont, QGuiApplication, QPalette
from PySide6.QtWidgets import QApplication

from featherweight.gui.style_sheet import TEMPLATE

Scheme = Literal["system", "light", "dark"]


@dataclass(frozen=True)
class Colours:
    """Every colour that is painted by hand; the palette and the style sheet come from them too."""

    window: str
    surface: str
    raised: str
    line: str
    text: str
    muted: str
    accent: str
    accent_strong: str
    accent_soft: str
    on_accent: str
    hover: str
    bar: str
    track: str
    coupled: str
    good: str
    warning: str
    danger: str
    series: tuple[str, ...]
    kinds: tuple[str, ...]


LIGHT = Colours(
    window="#f4f5f7",
    surface="#ffffff",
    raised="#ffffff",
    line="#dde1e7",
    text="#1c2430",
    muted="#626d7c",
    accent="#2b62d9",
    accent_strong="#1f4fb8",
    accent_soft="#e2ebfd",
    on_accent="#ffffff",
    hover="#eef1f6",
    bar="#b6ccf6",
    track="#eceff4",
    coupled="#b7791f",
    good="#18794e",
    warning="#9a5b00",
    danger="#c2332b",
    series=("#2b62d9", "#c26a0a", "#18794e", "#8a4fcf", "#c2332b"),
    kinds=("#2b62d9", "#6f9bf0", "#8a4fcf", "#18794e", "#c28a2c", "#a3acb9"),
)
DARK = Colours(
    window="#16181d",
    surface="#1c1f25",
    raised="#272b33",
    line="#343a44",
    text="#e5e8ed",
    muted="#98a2b1",
    accent="#7da7ff",
    accent_strong="#a3c1ff",
    accent_soft="#26365c",
    on_accent="#0d1526",
    hover="#262a32",
    bar="#3d588f",
    track="#2a2e36",
    coupled="#e0b25c",
    good="#5cc794",
    warning="#e0ac55",
    danger="#ff8a80",
    series=("#7da7ff", "#f0a95b", "#5cc794", "#c39bf5", "#ff8a80"),
    kinds=("#7da7ff", "#4e70b8", "#c39bf5", "#5cc794", "#e0b25c", "#6d7683"),
)


def colours() -> Colours:
    """Return the colours that go with the palette now in force."""
    window = QGuiApplication.palette().color(QPalette.ColorRole.Window)
    return DARK if window.lightness() < 128 else LIGHT


def apply(app: QApplication, scheme: Scheme) -> None:
    """Give the application its look; with `system` it changes whenever the system's scheme does."""
    follower = app.findChild(_Follower) or _Follower(app)
    follower.follows = scheme == "system"
    _paint(app, _system_is_dark() if scheme == "system" else scheme == "dark")


class _Follower(QObject):
    """Applies the look again when the system turns light or dark."""

    def __init__(self, app: QApplication) -> None:
        super().__init__(app)
        self.follows = False
        app.styleHints().colorSchemeChanged.connect(self._on_scheme_changed)

    @Slot(Qt.ColorScheme)
    def _on_scheme_changed(self, scheme: Qt.ColorScheme) -> None:
        app = QApplication.instance()
        if self.follows and isinstance(app, QApplication):
            _paint(app, scheme == Qt.ColorScheme.Dark)


def _system_is_dark() -> bool:
    return QGuiApplication.styleHints().colorScheme() == Qt.ColorScheme.Dark


def _paint(app: QApplication, dark: bool) -> None:
    shades = DARK if dark else LIGHT
    app.setStyle("Fusion")
    font = QFont(app.font())
    font.setPointSizeF(9.5)
    font.setHintingPreference(QFont.HintingPreference.PreferNoHinting)
    app.setFont(font)
    app.setPalette(palette(shades))
    app.setStyleSheet(style_sheet(shades))


def palette(shades: Colours) -> QPalette:
    """Return the palette of a set of colours, its disabled roles muted."""
    role = QPalette.ColorRole
    made = QPalette()
    for key, shade in {
        role.Window: shades.window,
        role.WindowText: shades.text,
        role.Base: shades.surface,
        role.AlternateBase: shades.window,
        role.Text: shades.text,
        role.Button: shades.raised,
        role.ButtonText: shades.text,
        role.BrightText: shades.danger,
        role.Highlight: shades.accent,
        role.HighlightedText: shades.on_accent,
        role.Accent: shades.accent,
        role.Link: shades.accent,
        role.LinkVisited: shades.accent,
        role.ToolTipBase: shades.raised,
        role.ToolTipText: shades.text,
        role.PlaceholderText: shades.muted,
        role.Light: shades.raised,
        role.Midlight: shades.hover,
        role.Mid: shades.line,
        role.Dark: shades.line,
        role.Shadow: shades.line,
    }.items():
        made.setColor(key, QColor(shade))
    faded = QColor(shades.muted)
    faded.setAlphaF(0.6)
    for key in (role.WindowText, role.Text, role.ButtonText):
        made.setColor(QPalette.ColorGroup.Disabled, key, faded)
    made.setColor(QPalette.ColorGroup.Disabled, role.Highlight, QColor(shades.line))
    return made


def style_sheet(shades: Colours) -> str:
    """Return the style sheet with a set of colours filled in."""
    icons = str(files("featherweight.resources.icons")).replace("\\", "/")
    tick = "dark" if shades is DARK else "light"
    return TEMPLATE.substitute(asdict(shades), icons=icons, tick=tick)
