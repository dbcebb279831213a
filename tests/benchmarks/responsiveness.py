"""How regularly the window's event loop turns while the engine trains the demo on all cores.

Run it with `python tests/benchmarks/responsiveness.py`; it exits with 1 where the interval of a
10 ms timer in the real window reaches 40 ms at the 99th percentile while the charts are live.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import (
    QDeadlineTimer,
    QEventLoop,
    QMessageLogContext,
    Qt,
    QTimer,
    QtMsgType,
    qInstallMessageHandler,
)
from PySide6.QtWidgets import QApplication

from featherweight.engine.recipe import Setting
from featherweight.engine.trainings import FineTuning
from featherweight.gui import theme
from featherweight.gui.document import Document
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.main_window import MainWindow
from featherweight.gui.settings import Settings

INTERVAL_MS = 10
TARGET_MS = 40.0
SECONDS = 20.0
PATIENCE_MS = 120_000


class Ticks:
    """The intervals of a precise timer, in milliseconds."""

    def __init__(self) -> None:
        self.intervals: list[float] = []
        self._last = 0.0
        self._timer = QTimer(interval=INTERVAL_MS, timerType=Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)

    def take(self, seconds: float, going_on: Callable[[], bool] = lambda: True) -> list[float]:
        """Return the intervals of so many seconds, or until what is watched ends."""
        self.intervals, self._last = [], time.perf_counter()
        self._timer.start()
        end = time.perf_counter() + seconds
        wait(lambda: time.perf_counter() > end or not going_on())
        self._timer.stop()
        return sorted(self.intervals)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.intervals.append((now - self._last) * 1000)
        self._last = now


def tell(kind: QtMsgType, context: QMessageLogContext, text: str) -> None:
    """Write what Qt says, except that the offscreen platform has no window manager."""
    del kind, context
    if "This plugin does not support" not in text:
        print(text, file=sys.stderr)


def wait(condition: Callable[[], object]) -> None:
    """Let the window live until something is so. Raises TimeoutError."""
    deadline = QDeadlineTimer(PATIENCE_MS)
    while not condition():
        if deadline.hasExpired():
            raise TimeoutError("the engine took too long")
        QApplication.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents)


def start_training(document: Document) -> None:
    """Open the demo and train it, with a point of the loss chart for every step."""
    document.open_demo()
    wait(lambda: document.task is not None)
    setting = Setting("channel_pruning", {"ratio": 0.25})
    document.set_choice(("block1.conv1",), "structure", setting)
    document.set_choice(("block2.conv1",), "precision", Setting("integer", {"bits": 4}))
    document.set_recovery(FineTuning(epochs=16))
    document.compress("Long")
    wait(lambda: document.job and len(document.job.points.get("loss", ())) > 1)


def row(title: str, intervals: list[float]) -> str:
    """Return the line of the table for sorted intervals."""
    at = {share: intervals[int(share * (len(intervals) - 1))] for share in (0.5, 0.95, 0.99, 1.0)}
    return f"{title:22}" + "".join(f"{value:9.1f}" for value in at.values()) + f"{len(intervals):9}"


def main() -> int:
    """Print the table; return the exit status."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    os.environ.pop("OMP_NUM_THREADS", None)
    qInstallMessageHandler(tell)
    app = QApplication(sys.argv[:1])
    theme.apply(app, "light")
    with tempfile.TemporaryDirectory() as folder:
        client = EngineClient()
        client.start()
        document = Document(client, Path(folder))
        window = MainWindow(document, client, Settings(Path(folder)))
        window.show()
        ticks = Ticks()
        wait(lambda: client.state == "ready")
        idle = ticks.take(SECONDS / 4)
        start_training(document)
        points = sum(map(len, document.job.points.values())) if document.job else 0
        busy = ticks.take(SECONDS, lambda: not document.idle)
        drawn = sum(map(len, document.job.points.values())) - points if document.job else 0
        window.close()
    print(f"{'interval in ms of':22}{'median':>9}{'p95':>9}{'p99':>9}{'largest':>9}{'ticks':>9}")
    print(row("an idle engine", idle))
    print(row("an engine that trains", busy))
    met = busy[int(0.99 * (len(busy) - 1))] < TARGET_MS
    print(f"{drawn} points charted meanwhile; p99 under {TARGET_MS:.0f} ms: ", end="")
    print("met" if met else "MISSED")
    return 0 if met and drawn else 1


if __name__ == "__main__":
    sys.exit(main())
