"""The layouts that ONNX Runtime's optimizer makes for one processor open as plain layers."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from torch import Tensor, nn
from torch.nn import functional

from featherweight.engine.errors import UserError
from featherweight.engine.events import Source
from featherweight.engine.network import Network
from featherweight.engine.reading.formats import read_network

Array = npt.NDArray[Any]
BLOCKED = "com.microsoft.nchwc"
WHOLE = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
PICTURES = (2, 3, 16, 16)


class Residual(nn.Module):
    """Channels that fill no block, additions, and a first layer of three channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 20, 3, 2, 1)
        self.conv1 = nn.Conv2d(20, 20, 3, 1, 1)
        self.conv2 = nn.Conv2d(20, 20, 3, 1, 1)
        self.down = nn.Conv2d(20, 36, 1, 2)
        self.conv3 = nn.Conv2d(20, 36, 3, 2, 1)
        self.fc = nn.Linear(36, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(torch.relu(self.stem(x)), 3, 2, 1)
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))) + x)
        x = torch.relu(self.conv3(x) + self.down(x))
        return self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Mobile(nn.Module):
    """Depthwise and grouped convolutions, squeeze and excitation, many activations."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, 2, 1)
        self.expand = nn.Conv2d(12, 40, 1)
        self.depthwise = nn.Conv2d(40, 40, 3, 1, 1, groups=40)
        self.squeeze, self.excite = nn.Conv2d(40, 10, 1), nn.Conv2d(10, 40, 1)
        self.project = nn.Conv2d(40, 12, 1)
        self.wide = nn.Conv2d(12, 64, 1)
        self.grouped = nn.Conv2d(64, 64, 3, 1, 1, groups=4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.hardswish(self.stem(x))
        y = functional.silu(self.depthwise(functional.relu6(self.expand(x))))
        y = y * torch.sigmoid(self.excite(torch.relu(self.squeeze(y.mean((2, 3), True)))))
        x = functional.leaky_relu(self.wide(x + self.project(y)), 0.1)
        return functional.leaky_relu(self.grouped(x), 0.2).mean((2, 3))


class Joining(nn.Module):
    """Values put behind one another, made larger and smaller; several outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.inner = nn.Conv2d(16, 32, 3, padding=1)
        self.outer = nn.Conv2d(48, 16, 3, padding=1)
        self.narrow = nn.Conv2d(16, 8, 3, padding=1)
        self.last = nn.Conv2d(24, 7, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.first(x)
        y = torch.relu(self.inner(functional.avg_pool2d(torch.relu(self.norm(x)), 2)))
        y = functional.interpolate(y, scale_factor=2.0, mode="nearest")
        z = torch.relu(self.outer(torch.cat([x, y], 1)))
        z = self.last(torch.cat([self.narrow(z), z], 1))
        return functional.interpolate(z, scale_factor=2.0, mode="bilinear"), torch.tanh(x)


def exported(kind: type[nn.Module], path: Path) -> nn.Module:
    torch.manual_seed(0)
    network = kind().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.randn(PICTURES),),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
        )
    return network


def optimized(path: Path) -> Path:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = WHOLE
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path.with_name("optimized.onnx"))
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return path.with_name("optimized.onnx")


def sizes(module: nn.Module) -> list[tuple[int, ...]]:
    kinds = (nn.Conv2d, nn.Linear)
    found = (layer for layer in module.modules() if isinstance(layer, kinds))
    return sorted(tuple(layer.weight.shape) for layer in found)


def opened(path: Path) -> Network:
    network = read_network(Source(path=str(path)))
    assert network.graph_lock == ""
    return network


def check(network: Network, expected: Any, data: Tensor) -> None:
    with torch.no_grad():
        results = network.outputs(data)
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_allclose(result.numpy(), np.asarray(wanted), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [Residual, Mobile, Joining])
def test_that_the_whole_optimizer_leaves_a_file_that_opens_as_its_layers(
    kind: type[nn.Module], tmp_path: Path
) -> None:
    source = exported(kind, tmp_path / "plain.onnx")
    path = optimized(tmp_path / "plain.onnx")
    if not any(node.domain == BLOCKED for node in onnx.load(path).graph.node):
        pytest.skip("ONNX Runtime has no layout in blocks for this processor")
    network = opened(path)
    data = torch.randn(3, *PICTURES[1:])
    with torch.no_grad():
        outputs = source(data)
    check(network, outputs if isinstance(outputs, tuple) else (outputs,), data)
    # The normalization of `Joining` is a depthwise convolution in such a file.
    norm = [(16, 1, 1, 1)] if kind is Joining else []
    assert sizes(network.module) == sorted(sizes(source) + norm)
    assert any("put in their usual order" in note for note in network.notes)


