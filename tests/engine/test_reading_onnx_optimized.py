"""Files of other exporters, and of ONNX Runtime's own optimizer, open as layers to the same."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.transformers import optimizer
from torch import Tensor, nn
from torch.nn import functional

from featherweight.engine.errors import UserError
from featherweight.engine.events import Source
from featherweight.engine.network import Network
from featherweight.engine.reading.formats import read_network

PICTURE, WORDS = (2, 3, 16, 16), (2, 6)
LEVELS = onnxruntime.GraphOptimizationLevel


class Pictures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 2, 1)
        self.conv2 = nn.Conv2d(8, 8, 3, 1, 1)
        self.conv3 = nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.leaky_relu(self.conv1(x), 0.2)
        x = functional.relu(self.conv2(x) + x)
        x = functional.hardtanh(self.conv3(x), -0.5, 0.5)
        return torch.sigmoid(self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1)))


class Texts(nn.Module):
    """A small encoder of the kind of BERT."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 16)
        self.places = nn.Embedding(8, 16)
        self.norm = nn.LayerNorm(16)
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
        self.out = nn.Linear(16, 16)
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, words: Tensor) -> Tensor:
        steps = torch.arange(words.shape[1])[None]
        x = self.norm(self.words(words) + self.places(steps))

        def heads(y: Tensor) -> Tensor:
            return y.view(y.shape[0], -1, 2, 8).permute(0, 2, 1, 3)

        q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        scores = torch.matmul(q, k.transpose(-1, -2)) / 8**0.5
        y = torch.matmul(scores.softmax(-1), v).permute(0, 2, 1, 3).reshape(x.shape)
        x = self.norm1(self.out(y) + x)
        return self.norm2(self.down(functional.gelu(self.up(x))) + x)


@pytest.fixture
def exported(tmp_path: Path) -> Callable[[type[nn.Module], Tensor], Path]:
    """Give a function that exports a network with the older exporter."""

    def write(kind: type[nn.Module], example: Tensor) -> Path:
        torch.manual_seed(0)
        path = tmp_path / "plain.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                kind().eval(), (example,), path, dynamo=False, opset_version=17, input_names=["x"]
            )
        return path

    return write


def optimized(path: Path, level: Any) -> Path:
    """Let ONNX Runtime write the graph that it would run."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path.with_name("optimized.onnx"))
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return path.with_name("optimized.onnx")


def as_runtime_gives(path: Path, *samples: Tensor, shapes: Any = ()) -> Network:
    network = read_network(Source(path=str(path), input_shapes=shapes))
    assert network.graph_lock == ""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    feeds = {name: sample.numpy() for name, sample in zip(names, samples, strict=True)}
    with torch.no_grad():
        results = network.outputs(*samples)
    for result, expected in zip(results, session.run(None, feeds), strict=True):
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-4, atol=1e-5)
    return network


def kinds(network: Network) -> list[str]:
    return sorted(type(layer).__name__ for _, layer in network.layers())


def operators(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


def test_that_fused_convolutions_of_the_runtime_open_apart(exported: Callable[..., Path]) -> None:
    path = optimized(exported(Pictures, torch.randn(PICTURE)), LEVELS.ORT_ENABLE_EXTENDED)
    assert "FusedConv" in operators(path)
    network = as_runtime_gives(path, torch.randn(PICTURE))
    assert kinds(network) == ["Conv2d", "Conv2d", "Conv2d", "Linear"]


def test_that_fused_attention_of_the_runtime_opens_as_layers(
    exported: Callable[..., Path], tmp_path: Path
) -> None:
    words = torch.randint(0, 50, WORDS)
    plain = exported(Texts, words)
    path = tmp_path / "fused.onnx"
    optimizer.optimize_model(
        str(plain), "bert", num_heads=2, hidden_size=16, opt_level=0
    ).save_model_to_file(str(path))
    assert operators(path) & {"SkipLayerNormalization"}
    assert operators(path) & {"Attention", "MultiHeadAttention"}
    network = as_runtime_gives(path, words)
    assert kinds(network).count("LayerNorm") == 3
    assert kinds(network).count("Embedding") == 1


def test_that_the_extended_optimizer_leaves_a_readable_encoder(
    exported: Callable[..., Path],
) -> None:
    words = torch.randint(0, 50, WORDS)
    path = optimized(exported(Texts, words), LEVELS.ORT_ENABLE_EXTENDED)
    assert operators(path) - operators(exported(Texts, words))
    network = as_runtime_gives(path, words)
    assert kinds(network).count("Linear") == 6


def floats(name: str, *shape: int) -> TensorProto:
    values = np.random.default_rng(len(name)).normal(size=shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


def whole(name: str, *values: int) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def node(op: str, inputs: str, output: str, domain: str = "", **attributes: Any) -> NodeProto:
    return helper.make_node(op, inputs.split(), output.split(), domain=domain, **attributes)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Give a function that saves nodes from `x` to `y` as a file."""

    def save(
        nodes: list[NodeProto], tensors: list[TensorProto], shape: Any, opset: int = 20, **more: Any
    ) -> Path:
        kind = more.get("kind", TensorProto.FLOAT)
        graph = helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info("x", kind, shape), *more.get("inputs", [])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            tensors,
        )
        domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        domains.append(helper.make_opsetid("nobody.uses.this", 3))
        model = helper.make_model(graph, opset_imports=domains)
        model.ir_version = 9
        path = tmp_path / "net.onnx"
        onnx.save(model, path)
        return path

    return save


