"""The oldest and the newest operator sets, weights in other files, results of any length."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from featherweight.engine.errors import UserError
from featherweight.engine.events import Source
from featherweight.engine.network import Network
from featherweight.engine.reading.formats import read_network

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(0)
IMAGE, STEPS = (2, 4, 6, 7), (5, 2, 4)
NEWEST = 24


def numbers(*shape: int) -> Array:
    return RANDOM.normal(size=shape).astype(np.float32)


def whole(*values: int) -> Array:
    return np.array(values, dtype=np.int64)


@dataclass(frozen=True)
class Use:
    """One operator of one version on `x`, with constants behind it."""

    version: int
    op: str
    shape: tuple[int, ...]
    constants: Sequence[Array | None]
    outputs: int
    attributes: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.op}-{self.version}-{'-'.join(self.attributes)}"


def use(version: int, op: str, *constants: Array | None, **settings: Any) -> Use:
    shape, outputs = settings.pop("shape", IMAGE), settings.pop("outputs", 1)
    return Use(version, op, shape, constants, outputs, settings)


def recurrent(op: str, gates: int) -> Use:
    weights = (numbers(1, gates * 3, 4), numbers(1, gates * 3, 3), numbers(1, gates * 6))
    return use(7, op, *weights, shape=STEPS, hidden_size=3)


USES = [
    use(7, "BatchNormalization", *(abs(numbers(4)) for _ in range(4)), spatial=1),
    use(7, "BatchNormalization", *(abs(numbers(4, 6, 7)) for _ in range(4)), spatial=0),
    use(8, "BatchNormalization", *(abs(numbers(4)) for _ in range(4)), epsilon=1e-3),
    use(7, "Upsample", scales=[1.0, 1.0, 2.0, 2.0], mode="nearest"),
    use(8, "Upsample", scales=[1.0, 1.0, 2.0, 3.0], mode="linear"),
    use(10, "Resize", np.float32([1, 1, 2, 3]), mode="linear"),
    use(10, "Resize", np.float32([1, 1, 2, 1.5]), mode="nearest"),
    *(use(version, "Dropout", outputs=2) for version in (7, 10, 12, 22)),
    use(7, "Slice", starts=[0, -3], ends=[2, 2**31 - 1], axes=[1, 3]),
    use(7, "Slice", starts=[0, 1], ends=[9, 3]),
    use(7, "Pad", pads=[0, 0, 1, 1, 0, 0, 1, 1], value=0.25),
    use(7, "Pad", pads=[0, 0, -1, 1, 0, 0, -1, 1]),
    use(7, "Pad", pads=[0, 0, 1, 1, 0, 0, 2, 1], mode="reflect"),
    use(7, "Clip", min=0.0, max=6.0),
    use(7, "Clip", min=0.1),
    use(7, "Reshape", whole(0, -1)),
    use(7, "Squeeze", axes=[1], shape=(2, 1, 5)),
    use(7, "Squeeze", shape=(2, 1, 5)),
    use(7, "Unsqueeze", axes=[0, 3], shape=(2, 5)),
    *(use(7, op) for op in ("Softmax", "LogSoftmax", "Hardmax", "ArgMax")),
    *(use(9, op, axis=2) for op in ("Softmax", "LogSoftmax", "Hardmax")),
    use(9, "Softmax", axis=0),
    *(use(13, op, axis=1) for op in ("Softmax", "LogSoftmax", "Hardmax")),
    use(7, "TopK", k=3, axis=-1, outputs=2),
    use(10, "TopK", whole(2), axis=1, outputs=2),
    use(7, "Cast", to=TensorProto.INT32),
    use(7, "Cast", to=TensorProto.BOOL),
    use(7, "Gemm", numbers(8, 3), numbers(1), shape=(2, 8)),
    use(7, "Gemm", numbers(8, 3), numbers(2, 1), beta=0.5, shape=(2, 8)),
    use(7, "Gemm", numbers(8, 3), numbers(2, 3), beta=0.5, shape=(2, 8)),
    use(11, "Gemm", numbers(3, 8), transB=1, shape=(2, 8)),
    recurrent("LSTM", 4),
    recurrent("GRU", 3),
    recurrent("RNN", 1),
    use(7, "AveragePool", kernel_shape=[2, 2], pads=[1, 1, 1, 1], count_include_pad=0),
    use(7, "LpPool", kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1]),
    use(7, "GlobalLpPool", p=3),
    use(7, "PRelu", numbers(4, 1, 1)),
    use(7, "Split", axis=1, outputs=2),
    use(7, "ReduceMean", axes=[2, 3], keepdims=0),
    use(7, "Mul", numbers(6, 1)),
    use(7, "ConvTranspose", numbers(4, 3, 3, 3), strides=[2, 2], output_shape=[12, 14]),
    use(7, "ConvTranspose", numbers(4, 3, 3, 3), strides=[2, 2], output_padding=[1, 1]),
    use(8, "Expand", whole(1, 4, 6, 7), shape=(2, 1, 6, 7)),
    use(NEWEST, "BatchNormalization", *(abs(numbers(4)) for _ in range(4))),
    use(NEWEST, "Conv", numbers(5, 4, 3, 3), numbers(5)),
    use(NEWEST, "RMSNormalization", numbers(8), shape=(2, 5, 8)),
    use(NEWEST, "Reshape", whole(-1, 42), allowzero=1),
    use(NEWEST, "ReduceMax", whole(1)),
    use(NEWEST, "Swish", alpha=1.5),
    *(
        use(NEWEST, "RotaryEmbedding", numbers(2, 5, 4), numbers(2, 5, 4), interleaved=near,
            shape=(2, 3, 5, 8))
        for near in (0, 1)
    ),
    use(NEWEST, "RotaryEmbedding", numbers(9, 2), numbers(9, 2), whole(*range(5), *range(5)),
        rotary_embedding_dim=4, num_heads=2, shape=(2, 5, 16)),
]  # fmt: skip


def saved(
    nodes: list[NodeProto], tensors: list[TensorProto], path: Path, shape: Any, version: int
) -> Path:
    outputs = [name for name in nodes[-1].output if name]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        tensors,
    )
    if version < 9:
        # Files of that time list their weights among the inputs.
        listed = [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
        graph.input.extend(listed)
    opsets = [helper.make_opsetid("", version)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=3 if version < 9 else 10)
    path.write_bytes(model.SerializeToString())
    return path


def of_runtime(path: Path, data: Array) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    results: list[Array] = session.run(None, {"x": data})
    return results


def check(network: Network, path: Path, data: Array) -> None:
    with torch.no_grad():
        given = network.outputs(torch.from_numpy(data))
    for result, expected in zip(given, of_runtime(path, data), strict=True):
        assert result.shape == expected.shape
        np.testing.assert_allclose(result.numpy(), expected, 1e-4, 1e-5)


@pytest.mark.parametrize("case", USES, ids=str)
def test_that_operators_of_every_age_give_what_the_runtime_gives(case: Use, tmp_path: Path) -> None:
    tensors = [
        numpy_helper.from_array(np.asarray(array), f"c{at}")
        for at, array in enumerate(case.constants)
        if array is not None
    ]
    if case.op == "RotaryEmbedding" and len(tensors) == 3:
        tensors[2].dims[:] = [2, 5]
    results = [f"y{at}" for at in range(case.outputs)]
    inputs = ["x", *(tensor.name for tensor in tensors)]
    node = helper.make_node(case.op, inputs, results, **case.attributes)
    path = saved([node], tensors, tmp_path / "net.onnx", case.shape, case.version)
    network = read_network(Source(path=str(path)))
    assert network.graph_lock == ""
    check(network, path, numbers(*case.shape))


def beside(path: Path, version: int) -> list[TensorProto]:
    """Save two layers whose weights share one file at offsets, with a bias in another file."""
    arrays = {"a": numbers(6, 4, 3, 3), "b": numbers(6), "w": numbers(6, 3)}
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    for name, file, offset in (("a", "one.bin", 64), ("w", "one.bin", 4096), ("b", "two.bin", 0)):
        tensor = next(tensor for tensor in tensors if tensor.name == name)
        set_external_data(tensor, file, offset, len(tensor.raw_data))
        with (path.parent / file).open("r+b" if (path.parent / file).exists() else "w+b") as data:
            data.seek(offset)
            data.write(tensor.raw_data)
        tensor.ClearField("raw_data")
    nodes = [
        helper.make_node("Conv", ["x", "a", "b"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "zero"], ["y"]),
    ]
    zero = numpy_helper.from_array(np.zeros(3, np.float32), "zero")
    saved(nodes, [*tensors, zero], path, ["n", 4, 6, 7], version)
    return tensors


@pytest.mark.parametrize("version", [7, NEWEST])
def test_that_weights_at_offsets_of_several_files_are_read(version: int, tmp_path: Path) -> None:
    beside(tmp_path / "net.onnx", version)
    network = read_network(Source(path=str(tmp_path / "net.onnx")))
    check(network, tmp_path / "net.onnx", numbers(*IMAGE))
    assert [Path(file).name for file in network.origin.beside] == ["one.bin", "two.bin"]
    with (tmp_path / "one.bin").open("r+b") as data:
        data.truncate(4096)
    with pytest.raises(UserError, match=r"net\.onnx is damaged"):
        read_network(Source(path=str(tmp_path / "net.onnx")))


def test_that_boxes_are_chosen_as_the_runtime_chooses_them(tmp_path: Path) -> None:
    tensors = [
        numpy_helper.from_array(array, name)
        for name, array in {
            "boxes": abs(numbers(1, 30, 4)),
            "w": numbers(3, 2, 1, 1),
            "shape": whole(1, 3, 30),
            "most": whole(4),
            "overlap": np.float32([0.3]),
            "least": np.float32([0.1]),
            "two": whole(2),
            "axes": whole(1),
        }.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Reshape", ["c", "shape"], ["scores"]),
        helper.make_node(
            "NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], ["best"]
        ),
        helper.make_node("Gather", ["best", "two"], ["column"], axis=1),
        helper.make_node("Squeeze", ["column", "axes"], ["places"]),
        helper.make_node("Gather", ["boxes", "places"], ["y"], axis=1),
    ]
    path = saved(nodes, tensors, tmp_path / "net.onnx", [1, 2, 5, 6], 13)
    network = read_network(Source(path=str(path)))
    assert "data" in network.graph_lock
    assert [type(layer).__name__ for _, layer in network.layers()] == ["Conv2d"]
    for _ in range(3):
        check(network, path, numbers(1, 2, 5, 6))


def test_that_results_as_long_as_the_numbers_decide_are_read(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("NonZero", ["r"], ["places"]),
        helper.make_node("Transpose", ["places"], ["t"], perm=[1, 0]),
        helper.make_node("GatherND", ["x", "t"], ["v"]),
        helper.make_node("Shape", ["v"], ["s"]),
        helper.make_node("Reshape", ["v", "s"], ["y"]),
    ]
    path = saved(nodes, [], tmp_path / "net.onnx", list(IMAGE), 13)
    network = read_network(Source(path=str(path)))
    for _ in range(2):
        check(network, path, numbers(*IMAGE))


def test_that_a_file_larger_than_onnx_can_be_is_told_with_its_mend(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with path.open("wb") as file:
        file.write(bytes((0x08, 0x0A, 0x12, 0x00)))
        file.truncate(1 << 31)
    with pytest.raises(UserError, match=r"net\.onnx is larger than the 2 GB") as caught:
        read_network(Source(path=str(path)))
    assert "external data" in caught.value.hint


def test_that_a_type_that_the_file_does_not_take_is_told(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    path = saved([node], [], tmp_path / "net.onnx", ["n", 4], 13)
    network = read_network(Source(path=str(path), input_shapes=((1, 4),), input_dtypes=("int64",)))
    assert "The input x is float32 in the file, not int64 as given." in network.notes
