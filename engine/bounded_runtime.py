"""ONNX Runtime on files that nobody has looked through: bounded in memory and in time.

No library of custom operators is loaded, and a model is given as bytes, so it reaches no file.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from msgspec import Struct
from onnxruntime.capi import onnxruntime_pybind11_state

Array = npt.NDArray[Any]
RUNTIME_ERRORS = (
    onnxruntime_pybind11_state.Fail,
    onnxruntime_pybind11_state.InvalidArgument,
    onnxruntime_pybind11_state.InvalidGraph,
    onnxruntime_pybind11_state.InvalidProtobuf,
    onnxruntime_pybind11_state.NotImplemented,
    onnxruntime_pybind11_state.RuntimeException,
)
# What is asked for at once is given at once: rounded up, a bound would be half of what it says.
EXACTLY = 1
NEXT_TO_NOTHING = 1 << 20
NO_MEMORY = "Available memory of"
STATUS = "Status Message: "
_registering = threading.Lock()


class Bounds(Struct, frozen=True):
    """What a model may take: bytes for all that it computes, seconds a sample, and threads."""

    most_bytes: int
    seconds: float
    threads: int


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Return options for a session on the CPU that is quiet."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that spin would take the processor from the other session in a race.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    return options


class BoundedRuntime:
    """A model in ONNX Runtime as it is in its file: nothing is computed before it runs.

    What it computes, and the constants inside it, keep to `bounds`. `inputs` are the element type,
    as in `tensor(float)`, and the rank of every input by its name, `outputs` the types of outputs.
    Raises RuntimeError with ONNX Runtime's reason where it does not take the model.
    """

    def __init__(self, content: bytes, bounds: Bounds) -> None:
        self.bounds = bounds
        options = session_options(bounds.threads)
        # It would compute constants, of any size, while it loads the model.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.use_env_allocators", "1")

        def stop() -> None:
            options.set_load_cancellation_flag(True)

        with _registering, self._explained(bounds.seconds, stop):
            _register(bounds.most_bytes)
            try:
                self._session = onnxruntime.InferenceSession(
                    content, options, providers=["CPUExecutionProvider"]
                )
            finally:
                # The session keeps the memory that it has; no other is to have a part of it.
                _register(NEXT_TO_NOTHING)
        self.inputs = {
            value.name: (value.type, len(value.shape)) for value in self._session.get_inputs()
        }
        self.outputs = tuple(value.type for value in self._session.get_outputs())

    def __deepcopy__(self, _: Any) -> "BoundedRuntime":
        """Return itself: a run changes nothing."""
        return self

    def taken(self, name: str, value: Array) -> Array:
        """Return an array as the input of a name takes it: in its type, one number as no list."""
        kind, rank = self.inputs[name]
        array: Array = value.astype(typed(kind), copy=False)
        return array.reshape(()) if rank == 0 and array.size == 1 else array

    def run(self, feeds: Mapping[str, Array], samples: int = 1) -> list[Array]:
        """Return the outputs. Raises RuntimeError, also where it takes too much of anything."""
        options = onnxruntime.RunOptions()

        def stop() -> None:
            options.terminate = True

        with self._explained(self.bounds.seconds * max(samples, 1), stop):
            found = self._session.run(None, dict(feeds), options)
        return [np.asarray(output) for output in found]

    @contextmanager
    def _explained(self, seconds: float, stop: Callable[[], None]) -> Iterator[None]:
        late = threading.Event()

        def end() -> None:
            late.set()
            stop()

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            yield
        except (*RUNTIME_ERRORS, MemoryError) as error:
            if late.is_set():
                raise RuntimeError(f"it takes more than {seconds:.0f} seconds") from error
            raise RuntimeError(self._reason(str(error))) from error
        finally:
            timer.cancel()
            timer.join()

    def _reason(self, told: str) -> str:
        if NO_MEMORY in told or not told:
            return f"it needs more than {self.bounds.most_bytes >> 20} MB beside its weights"
        return " ".join(told.rpartition(STATUS)[2].split())


def typed(kind: str) -> npt.DTypeLike:
    """Return the dtype of arrays for `tensor(float)` and the like. Raises TypeError for others."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    names = {"float": "float32", "double": "float64"}
    return np.dtype(names.get(name, name))


def _register(most_bytes: int) -> None:
    """Let sessions that are made from now on share memory of this size, in bytes."""
    onnxruntime.create_and_register_allocator(
        onnxruntime.OrtMemoryInfo(
            "Cpu",
            onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
            0,
            onnxruntime.OrtMemType.DEFAULT,
        ),
        onnxruntime.OrtArenaCfg({"max_mem": most_bytes, "arena_extend_strategy": EXACTLY}),
    )
