"""Crafted and damaged inputs of every kind end in one sentence, soon, with nothing run or written.

The heavy ones, and many more that are damaged, are in `tests/benchmarks/bad_input.py`.
"""

import os
import re
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bad_corpus import Case, cases, damaged, factory, network, outcome

LIMIT_SECONDS = 10.0
LIMIT_KIB = 2 << 20
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
RUNS = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect", "os.remove")
CRAFTED = [case for case in cases() if not case.heavy]
DAMAGED = list(damaged(6))
# Python caches what it imports, torch looks at its devices, and what ONNX Runtime is to run is sent
# to a process of ours through a pipe, a number instead of a path.
UNRELATED = re.compile(
    r"__pycache__|/dev/|'-m', 'featherweight\.engine\.opaque_trial'|open \d+ to write"
)
watching: list[str] | None = None


def audited(event: str, details: tuple[Any, ...]) -> None:
    """Note what runs a program, deletes a file or opens one to write, while it is watched."""
    if watching is None:
        return
    if event in RUNS:
        watching.append(f"{event} {details[:2]}")
    elif event == "open" and isinstance(details[2], int) and details[2] & WRITES:
        watching.append(f"open {details[0]} to write")


sys.addaudithook(audited)


@contextmanager
def nothing_run_or_written() -> Iterator[None]:
    """Fail where what happens inside runs a program or writes a file."""
    global watching
    watching = []
    try:
        yield
        assert [note for note in watching if not UNRELATED.search(note)] == []
    finally:
        watching = None


@pytest.mark.parametrize("case", CRAFTED, ids=lambda case: case.name)
def test_that_a_crafted_input_ends_in_one_sentence_at_once(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.parametrize("case", DAMAGED, ids=lambda case: case.name)
def test_that_a_damaged_file_opens_or_ends_in_one_sentence(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


def check(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    path, builder = case.path(folder), factory(tmp_path)
    case.make(path)
    network()
    before, peak = sorted(tmp_path.rglob("*")), _peak()
    started = time.process_time()
    with nothing_run_or_written():
        error = outcome(case, path, builder)
    assert time.process_time() - started < LIMIT_SECONDS
    assert _peak() - peak < LIMIT_KIB
    assert [
        file for file in sorted(tmp_path.rglob("*")) if "__pycache__" not in str(file)
    ] == before
    if error is not None:
        assert str(path) in f"{error.message} {error.hint}"
        assert "\n" not in error.message
        assert len(error.message) < 800
        assert error.hint


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_that_the_corpus_holds_hundreds_of_inputs_of_every_kind() -> None:
    names = [case.name for case in (*CRAFTED, *DAMAGED)]
    assert len(set(names)) == len(names) > 400
    assert {case.door for case in CRAFTED} == {"network", "data", "recipe", "project"}
