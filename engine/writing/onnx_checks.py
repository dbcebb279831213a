"""What is checked of an ONNX file before it is written: its validity, outputs, speed and shares."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

from featherweight.engine.bounded_runtime import RUNTIME_ERRORS, session_options
from featherweight.engine.errors import UserError
from featherweight.engine.figures import Figure
from featherweight.engine.inspecting.calls import functions_of
from featherweight.engine.inspecting.turns import Effort, by_turns
from featherweight.engine.network import Network
from featherweight.engine.results import LayerShare
from featherweight.engine.task import Outputs, Run, Task, labels_in

EFFORT = Effort(warm_up=5, rounds=30, most=200, seconds=2.0)
MOST_SAMPLES, LEAST_SAMPLES = 2000, 64
ELEMENTS = 2**26
GRAPH = "(graph)"
TOLERANCE = 1e-3


class Runtime:
    """A model in ONNX Runtime on the CPU, with as many threads as torch uses."""

    def __init__(self, content: bytes, names: tuple[str, ...]) -> None:
        """Load a model; `names` are those of the network's inputs, some of which it may lack."""
        self.size = len(content)
        self._names = names
        options = session_options(torch.get_num_threads())
        with _explained():
            self._session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        self._taken = [value.name for value in self._session.get_inputs()]

    def run(self, *inputs: Tensor) -> Outputs:
        """Return the outputs for the network's inputs."""
        given = dict(zip(self._names, inputs, strict=True))
        feed = {name: given[name].numpy() for name in self._taken}
        with _explained():
            found = self._session.run(None, feed)
        return tuple(torch.from_numpy(np.asarray(output)) for output in found)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except RUNTIME_ERRORS as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"ONNX Runtime cannot run the file: {reason}.",
            "Nothing was written. Export its archive instead.",
        ) from error


def samples_to_compare(task: Task) -> int:
    """Return on how many samples outputs are compared: up to 2,000, fewer where they are large."""
    elements = sum(tensor[:1].numel() for tensor in task.reference.example)
    wanted = max(LEAST_SAMPLES, min(MOST_SAMPLES, ELEMENTS // max(elements, 1)))
    return min(wanted, len(task.measure))


class Comparison:
    """How far outputs are from those that they should be, summed over batches."""

    def __init__(self) -> None:
        self.error = self.largest = 0.0
        self.same = self.count = 0

    def add(self, wanted: Outputs, given: Outputs, has_labels: bool) -> None:
        """Take the outputs of one batch."""
        for exact, output in zip(wanted, given, strict=True):
            difference = (output.double() - exact.double()).abs().max()
            self.error = max(self.error, float(difference.nan_to_num(nan=np.inf)))
            self.largest = max(self.largest, float(exact.double().abs().max()))
        if has_labels:
            equal = labels_in(wanted[0]) == labels_in(given[0])
            self.same += int(equal.sum())
            self.count += equal.numel()

    def figures(self) -> dict[str, Figure]:
        """Return `relative_error`, the largest over the largest output, and `label_agreement`.

        The agreement is in %, and only there where outputs have classes.
        """
        figures = {"relative_error": Figure(self.error / (self.largest or 1.0), "", "measured")}
        if self.count:
            agreement = 100 * self.same / self.count
            figures["label_agreement"] = Figure(agreement, "%", "measured")
        return figures


def compared(
    task: Task, expected: Run, found: Sequence[Run], check: Callable[[], None]
) -> list[dict[str, Figure]]:
    """Compare each of `found` with what is expected, on samples to measure on."""
    comparisons = [Comparison() for _ in found]
    for inputs in task.measured_inputs(samples_to_compare(task)):
        check()
        wanted = task.outputs_of(expected, inputs)
        for comparison, run in zip(comparisons, found, strict=True):
            comparison.add(wanted, task.outputs_of(run, inputs), task.has_labels)
    return [comparison.figures() for comparison in comparisons]


def race(runs: Mapping[str, Callable[[], object]], check: Callable[[], None]) -> dict[str, Figure]:
    """Time several things by turns in one run; return the median milliseconds of each."""
    return {
        name: Figure(float(np.median(taken)), "ms", "measured")
        for name, taken in by_turns(runs, EFFORT, check).items()
    }


def shares(model: onnx.ModelProto, total: int, network: Network) -> tuple[LayerShare, ...]:
    """Return the bytes of each layer's initializers in a file of `total` bytes, and of the rest.

    What modules hold beside their layers counts as their functions.
    """
    layers = sorted((name for name, _ in network.layers()), key=len, reverse=True)
    loose = {
        name: functions_of(name.rpartition(".")[0])
        for name, _ in (*network.module.named_parameters(), *network.module.named_buffers())
        if not name.startswith(tuple(f"{layer}." for layer in layers))
    }
    known = dict(_contents(network.module, loose))
    taken: dict[str, int] = {}
    for tensor in model.graph.initializer:
        layer = next((layer for layer in layers if tensor.name.startswith(f"{layer}.")), None)
        layer = layer or loose.get(tensor.name) or known.get(_digest(tensor))
        if layer is not None:
            taken[layer] = taken.get(layer, 0) + tensor.ByteSize()
    taken[GRAPH] = total - sum(taken.values())
    return tuple(LayerShare(layer=layer, bytes=size) for layer, size in taken.items())


def _contents(module: nn.Module, loose: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Give digest and layer of every matrix, as it is and turned: the exporter renames those."""
    for path, parameter in module.named_parameters():
        if parameter.ndim == 2:
            layer = loose.get(path) or path.rpartition(".")[0]
            for matrix in (parameter, parameter.T):
                yield _digest_of(_array(matrix)), layer


def _digest(tensor: TensorProto) -> str:
    return _digest_of(numpy_helper.to_array(tensor)) if len(tensor.dims) == 2 else ""


def _digest_of(values: npt.NDArray[np.generic]) -> str:
    content = np.ascontiguousarray(values).tobytes()
    return hashlib.sha256(f"{values.shape}".encode() + content).hexdigest()


def _array(tensor: Tensor) -> npt.NDArray[np.generic]:
    found: npt.NDArray[np.generic] = tensor.detach().numpy()
    return found
