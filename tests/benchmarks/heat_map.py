"""How long a frame of the atlas takes with 500 layers and 60 settings, on one core.

Run it with `QT_QPA_PLATFORM=offscreen python tests/benchmarks/heat_map.py`; it exits with 1 where
the 95th percentile of any kind of frame reaches 33 ms of the processor. The map of one method with
60 strengths is scrolled, selected in, and given new readings, and so is the map of the best
methods. The time of the processor is taken, for that of the wall is also that of other programs.
"""

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtWidgets import QApplication

from featherweight.engine.events import Opened, Ready
from featherweight.engine.layer import Layer, NetworkSummary
from featherweight.engine.options import MethodDescription, Option
from featherweight.engine.readings import Reading, Spread
from featherweight.engine.recipe import Choice, Setting
from featherweight.engine.results import Cost
from featherweight.gui import theme
from featherweight.gui.document import Document
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.views.atlas import AtlasView

LAYERS, SETTINGS, FRAMES = 500, 60, 150
WIDTH, HEIGHT = 1400, 900
TARGET_MS = 33.0
SIDES = (64, 64, 3, 3)
WHOLE = 64 * 64 * 9 * 32


def network() -> NetworkSummary:
    """Return a network of so many equal layers."""
    layers = tuple(
        Layer(
            name=f"blocks.{place // 4}.part{place % 4}.conv", kind="Conv2d", summary="64 to 64",
            weights={"weight": SIDES}, parameters=WHOLE // 32, bits=WHOLE, macs=1, activations=1,
            input_shape=(1, 64, 8, 8), output_shape=(1, 64, 8, 8),
        )
        for place in range(LAYERS)
    )  # fmt: skip
    return NetworkSummary(
        path="wide.pt", format="test", layers=layers, parameters=1, macs=1, input_shapes=(),
        output_shapes=(), file_bytes=WHOLE,
    )  # fmt: skip


def magnitude() -> MethodDescription:
    """Return a method with a strength from 0 to 1."""
    share = Option(
        name="sparsity", title="Sparsity", help="", kind="number", default=0.5, minimum=0, maximum=1
    )
    return MethodDescription(
        name="magnitude", slot="sparsity", title="Magnitude", advice="", gain="file",
        strength="sparsity", options=(share,), label="Sparse {}",
    )  # fmt: skip


def readings(names: tuple[str, ...]) -> Iterator[Reading]:
    """Yield a reading of every layer with every setting, every third one estimated."""
    chance = random.Random(0)
    for place in range(SETTINGS):
        strength = round((place + 1) / (SETTINGS + 1), 3)
        choice = Choice(sparsity=Setting("magnitude", {"sparsity": strength}))
        for name in names:
            damage = 10 ** (5 * strength - 5 + chance.random())
            estimated = chance.random() < 1 / 3
            yield Reading(
                layers=(name,), choice=choice, damage=Spread(damage, damage / 9),
                basis="estimated" if estimated else "measured", samples=0 if estimated else 2000,
                cost=Cost(parameters=0, macs=0, bits=-round(WHOLE * strength)),
            )  # fmt: skip


def frames(view: AtlasView, act: Callable[[int], None]) -> list[float]:
    """Return how many milliseconds each act took the processor until it was painted, sorted."""
    taken = []
    for place in range(FRAMES):
        start = time.process_time()
        act(place)
        view.map.viewport().repaint()
        QApplication.processEvents()
        taken.append((time.process_time() - start) * 1000)
    return sorted(taken)


def kinds(view: AtlasView, document: Document) -> dict[str, Callable[[int], None]]:
    """Return what is done in a frame, by what it is called."""
    names, bar = tuple(document.layers), view.map.verticalScrollBar()
    news = list(readings(names[:2]))

    def take_news(place: int) -> None:
        document.atlas.add(news[place % 40 : place % 40 + 5])
        document.atlas.changed.emit()

    return {
        "scroll by pixels": lambda place: bar.setValue(place * 13),
        "scroll by pages": lambda place: bar.setValue(place * 800 % bar.maximum()),
        "select a row": lambda place: view.map.selectRow(place),
        "take readings": take_news,
    }


def main() -> int:
    """Print a table and return 1 where a frame takes too long."""
    app = QApplication.instance() or QApplication(sys.argv)
    assert isinstance(app, QApplication)
    theme.apply(app, "light")
    folder = Path(tempfile.mkdtemp())
    document = Document(EngineClient(), folder)
    document.receive(Ready(methods=(magnitude(),)))
    document.receive(Opened(network=network()))
    view = AtlasView(document)
    view.resize(WIDTH, HEIGHT)
    view.show()
    document.atlas.add(readings(tuple(document.layers)))
    document.atlas.changed.emit()
    slow = False
    print(f"{'frame in ms of one core':32}{'median':>9}{'p95':>9}{'largest':>9}")
    for shown in range(view.shown.count()):
        view.shown.setCurrentIndex(shown)
        view.shown.activated.emit(shown)
        for title, act in kinds(view, document).items():
            taken = frames(view, act)
            p95 = taken[round(0.95 * (FRAMES - 1))]
            slow = slow or p95 >= TARGET_MS
            line = f"{taken[FRAMES // 2]:9.1f}{p95:9.1f}{taken[-1]:9.1f}"
            print(f"{view.shown.currentText()[:12] + ': ' + title:32}{line}")
    document.close()
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
