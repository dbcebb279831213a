"""A first run of a model in ONNX Runtime in a process of its own, which a crafted one may crash.

`python -m featherweight.engine.opaque_trial` reads the model and its inputs from stdin and writes
in one line to stdout how it went.
"""

import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import BinaryIO

import msgspec
import numpy as np
from msgspec import Struct

from featherweight.engine.bounded_runtime import Array, BoundedRuntime, Bounds, typed

COMMAND = (sys.executable, "-m", "featherweight.engine.opaque_trial")
# Starting the process and sending the weights takes time beside the run itself.
PATIENCE_SECONDS = 60.0
LENGTH = 8
RAN, REFUSED, FAILED = "ran", "refused", "failed"
CRASHED = "it crashes there"


class RunError(RuntimeError):
    """ONNX Runtime takes a model, and does not get to the end of running it."""


class _Feed(Struct, frozen=True):
    name: str
    dtype: str
    shape: tuple[int, ...]


class _Trial(Struct, frozen=True):
    size: int
    bounds: Bounds
    feeds: tuple[_Feed, ...]


def try_out(content: bytes, bounds: Bounds, feeds: Mapping[str, Array]) -> None:
    """Run a model once, elsewhere. Raises RuntimeError where it is refused, RunError if it fails.

    An array may have another type than the model's input; integers are of 64 bits at most.
    """
    arrays = [np.ascontiguousarray(array) for array in feeds.values()]
    told = tuple(
        _Feed(name, array.dtype.str, array.shape) for name, array in zip(feeds, arrays, strict=True)
    )
    header = msgspec.msgpack.encode(_Trial(len(content), bounds, told))
    pieces: list[bytes | memoryview] = [len(header).to_bytes(LENGTH, "little"), header, content]
    pieces += [array.reshape(-1).view(np.uint8).data for array in arrays if array.size]
    with subprocess.Popen(
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    ) as process:
        try:
            answer = _answer(process, pieces, bounds.seconds + PATIENCE_SECONDS)
        finally:
            process.kill()
    outcome, _, why = answer.rpartition("\n")[2].partition(":")
    if outcome == REFUSED:
        raise RuntimeError(why)
    if outcome != RAN:
        raise RunError(why if outcome == FAILED else CRASHED)


def _answer(
    process: "subprocess.Popen[bytes]", pieces: Sequence[bytes | memoryview], seconds: float
) -> str:
    assert process.stdin is not None
    try:
        for piece in pieces:
            process.stdin.write(piece)
        answer, _ = process.communicate(timeout=seconds)
    except OSError:
        # It ended before it had read everything; what is left to send cannot be.
        with suppress(OSError):
            process.stdin.close()
        return ""
    except subprocess.TimeoutExpired:
        return f"{FAILED}:it takes more than {seconds:.0f} seconds"
    return answer.decode(errors="replace").strip()


def main() -> None:
    """Do what stdin asks for."""
    answer = _tried(sys.stdin.buffer)
    sys.stdout.write("\n" + " ".join(answer.split()))
    sys.stdout.flush()
    # What a crafted model left behind is not to be taken apart.
    os._exit(0)


def _tried(stream: BinaryIO) -> str:
    header = stream.read(int.from_bytes(stream.read(LENGTH), "little"))
    trial = msgspec.msgpack.decode(header, type=_Trial)
    content, arrays = stream.read(trial.size), dict[str, Array]()
    for feed in trial.feeds:
        dtype = np.dtype(feed.dtype)
        data = stream.read(math.prod(feed.shape) * dtype.itemsize)
        arrays[feed.name] = np.frombuffer(data, dtype).reshape(feed.shape)
    try:
        runtime = BoundedRuntime(content, trial.bounds)
        for kind in runtime.outputs:
            typed(kind)
    except (RuntimeError, TypeError) as error:
        return f"{REFUSED}:{error}"
    try:
        runtime.run({name: runtime.taken(name, one) for name, one in arrays.items()})
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        return f"{FAILED}:{error}"
    return RAN


if __name__ == "__main__":
    main()
