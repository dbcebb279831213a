"""What packed bits bring a layer of binary inputs and binary weights, which ONNX Runtime lacks.

Run it with `python tests/benchmarks/xnor.py`, best on an idle machine. Every row compresses a
linear layer by a recipe, reads its archive, packs its signs 64 to a word, and runs it by xor and
popcount in numpy; its outputs have to be those of torch and of ONNX Runtime. Times are those of one
layer, the packing of its inputs included, beside float32 weights in numpy and in ONNX Runtime, by
turns on one thread. It exits with 1 where outputs differ, or where packed bits are not twice as
fast as numpy's and ONNX Runtime's floats at 4096×4096 and a batch of 1.
"""

import os

# Before numpy is imported, which reads them then.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor, nn

from featherweight.engine.applicability import chosen_methods
from featherweight.engine.binary_layers import BinaryInputs
from featherweight.engine.bounded_runtime import session_options
from featherweight.engine.compression import codings, constrain, restructured
from featherweight.engine.events import Source
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.jobs import Job, unchecked
from featherweight.engine.methods.precision.binary import BinaryForm
from featherweight.engine.network import Network, capture
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.weight_forms import CompactLayer, settle
from featherweight.engine.writing.archive import write_archive
from featherweight.engine.writing.onnx import write_onnx
from featherweight.engine.writing.onnx_checks import race

SIZES, BATCHES = ((1024, 1024), (1024, 4096), (4096, 4096)), (1, 16)
JUDGED, LEAST_SPEED, LARGEST_ERROR = (4096, 4096, 1), 2.0, 1e-5
WORD = 64

Floats = npt.NDArray[np.float32]
Words = npt.NDArray[np.uint64]


class PackedLayer:
    """A layer of an archive whose signs are packed: `bits` is words by outputs, a 1 is a plus."""

    def __init__(self, network: Network) -> None:
        inputs, layer = network.layer("0.0"), network.layer("0.1")
        assert isinstance(inputs, BinaryInputs)
        assert isinstance(layer, CompactLayer)
        form = layer.forms["weight"]
        assert isinstance(form, BinaryForm)
        (signs,) = form.planes()
        self.centred, self.count = inputs.centred, signs.shape[1]
        if self.count % WORD or self.count >= 2**16:
            raise ValueError("inputs fill whole words, and 16 bits count them")
        self.bits = np.ascontiguousarray(words_of(signs.astype(bool)).T)
        self.scales: Floats = form.scales.numpy()[:, 0]
        self.sums = self.scales * (2.0 * signs.sum(1) - self.count).astype(np.float32)
        self.bias: Floats = layer.rest["bias"].detach().numpy()

    def run(self, x: Floats) -> Floats:
        """Return the outputs, samples by outputs, of samples by inputs."""
        mean = x.mean(1, keepdims=True) if self.centred else np.zeros((len(x), 1), np.float32)
        apart = x - mean
        size = np.abs(apart).mean(1, keepdims=True)
        differing = self._differing(words_of(apart >= 0))
        product = self.count - 2 * differing.astype(np.float32)
        made: Floats = size * self.scales * product + mean * self.sums + self.bias
        return made

    def _differing(self, x: Words) -> npt.NDArray[np.uint16]:
        """Return how many bits differ between each sample, samples by words, and each output."""
        if len(x) == 1:
            return np.asarray(np.bitwise_count(self.bits ^ x.T).sum(0, dtype=np.uint16)[None])
        # Of many samples, the counts of one word stay in the cache.
        found = np.zeros((len(x), self.bits.shape[1]), np.uint16)
        for word, column in zip(self.bits, x.T, strict=True):
            found += np.bitwise_count(word ^ column[:, None])
        return found


def main() -> int:
    """Print the table; return 1 where a row is too slow. Raises AssertionError where one errs."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    missed = 0
    print(f"{'linear':14}{'batch':>6}{'packed':>11}{'numpy':>17}{'ONNX Runtime':>19}", end="")
    print(f"{'its own file':>19}{'weights':>15}")
    for inputs, outputs in SIZES:
        for batch in BATCHES:
            x = torch.randn(batch, inputs).relu()
            layer = nn.Linear(inputs, outputs)
            taken = measured(layer, x)
            packed = taken["packed"]
            speeds = {name: time / packed for name, time in taken.items()}
            good = min(speeds["numpy"], speeds["dense"]) >= LEAST_SPEED
            good = good or (inputs, outputs, batch) != JUDGED
            missed += not good
            columns = "".join(
                f"{1000 * taken[name]:9.0f} µs{speeds[name]:6.1f}×"
                for name in ("numpy", "dense", "exported")
            )
            print(
                f"{inputs:5} → {outputs:<6}{batch:6}{1000 * packed:8.0f} µs{columns}"
                f"{layer.weight.numel() / 8 / 1024:7.0f} KiB{'' if good else '  MISSED'}",
                flush=True,
            )
    print(f"target: {LEAST_SPEED} times as fast as floats at {JUDGED}; {missed} missed")
    return 1 if missed else 0


def measured(layer: nn.Linear, x: Tensor) -> Mapping[str, float]:
    """Return the milliseconds of the layer by packed bits, dense, and as its ONNX file runs it."""
    network = capture(nn.Sequential(layer).eval(), (x,))
    with tempfile.TemporaryDirectory() as folder:
        made = reopened(network, Path(folder, "made.fwz"))
        exported = runtime_of(made, Path(folder, "made.onnx"))
        dense = runtime_of(network, Path(folder, "dense.onnx"))
    packed, samples = PackedLayer(made), x.numpy()
    found = packed.run(samples)
    for wanted in (made.outputs(x)[0].detach().numpy(), exported(samples)):
        error = np.abs(found - wanted).max() / np.abs(wanted).max()
        assert error <= LARGEST_ERROR, f"packed outputs differ by {error:.2g}"
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    runs: dict[str, Callable[[], Any]] = {
        "packed": partial(packed.run, samples),
        "numpy": lambda: samples @ weight.T + bias,
        "dense": partial(dense, samples),
        "exported": partial(exported, samples),
    }
    return {name: figure.value for name, figure in race(runs, unchecked).items()}


def reopened(network: Network, path: Path) -> Network:
    """Return the network with binary inputs and weights, as its archive gives it."""
    coupling = analyse(network)
    choice = Choice(structure=Setting("binary_inputs"), precision=Setting("binary"))
    chosen = chosen_methods(network, coupling, Recipe(layers={"0": choice}))
    made = restructured(network, coupling, chosen)
    constrain(made, chosen)
    settle(made)
    write_archive(made, codings(made, chosen), path)
    return read_network(Source(path=str(path)))


def runtime_of(network: Network, path: Path) -> Callable[[Floats], Floats]:
    """Return what runs the network's ONNX file."""
    write_onnx(network, path, None, None, Job())
    session = onnxruntime.InferenceSession(path, session_options(1))
    name = session.get_inputs()[0].name

    def run(x: Floats) -> Floats:
        (found,) = session.run(None, {name: x})
        return np.asarray(found, np.float32)

    return run


def words_of(signs: npt.NDArray[np.bool_]) -> Words:
    """Return rows of bits, 64 to a word."""
    return np.packbits(signs, axis=1).view(np.uint64)


if __name__ == "__main__":
    sys.exit(main())
