"""What a process loads: no torch behind the window, no Qt behind the engine."""

import os
import subprocess
import sys

import pytest

HEAVY = ("constriction", "onnx", "onnxruntime", "onnxscript", "safetensors", "torch")


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules that a fresh Python has loaded after the statement."""
    script = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    process = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return set(process.stdout.split())


def test_that_the_window_starts_without_torch_in_its_process() -> None:
    assert loaded_by("import featherweight.gui.app") & set(HEAVY) == set()


@pytest.mark.parametrize("module", ["session", "worker", "command_line"])
def test_that_the_engine_starts_where_no_qt_is_installed(module: str) -> None:
    loaded = loaded_by(f"import featherweight.engine.{module}")
    assert loaded & {"PySide6", "shiboken6", "pyqtgraph"} == set()


def test_that_plain_data_loads_without_any_of_the_numeric_libraries() -> None:
    loaded = loaded_by("import featherweight.engine.events")
    assert loaded & {*HEAVY, "numpy", "PySide6"} == set()
