"""The guard in the root conftest: a test that leaves something running fails, and says what."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROBES = """
import subprocess
import sys
import threading

import pytest
from PySide6.QtCore import QThread, QTimer

kept = []
released = threading.Event()


@pytest.fixture(scope="module", autouse=True)
def release_at_the_end():
    yield
    released.set()
    for item in kept:
        item.kill() if isinstance(item, subprocess.Popen) else None
        item.quit() if isinstance(item, QThread) else None
        item.wait() if hasattr(item, "wait") else None


def test_thread():
    threading.Thread(target=released.wait, name="forgotten").start()


def test_process():
    kept.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))


def test_timer(qapp):
    kept.append(QTimer())
    kept[-1].start(60_000)


def test_qt_thread(qapp):
    kept.append(QThread())
    kept[-1].start()


def test_nothing(qapp):
    timer = QTimer()
    timer.start(60_000)
    timer.stop()
    thread = threading.Thread(target=print)
    thread.start()
    subprocess.run([sys.executable, "-c", ""], check=True)


def test_deleted_timer(qapp):
    timer = QTimer(qapp)
    timer.start(60_000)
    timer.deleteLater()
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what pytest says of the probes, under the root conftest with little patience."""
    folder = tmp_path_factory.mktemp("probes")
    conftest = (Path(__file__).parents[1] / "conftest.py").read_text(encoding="utf-8")
    (folder / "conftest.py").write_text(conftest.replace("PATIENCE = 3.0", "PATIENCE = 0.3"))
    (folder / "test_probes.py").write_text(PROBES)
    (folder / "pytest.ini").write_text("[pytest]\nqt_api = pyside6\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "test_probes.py"],
        cwd=folder,
        env=os.environ | {"QT_QPA_PLATFORM": "offscreen", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    ).stdout


@pytest.mark.parametrize(
    ("test", "named"),
    [
        ("test_thread", "the thread forgotten"),
        ("test_process", "the process"),
        ("test_timer", "the QTimer"),
        ("test_qt_thread", "the QThread"),
    ],
)
def test_that_what_a_test_leaves_running_fails_it_by_name(
    report: str, test: str, named: str
) -> None:
    complaints = [line for line in report.splitlines() if line.startswith("ERROR ")]
    (complaint,) = [line for line in complaints if f"::{test} " in line]
    assert f"The test left running: {named}" in complaint


@pytest.mark.parametrize("test", ["test_nothing", "test_deleted_timer"])
def test_that_a_test_which_ends_what_it_started_passes(report: str, test: str) -> None:
    assert f"PASSED test_probes.py::{test}" in report
    assert f"ERROR test_probes.py::{test}" not in report