FUSED = {
    "FusedMatMul": (
        [node("FusedMatMul", "x w", "y", "com.microsoft", transB=1, alpha=0.5)],
        [floats("w", 6, 8)],
    ),
    "FusedMatMul-of-two": (
        [node("FusedMatMul", "x x", "y", "com.microsoft", transB=1, alpha=0.25)],
        [],
    ),
    "FusedGemm": (
        [
            node("Reshape", "x s", "r"),
            node(
                "FusedGemm",
                "r w b",
                "y",
                "com.microsoft",
                activation="LeakyRelu",
                activation_alpha=0.3,
            ),
        ],
        [floats("w", 8, 5), floats("b", 5), whole("s", -1, 8)],
    ),
    "Gelu": ([node("Gelu", "x", "y", "com.microsoft")], []),
    "FastGelu": ([node("FastGelu", "x b", "y", "com.microsoft")], [floats("b", 8)]),
    "BiasGelu": ([node("BiasGelu", "x b", "y", "com.microsoft")], [floats("b", 8)]),
    "QuickGelu": ([node("QuickGelu", "x", "y", "com.microsoft", alpha=1.5)], []),
    "SkipLayerNormalization": (
        [node("SkipLayerNormalization", "x x g b h", "y", "com.microsoft", epsilon=1e-3)],
        [floats("g", 8), floats("b", 8), floats("h", 8)],
    ),
    "SkipSimplifiedLayerNormalization": (
        [node("SkipSimplifiedLayerNormalization", "x x g", "y", "com.microsoft", epsilon=1e-3)],
        [floats("g", 8)],
    ),
    "SimplifiedLayerNormalization": (
        [node("SimplifiedLayerNormalization", "x g", "y", epsilon=1e-3, axis=-1)],
        [floats("g", 8)],
    ),
    "MultiHeadAttention": (
        [node("MultiHeadAttention", "x x x b", "y", "com.microsoft", num_heads=2)],
        [floats("b", 24)],
    ),
    "Attention": (
        [node("Attention", "x w b", "y", "com.microsoft", num_heads=2, unidirectional=1)],
        [floats("w", 8, 24), floats("b", 24)],
    ),
}


@pytest.mark.parametrize("name", FUSED)
def test_that_an_operator_of_the_runtime_gives_what_it_gives_there(
    name: str, saved: Callable[..., Path]
) -> None:
    nodes, tensors = FUSED[name]
    shape = (2, 5, 8)
    as_runtime_gives(saved(nodes, tensors, shape), torch.randn(shape))


def test_that_a_mask_of_attention_hides_what_it_hides_there(saved: Callable[..., Path]) -> None:
    nodes = [
        node("Gather", "e x", "w"),
        node("Cast", "x", "i", to=TensorProto.INT32),
        node("Cast", "i", "f", to=TensorProto.FLOAT),
        node("Clip", "f z o", "m"),
        node("Cast", "m", "mask", to=TensorProto.INT32),
        node("Attention", "w a b mask", "y", "com.microsoft", num_heads=2),
    ]
    tensors = [floats("e", 9, 8), floats("a", 8, 24), floats("b", 24)]
    bounds = [numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("z", 0), ("o", 1))]
    path = saved(nodes, tensors + bounds, (2, 5), kind=TensorProto.INT64)
    as_runtime_gives(path, torch.tensor([[3, 4, 5, 0, 0], [1, 2, 8, 7, 0]]))


def test_that_a_graph_in_the_manner_of_tf2onnx_opens(saved: Callable[..., Path]) -> None:
    nodes = [
        node("Transpose", "x", "nchw", perm=[0, 3, 1, 2]),
        node("Pad", "nchw p", "padded"),
        node(
            "Conv",
            "padded model/conv2d/Conv2D/ReadVariableOp:0",
            "c",
            strides=[2, 2],
            kernel_shape=[3, 3],
            auto_pad="VALID",
        ),
        node("Add", "c model/conv2d/BiasAdd/ReadVariableOp:0", "d"),
        node("Clip", "d low high", "e"),
        node("Transpose", "e", "nhwc", perm=[0, 2, 3, 1]),
        node("ReduceMean", "nhwc axes", "f", keepdims=0),
        node("MatMul", "f model/dense/MatMul/ReadVariableOp:0", "g"),
        node("Add", "g model/dense/BiasAdd/ReadVariableOp:0", "h"),
        node("Softmax", "h", "y"),
    ]
    tensors = [
        whole("p", 0, 0, 0, 0, 0, 0, 1, 1),
        floats("model/conv2d/Conv2D/ReadVariableOp:0", 6, 3, 3, 3),
        floats("model/conv2d/BiasAdd/ReadVariableOp:0", 1, 6, 1, 1),
        numpy_helper.from_array(np.array(0, np.float32), "low"),
        numpy_helper.from_array(np.array(6, np.float32), "high"),
        whole("axes", 1, 2),
        floats("model/dense/MatMul/ReadVariableOp:0", 6, 4),
        floats("model/dense/BiasAdd/ReadVariableOp:0", 4),
    ]
    path = saved(nodes, tensors, ("unk__1", 16, 16, 3), opset=18)
    network = as_runtime_gives(path, torch.randn(2, 16, 16, 3))
    layers = dict(network.layers())
    assert kinds(network) == ["Conv2d", "Linear"]
    assert [layer.bias is not None for layer in layers.values()] == [True, True]
    assert [name for name in layers if "conv2d" in name and "dense" not in name]


