"""The window looks as in the pictures beside this file, which the README shows.

With FEATHERWEIGHT_UPDATE_SCREENSHOTS=1 they are taken anew; look at them before you commit them.
"""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from PySide6.QtGui import QFont, QFontInfo, QImage

FOLDER = Path(__file__).parent
UPDATE = os.environ.get("FEATHERWEIGHT_UPDATE_SCREENSHOTS") == "1"
FONT = "DejaVu Sans"
WIDTH, HEIGHT = 1280, 800
LARGEST_FILE = 150_000
COLOURS = 256
# A pixel differs where a channel is off by more than what fewer colours cost.
OFF = 32
# Times and accuracies are measured anew, so digits, bars and curves move; nothing else may.
DIFFERING = {"start": 0.001, "table": 0.01, "run": 0.03, "results": 0.02, "export": 0.02}
SCENES = [f"{scene}-{scheme}" for scene in DIFFERING for scheme in ("light", "dark")]

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
    name: str, pictures: dict[str, QImage], tmp_path: Path
) -> None:
    taken, path = as_picture(pictures[name]), FOLDER / f"{name}.png"
    if UPDATE:
        keep(taken, path)
    family = QFontInfo(QFont("Sans Serif")).family()
    if family != FONT:
        pytest.skip(f"the pictures were taken with {FONT}, and here the font is {family}")
    with Image.open(path) as committed:
        expected, found = pixels(committed), pixels(taken)
    assert found.shape == expected.shape == (HEIGHT, WIDTH, 3)
    off = np.abs(found - expected).max(axis=2) > OFF
    if off.mean() > DIFFERING[name.partition("-")[0]]:
        new, difference = tmp_path / f"{name}.png", tmp_path / f"{name}-difference.png"
        taken.save(new)
        Image.fromarray(off).save(difference)
        share = f"{off.mean():.2%} of {name} differs"
        pytest.fail(f"{share}; see {new} and {difference}, and what {__file__} says of updating")


@pytest.mark.parametrize("name", SCENES)
def test_that_every_picture_is_small_and_shows_a_whole_window(
    name: str, pictures: dict[str, QImage]
) -> None:
    assert (FOLDER / f"{name}.png").stat().st_size < LARGEST_FILE
    found = pixels(as_picture(pictures[name]))
    assert found.shape == (HEIGHT, WIDTH, 3)
    dark = found.mean() < 128
    assert dark == name.endswith("dark")
    assert np.ptp(found) > 128
