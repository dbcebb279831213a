"""The window looks as in the pictures beside this file, which the README shows.

With FEATHERWEIGHT_UPDATE_SCREENSHOTS=1 they are taken anew; look at them before you commit them.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from PySide6.QtGui import QFont, QFontInfo, QGuiApplication, QImage

FOLDER = Path(__file__).parent
UPDATE = os.environ.get("FEATHERWEIGHT_UPDATE_SCREENSHOTS") == "1"
TAKEN_WITH = ("DejaVu Sans", "offscreen")
WIDTH, HEIGHT = 1280, 800
LARGEST_FILE = 150_000
COLOURS = 256
# A pixel differs where a channel is off by more than what fewer colours cost.
OFF = 32
# How much may differ: next to nothing, and where times and accuracies are shown, their digits,
# bars and curves.
STILL, MOVING = 0.0008, 0.15
SCENES = [
    f"{scene}-{scheme}"
    for scene in (
        *("start", "table", "graph", "atlas", "budget", "recovery", "run", "results", "export"),
        *("flips", "compare"),
    )
    for scheme in ("light", "dark")
]

Pixels = npt.NDArray[np.int16]


def pixels(picture: Image.Image) -> Pixels:
    """Return a picture as red, green, blue (rows, columns, 3)."""
    return np.asarray(picture.convert("RGB"), np.int16)


def as_picture(taken: QImage) -> Image.Image:
    """Return what was taken of the window as a picture that Pillow can write."""
    image = taken.convertToFormat(QImage.Format.Format_RGBA8888)
    size = (image.width(), image.height())
    return Image.frombytes("RGBA", size, bytes(image.constBits())).convert("RGB")


def keep(picture: Image.Image, path: Path) -> None:
    """Write a picture in few colours, which makes its file four times smaller."""
    few = picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


@pytest.mark.parametrize("name", SCENES)
def test_that_the_window_looks_as_in_the_committed_picture(
    name: str, photos: Any, tmp_path: Path
) -> None:
    taken, path = as_picture(photos[name].image), FOLDER / f"{name}.png"
    if UPDATE:
        keep(taken, path)
    here = (QFontInfo(QFont("Sans Serif")).family(), QGuiApplication.platformName())
    if here != TAKEN_WITH:
        pytest.skip(f"the pictures were taken with {TAKEN_WITH}, and this is {here}")
    with Image.open(path) as committed:
        expected, found = pixels(committed), pixels(taken)
    assert found.shape == expected.shape == (HEIGHT, WIDTH, 3)
    off = np.abs(found - expected).max(axis=2) > OFF
    moving = np.zeros_like(off)
    for place in photos[name].moving:
        moving[place.top() : place.bottom() + 1, place.left() : place.right() + 1] = True
    parts = {"still": off[~moving].mean(), "moving": off[moving].mean() if moving.any() else 0.0}
    if parts["still"] > STILL or parts["moving"] > MOVING:
        new, difference = tmp_path / f"{name}.png", tmp_path / f"{name}-difference.png"
        taken.save(new)
        Image.fromarray(off).save(difference)
        shares = f"{parts['still']:.2%} of what stands still, {parts['moving']:.2%} of what moves"
        pytest.fail(f"{name} differs in {shares}: see {new}, {difference} and {__file__}")


@pytest.mark.parametrize("name", SCENES)
def test_that_every_picture_is_small_and_shows_a_whole_window(name: str, photos: Any) -> None:
    assert (FOLDER / f"{name}.png").stat().st_size < LARGEST_FILE
    found = pixels(as_picture(photos[name].image))
    assert found.shape == (HEIGHT, WIDTH, 3)
    dark = found.mean() < 128
    assert dark == name.endswith("dark")
    assert np.ptp(found) > 128