def test_that_a_graph_in_the_manner_of_paddle2onnx_opens(saved: Callable[..., Path]) -> None:
    tensors = [floats("conv2d_0.w_0", 6, 3, 3, 3), floats("linear_0.w_0", 6, 4)]
    tensors += [floats("linear_0.b_0", 4)]
    norm = ("batch_norm2d_0.w_0", "batch_norm2d_0.b_0", "batch_norm2d_0.w_1")
    tensors += [floats(name, 6) for name in norm]
    positive = np.abs(np.random.default_rng(3).normal(size=6)).astype(np.float32)
    tensors.append(numpy_helper.from_array(positive, "batch_norm2d_0.w_2"))
    constants = [helper.make_node("Constant", [], [t.name], value=t) for t in tensors]
    nodes = [
        *constants,
        node(
            "Conv",
            "x conv2d_0.w_0",
            "c",
            strides=[2, 2],
            pads=[1, 1, 1, 1],
            group=1,
            dilations=[1, 1],
            kernel_shape=[3, 3],
        ),
        node("BatchNormalization", f"c {' '.join(norm)} batch_norm2d_0.w_2", "n"),
        node("HardSigmoid", "n", "s", alpha=1 / 6, beta=0.5),
        node("Mul", "n s", "h"),
        node("GlobalAveragePool", "h", "p"),
        node("Shape", "p", "shape"),
        node("Slice", "shape zero one", "batch"),
        node("Concat", "batch rest", "target", axis=0),
        node("Reshape", "p target", "r"),
        node("MatMul", "r linear_0.w_0", "m"),
        node("Add", "m linear_0.b_0", "y"),
    ]
    known = [whole("zero", 0), whole("one", 1), whole("rest", 6)]
    path = saved(nodes, known, (-1, 3, 16, 16), opset=11)
    network = as_runtime_gives(path, torch.randn(2, 3, 16, 16))
    assert kinds(network) == ["BatchNorm2d", "Conv2d", "Linear"]
    assert [name for name, _ in network.layers()] == ["conv2d_0", "batch_norm2d_0", "linear_0"]


@pytest.mark.parametrize("size", [-1, None, "?", "height"], ids=str)
def test_that_a_free_size_is_asked_for_with_a_guess(size: Any, saved: Callable[..., Path]) -> None:
    nodes = [node("Conv", "x w", "c"), node("GlobalAveragePool", "c", "y")]
    path = saved(nodes, [floats("w", 4, 3, 3, 3)], ("N", 3, size, size))
    with pytest.raises(UserError, match="leaves sizes of its input x free") as caught:
        read_network(Source(path=str(path)))
    assert "--input 1x3x224x224" in caught.value.hint
    as_runtime_gives(path, torch.randn(2, 3, 9, 9), shapes=((2, 3, 9, 9),))


def test_that_an_input_without_a_shape_is_asked_for(saved: Callable[..., Path]) -> None:
    nodes = [node("Conv", "x w", "c"), node("GlobalAveragePool", "c", "y")]
    path = saved(nodes, [floats("w", 4, 3, 3, 3)], None)
    with pytest.raises(UserError, match="does not tell the shape of its input x"):
        read_network(Source(path=str(path)))
    as_runtime_gives(path, torch.randn(2, 3, 9, 9), shapes=((2, 3, 9, 9),))


@pytest.mark.parametrize("held", ["initializer", "listed", "constant", "identity"])
def test_that_weights_open_wherever_a_file_holds_them(
    held: str, saved: Callable[..., Path]
) -> None:
    weight = floats("fc.weight", 5, 8)
    inputs = [helper.make_tensor_value_info("fc.weight", TensorProto.FLOAT, (5, 8))]
    name = "same" if held == "identity" else "fc.weight"
    nodes = [node("Gemm", f"x {name}", "y", transB=1)]
    if held == "constant":
        nodes.insert(0, helper.make_node("Constant", [], ["fc.weight"], value=weight))
    if held == "identity":
        nodes.insert(0, node("Identity", "fc.weight", "same"))
    tensors = [] if held == "constant" else [weight]
    path = saved(nodes, tensors, ("N", 8), inputs=inputs if held == "listed" else [])
    network = as_runtime_gives(path, torch.randn(3, 8))
    assert kinds(network) == ["Linear"]
    assert held == "identity" or [name for name, _ in network.layers()] == ["fc"]
