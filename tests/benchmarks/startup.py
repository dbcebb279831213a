"""Time from the start of the window's process to its first paint, beside `import torch`.

Run it with `python tests/benchmarks/startup.py`; it exits with 1 where the window takes more than
half of the time to import torch in the same run, or where the window's process loads torch.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

ROUNDS = 7
SHARE = 0.5
IMPORT = "import time, torch; print(time.monotonic())"
# Runs the application itself; the clock is read when everything was painted once, and the modules
# when the workbench is made and the engine is warm.
WINDOW = """
import sys, time
from PySide6.QtCore import QTimer
from featherweight.gui import app
from featherweight.gui.main_window import MainWindow

paint, painted = MainWindow.paintEvent, []

def paint_and_tell(window, event):
    if not painted:
        painted.append(window)
        QTimer.singleShot(0, lambda: print(time.monotonic(), flush=True))
        watch = QTimer(window, interval=50)
        watch.timeout.connect(lambda: end(window))
        watch.start()
    paint(window, event)

def end(window):
    if window._client.state == "ready" and window.workbench:
        print(*sorted(name for name in {"torch", "onnx", "onnxruntime"} if name in sys.modules))
        window.close()

MainWindow.paintEvent = paint_and_tell
sys.exit(app.main([]))
"""


@dataclass
class Measured:
    """What the rounds gave: seconds, and what the window's process had loaded in the end."""

    window: list[float] = field(default_factory=list)
    torch: list[float] = field(default_factory=list)
    loaded: set[str] = field(default_factory=set)


def timed(code: str, folder: str) -> tuple[float, list[str]]:
    """Run code in a new process; return seconds until its first line of a clock, and the rest."""
    settings = {"QT_QPA_PLATFORM": "offscreen", "FEATHERWEIGHT_FOLDER": folder}
    environment = {**settings, **os.environ}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    clock, *words = done.stdout.split()
    return float(clock) - started, words


def measured() -> Measured:
    """Take turns, so that whatever else the machine does meets both; the first turn warms up."""
    found = Measured()
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(ROUNDS + 1):
            window, loaded = timed(WINDOW, folder)
            torch, _ = timed(IMPORT, folder)
            found.loaded.update(loaded)
            if turn:
                found.window.append(window)
                found.torch.append(torch)
    return found


def main() -> int:
    """Print the table; return the exit status."""
    found = measured()
    print(f"{'':22}{'median':>9}{'fastest':>9}{'slowest':>9}   of {ROUNDS} starts, by turns")
    for title, seconds in (("window, first paint", found.window), ("import torch", found.torch)):
        columns = (statistics.median(seconds), min(seconds), max(seconds))
        print(f"{title:22}" + "".join(f"{value:7.2f} s" for value in columns))
    share = statistics.median(found.window) / statistics.median(found.torch)
    met = share <= SHARE
    print(f"share {share:.2f}, at most {SHARE:.2f}: {'met' if met else 'MISSED'}")
    absent = not found.loaded
    print(f"loaded by the window: {' '.join(sorted(found.loaded)) or 'neither torch nor onnx'}")
    return 0 if met and absent else 1


if __name__ == "__main__":
    sys.exit(main())
