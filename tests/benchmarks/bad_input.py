"""Bring every bad input to its door, each in a process of its own with 2 GB: how does it end?

Run: python tests/benchmarks/bad_input.py [inputs of each kind of damage, 30]
"""

import os
import resource
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "bad_files"))

import torch
from bad_corpus import Case, cases, damaged, factory, good, network, outcome

LIMIT_BYTES = 2 << 30
LIMIT_SECONDS = 10.0
OPENED, REFUSED, UNCLEAR, CRASHED = range(4)


@dataclass(frozen=True)
class Ending:
    """How an input ended: a word, the message, seconds, bytes at the peak, files left behind."""

    word: str
    message: str
    seconds: float
    peak: int
    written: tuple[str, ...]

    @property
    def bad(self) -> bool:
        """Whether it broke the promise."""
        late, large = self.seconds > LIMIT_SECONDS, self.peak > LIMIT_BYTES
        return self.word not in ("refused", "opened") or late or large or bool(self.written)


def main(each: int) -> int:
    """Run all cases; print those that break the promise and a summary."""
    torch.set_num_threads(1)
    network()
    for suffix in (".pt", ".legacy.pt", ".pt2", ".onnx", ".safetensors", ".fwz"):
        good(suffix)
    endings: dict[str, Ending] = {}
    for case in (*cases(), *damaged(each)):
        endings[case.name] = ended(case)
        if endings[case.name].bad:
            print(f"{case.name}: {endings[case.name]}", flush=True)
    words = [ending.word for ending in endings.values()]
    print({word: words.count(word) for word in sorted(set(words))}, f"of {len(words)} inputs")
    slowest = max(endings, key=lambda name: endings[name].seconds)
    largest = max(endings, key=lambda name: endings[name].peak)
    print(f"slowest {endings[slowest].seconds:.2f} s ({slowest})")
    print(f"largest {endings[largest].peak / 2**20:.0f} MiB at the peak ({largest})")
    return sum(ending.bad for ending in endings.values())


def ended(case: Case) -> Ending:
    """Run one case in a child that may take 2 GB more than a fresh engine."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "inside"
        folder.mkdir()
        path, builder = case.path(folder), factory(Path(made))
        case.make(path)
        before = {str(file) for file in Path(made).rglob("*")}
        reading, writing = os.pipe()
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            os.close(reading)
            os.chdir(folder)
            _child(case, path, builder, writing)
        os.close(writing)
        word, message, peak = _watched(child, reading)
        taken = time.monotonic() - started
        after = {str(file) for file in Path(made).rglob("*") if "__pycache__" not in str(file)}
        return Ending(word, message, taken, peak, tuple(sorted(after - before)))


def _child(case: Case, path: Path, builder: Path, writing: int) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT_BYTES, used + LIMIT_BYTES))
    signal.alarm(int(3 * LIMIT_SECONDS))
    code, text = CRASHED, ""
    try:
        error = outcome(case, path, builder)
        code = REFUSED if error else OPENED
        text = f"{error.message} | {error.hint}" if error else ""
        named = str(path) in text or not error
        if not named or (error and ("\n" in text or len(text) > 900)):
            code = UNCLEAR
    except BaseException as error:
        text = f"{type(error).__name__}: {error}"
    os.write(writing, text.encode("utf-8", "replace")[:4000])
    os._exit(code)


def _watched(child: int, reading: int) -> tuple[str, str, int]:
    with os.fdopen(reading, "rb") as pipe:
        message = pipe.read().decode("utf-8", "replace")
    _, status, usage = os.wait4(child, 0)
    words = ("opened", "refused", "unclear", "crashed")
    word = words[os.WEXITSTATUS(status)] if os.WIFEXITED(status) else f"signal {status}"
    return word, message, usage.ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(1 if main(int(sys.argv[1]) if len(sys.argv) > 1 else 30) else 0)