def laid_out(weight: Array, block: int, inside: bool) -> Array:
    """Lay a weight out in blocks: of outputs, and of inputs too where the input has blocks."""
    outputs, inputs, *kernel = weight.shape
    rows = -(-outputs // block) * block
    columns = -(-inputs // block) * block if inside else inputs
    padded = np.zeros((rows, columns, *kernel), np.float32)
    padded[:outputs, :inputs] = weight
    if inside:
        cut = padded.reshape(rows // block, block, columns // block, block, *kernel)
        turned = cut.transpose(0, 2, 4, 5, 3, 1)
    else:
        turned = padded.reshape(rows // block, block, columns, *kernel).transpose(0, 2, 3, 4, 1)
    return turned.reshape(padded.shape)


def in_blocks(path: Path, block: int, channels: tuple[int, int]) -> list[Array]:
    """Save two convolutions in blocks. Returns their weights as they are without blocks."""
    middle, last = channels
    random = np.random.default_rng(0)
    weights = [
        random.normal(size=shape).astype(np.float32)
        for shape in ((middle, 3, 3, 3), (last, middle, 3, 3))
    ]
    tensors = [
        numpy_helper.from_array(laid_out(weight, block, inside), name)
        for weight, name, inside in zip(weights, "ab", (False, True), strict=True)
    ]
    around: dict[str, Any] = {"kernel_shape": [3, 3], "domain": BLOCKED}
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["p"], activation="Relu", **around),
        helper.make_node("Conv", ["p", "b"], ["q"], **around),
        helper.make_node("ReorderOutput", ["q"], ["y"], domain=BLOCKED, channels=last),
    ]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])
    result = helper.make_empty_tensor_value_info("y")
    graph = helper.make_graph(nodes, "net", [value], [result], tensors)
    domains = [helper.make_opsetid("", 17), helper.make_opsetid(BLOCKED, 1)]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=8), path)
    return weights


@pytest.mark.parametrize(
    ("block", "channels"), [(8, (12, 5)), (8, (24, 16)), (8, (7, 32)), (16, (20, 5))], ids=str
)
def test_that_blocks_of_other_processors_are_known_by_the_sizes_of_weights(
    block: int, channels: tuple[int, int], tmp_path: Path
) -> None:
    first, second = map(torch.from_numpy, in_blocks(tmp_path / "net.onnx", block, channels))
    network = opened(tmp_path / "net.onnx")
    data = torch.randn(2, 3, 8, 8)
    expected = functional.conv2d(torch.relu(functional.conv2d(data, first)), second)
    check(network, (expected,), data)
    layers = [layer for _, layer in network.layers()]
    assert [layer.get_parameter("weight").shape for layer in layers] == [first.shape, second.shape]
    assert any(f"blocks of {block} channels" in note for note in network.notes)


def test_that_weights_in_blocks_that_do_not_fit_are_told(tmp_path: Path) -> None:
    in_blocks(tmp_path / "net.onnx", 8, (8, 8))
    model = onnx.load(tmp_path / "net.onnx")
    for tensor in model.graph.initializer:
        tensor.dims[0], tensor.dims[3] = 3, tensor.dims[0]
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(UserError, match=r"net\.onnx cannot be read: the blocks of channels"):
        read_network(Source(path=str(tmp_path / "net.onnx")))


class Samples(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Two batches to find the ranges of activations on."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        batches = [random.normal(size=PICTURES).astype(np.float32) for _ in range(2)]
        self.batches: Iterator[Array] = iter(batches)

    def get_next(self) -> dict[str, Array] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"x": batch}


@pytest.fixture
def quantized(tmp_path: Path) -> Callable[[QuantFormat], Path]:
    """Give a function that quantizes a residual network in one form and optimizes the file."""

    def make(form: QuantFormat) -> Path:
        exported(Residual, tmp_path / "plain.onnx")
        path = tmp_path / "quantized.onnx"
        quantize_static(tmp_path / "plain.onnx", path, Samples(), quant_format=form)
        return optimized(path)

    return make


@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator], ids=lambda f: f.name)
def test_that_quantized_operators_with_channels_last_open_as_layers(
    form: QuantFormat, quantized: Callable[[QuantFormat], Path]
) -> None:
    path = quantized(form)
    attributes = {a.name for node in onnx.load(path).graph.node for a in node.attribute}
    assert "channels_last" in attributes
    data = torch.randn(3, *PICTURES[1:])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    network = opened(path)
    check(network, session.run(None, {"x": data.numpy()}), data)
    assert sizes(network.module) == sizes(Residual())
