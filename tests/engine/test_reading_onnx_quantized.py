"""ONNX files that ONNX Runtime quantized open as float layers, to what ONNX Runtime gives."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from torch import Tensor, nn
from torch.nn import functional

from featherweight.engine.events import Source
from featherweight.engine.network import Network
from featherweight.engine.reading.formats import read_network

Array = npt.NDArray[Any]


class Pictures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 2, 1)
        self.conv2 = nn.Conv2d(8, 8, 3, 1, 1)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv1(x))
        x = functional.relu(self.conv2(x)) + x
        return self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Sequences(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 12, batch_first=True)
        self.fc = nn.Linear(12, 64)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(x)[0])


class Samples(CalibrationDataReader):
    def __init__(self, shape: tuple[int, ...]) -> None:
        generator = torch.Generator().manual_seed(1)
        self.samples = iter([torch.randn(shape, generator=generator).numpy() for _ in range(8)])

    def get_next(self) -> dict[str, Array] | None:
        sample = next(self.samples, None)
        return None if sample is None else {"x": sample}


PICTURE, SEQUENCE = (2, 3, 16, 16), (2, 5, 16)


@pytest.fixture
def plain(tmp_path: Path) -> Callable[[type[nn.Module], tuple[int, ...]], Path]:
    """Give a function that exports a network in floats."""

    def write(kind: type[nn.Module], shape: tuple[int, ...]) -> Path:
        torch.manual_seed(0)
        path = tmp_path / "plain.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                kind().eval(),
                (torch.randn(shape),),
                path,
                dynamo=False,
                opset_version=17,
                input_names=["x"],
                dynamic_axes={"x": {0: "batch"}},
            )
        return path

    return write


def as_runtime_gives(path: Path, shape: tuple[int, ...], tolerance: float) -> Network:
    """Open a file and compare it with ONNX Runtime; most numbers have to be the same."""
    network = read_network(Source(path=str(path), input_shapes=(shape,)))
    assert network.graph_lock == ""
    sample = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": sample.numpy()})[0]
    with torch.no_grad():
        (given,) = network.outputs(sample)
    error = np.abs(given.numpy() - expected)
    assert error.max() <= 3 * tolerance * np.abs(expected).max()
    assert np.median(error) <= tolerance * np.abs(expected).max()
    return network


def kinds(network: Network) -> list[str]:
    return [type(layer).__name__ for _, layer in network.layers()]


@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator])
@pytest.mark.parametrize("activations", [QuantType.QUInt8, QuantType.QInt8])
@pytest.mark.parametrize("each", [False, True], ids=["whole", "channels"])
def test_that_a_statically_quantized_network_opens_as_its_layers(
    plain: Callable[..., Path],
    tmp_path: Path,
    form: QuantFormat,
    activations: QuantType,
    each: bool,
) -> None:
    path = tmp_path / "quantized.onnx"
    quantize_static(
        plain(Pictures, PICTURE),
        path,
        Samples(PICTURE),
        quant_format=form,
        activation_type=activations,
        weight_type=QuantType.QInt8,
        per_channel=each,
    )
    network = as_runtime_gives(path, PICTURE, 0.01)
    assert kinds(network) == ["Conv2d", "Conv2d", "Linear"]
    assert any("opened as float32: " in note for note in network.notes)
    assert any("rounded to 8 bits" in note for note in network.notes)


def test_that_a_quantized_network_can_still_be_trained(
    plain: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "quantized.onnx"
    quantize_static(plain(Pictures, PICTURE), path, Samples(PICTURE))
    network = read_network(Source(path=str(path), input_shapes=(PICTURE,)))
    network.outputs(torch.randn(PICTURE))[0].square().sum().backward()
    gradients = [value.grad for value in network.module.parameters() if value.ndim > 1]
    assert len(gradients) == 3
    assert all(value is not None and bool(value.abs().sum() > 0) for value in gradients)


@pytest.mark.parametrize(
    ("kind", "shape", "layers"),
    [
        (Pictures, PICTURE, ["Conv2d", "Conv2d", "Linear"]),
        (Sequences, SEQUENCE, ["LSTM", "Linear"]),
    ],
    ids=["pictures", "sequences"],
)
def test_that_a_dynamically_quantized_network_opens_as_its_layers(
    plain: Callable[..., Path],
    tmp_path: Path,
    kind: type[nn.Module],
    shape: tuple[int, ...],
    layers: list[str],
) -> None:
    path = tmp_path / "quantized.onnx"
    quantize_dynamic(plain(kind, shape), path, weight_type=QuantType.QInt8)
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert operators & {"ConvInteger", "MatMulInteger", "DynamicQuantizeLSTM"}
    network = as_runtime_gives(path, shape, 0.01)
    assert kinds(network) == layers


@pytest.mark.parametrize("symmetric", [False, True])
def test_that_four_bit_weights_of_the_runtime_open_as_linear_layers(
    plain: Callable[..., Path], tmp_path: Path, symmetric: bool
) -> None:
    path = tmp_path / "packed.onnx"
    made = MatMulNBitsQuantizer(
        onnx.load(plain(Sequences, SEQUENCE)), block_size=16, is_symmetric=symmetric
    )
    made.process()
    made.model.save_model_to_file(str(path))
    assert "MatMulNBits" in {node.op_type for node in onnx.load(path).graph.node}
    network = as_runtime_gives(path, SEQUENCE, 1e-4)
    assert kinds(network) == ["LSTM", "Linear"]
    assert "Quantized weights of the file, opened as float32: 1." in network.notes
