"""The look: two schemes, read from the system or chosen, readable in both."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from featherweight.gui import icons, theme
from featherweight.gui.theme import DARK, LIGHT, Colours
from featherweight.gui.widgets.empty_state import EmptyState
from featherweight.gui.widgets.line_chart import LineChart

ICONS = sorted(path.stem for path in Path(icons.__file__).parents[1].glob("resources/icons/*.svg"))


@pytest.fixture
def app(qapp: QApplication) -> Iterator[QApplication]:
    yield qapp
    theme.apply(qapp, "light")


def contrast(one: str, other: str) -> float:
    def luminance(name: str) -> float:
        shade = QColor(name)
        parts = (shade.redF(), shade.greenF(), shade.blueF())
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize(("scheme", "shades"), [("light", LIGHT), ("dark", DARK)])
def test_that_a_chosen_scheme_sets_palette_and_colours(
    app: QApplication, scheme: theme.Scheme, shades: Colours
) -> None:
    theme.apply(app, scheme)
    assert app.palette().color(QPalette.ColorRole.Window).name() == shades.window
    assert theme.colours() is shades
    assert shades.accent in app.styleSheet()


def test_that_the_system_scheme_is_followed_only_when_asked(app: QApplication) -> None:
    theme.apply(app, "system")
    app.styleHints().colorSchemeChanged.emit(Qt.ColorScheme.Dark)
    assert theme.colours() is DARK
    theme.apply(app, "light")
    app.styleHints().colorSchemeChanged.emit(Qt.ColorScheme.Dark)
    assert theme.colours() is LIGHT


@pytest.mark.parametrize("shades", [LIGHT, DARK])
@pytest.mark.parametrize("ground", ["window", "surface", "raised"])
def test_that_text_can_be_read_on_every_ground(shades: Colours, ground: str) -> None:
    behind = getattr(shades, ground)
    for name in ("text", "muted", "accent", "good", "warning", "danger"):
        assert contrast(getattr(shades, name), behind) >= 4.5, name
    assert contrast(shades.on_accent, shades.accent) >= 4.5


@pytest.mark.parametrize("shades", [LIGHT, DARK])
def test_that_every_curve_stands_out_from_the_chart(shades: Colours) -> None:
    assert min(contrast(shade, shades.surface) for shade in shades.series) >= 3
    assert len(set(shades.kinds)) == 6


def test_that_charts_change_their_ground_with_the_scheme(qtbot: QtBot, app: QApplication) -> None:
    theme.apply(app, "light")
    chart = LineChart()
    qtbot.addWidget(chart)
    with qtbot.waitExposed(chart):
        chart.show()
    schemes: tuple[tuple[theme.Scheme, Colours], ...] = (("dark", DARK), ("light", LIGHT))
    for scheme, shades in schemes:
        theme.apply(app, scheme)
        assert chart.plot.backgroundBrush().color().name() == shades.surface


@pytest.mark.parametrize("name", ICONS)
def test_that_every_icon_draws_something_in_its_colour(qtbot: QtBot, name: str) -> None:
    del qtbot
    drawn = icons.pixmap(name, 32, "#ff0000").toImage()
    inked = {
        drawn.pixelColor(x, y).name()
        for x in range(drawn.width())
        for y in range(drawn.height())
        if drawn.pixelColor(x, y).alpha() == 255
    }
    assert inked
    own = name.startswith(("check", "chevron", "featherweight"))
    assert own or inked == {"#ff0000"}


def test_that_an_empty_state_repaints_its_picture_with_the_scheme(
    qtbot: QtBot, app: QApplication
) -> None:
    theme.apply(app, "light")
    empty = EmptyState("layers", "Nothing", "Do something.")
    qtbot.addWidget(empty)
    before = empty.grab().toImage()
    theme.apply(app, "dark")
    assert empty.grab().toImage() != before
