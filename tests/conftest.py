"""What holds for every test: nothing that a test started may still run when it ends."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest

PATIENCE = 3.0
# Windows of tests need no display, and must not depend on one.
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


@pytest.fixture(scope="session", autouse=True)
def started_in_qt() -> Iterator[WeakSet[Any]]:
    """Note every QTimer and QThread that Python starts, where this run has loaded Qt at all."""
    started: WeakSet[Any] = WeakSet()
    if "PySide6.QtCore" not in sys.modules:
        yield started
        return
    from PySide6.QtCore import QThread, QTimer

    def noting(start: Callable[..., None]) -> Callable[..., None]:
        def start_and_note(self: Any, *arguments: Any) -> None:
            started.add(self)
            start(self, *arguments)

        return start_and_note

    with pytest.MonkeyPatch.context() as patch:
        for kind in (QTimer, QThread):
            patch.setattr(kind, "start", noting(kind.start))
        yield started


@pytest.fixture(autouse=True)
def nothing_left_behind(started_in_qt: WeakSet[Any]) -> Iterator[None]:
    """Fail a test that leaves a thread, a process, a timer or a Qt thread running."""

    def running() -> dict[object, str]:
        return {**threads(), **child_processes(), **timers_and_qt_threads(started_in_qt)}

    before = running()
    yield
    deadline = time.monotonic() + PATIENCE
    while left := {key: name for key, name in running().items() if key not in before}:
        if time.monotonic() > deadline:
            pytest.fail(f"The test left running: {', '.join(left.values())}", pytrace=False)
        threading.Event().wait(0.02)


def threads() -> dict[object, str]:
    """Return the threads that would keep Python from ending."""
    return {
        thread: f"the thread {thread.name}"
        for thread in threading.enumerate()
        if not thread.daemon and thread is not threading.main_thread()
    }


def child_processes() -> dict[object, str]:
    """Return the running children of this process, on Linux."""
    children: dict[object, str] = {}
    for listing in Path("/proc/self/task").glob("*/children"):
        for pid in read_or_nothing(listing).split():
            folder = Path("/proc") / pid
            state = read_or_nothing(folder / "stat").rpartition(")")[2].split()
            if state and state[0] != "Z":
                command = read_or_nothing(folder / "cmdline").replace("\0", " ").strip()
                children[int(pid)] = f"the process {pid} ({command})"
    return children


def read_or_nothing(path: Path) -> str:
    """Return the text of a file of /proc, empty where its process has ended by now."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def timers_and_qt_threads(started: WeakSet[Any]) -> dict[object, str]:
    """Return the noted timers and Qt threads that still run, after pending deletions."""
    if not started:
        return {}
    import shiboken6
    from PySide6.QtCore import QCoreApplication, QEvent, QThread

    if QCoreApplication.instance() is not None:
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    running: dict[object, str] = {}
    for item in started:
        if not shiboken6.isValid(item):
            continue
        if item.isRunning() if isinstance(item, QThread) else item.isActive():
            owner = item.parent()
            place = f" of {type(owner).__name__} {owner.objectName()}" if owner else ""
            running[id(item)] = f"the {type(item).__name__}{place}".rstrip()
    return running
