"""Every ONNX operator that can be read gives what ONNX Runtime gives."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from onnx import GraphProto, TensorProto, helper, numpy_helper

from featherweight.engine.errors import UserError
from featherweight.engine.events import Source
from featherweight.engine.network import Network
from featherweight.engine.reading.formats import read_network

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(0)
FREED = "The file fixes the batch at 1; it was opened with a free batch."
IMAGE, ROWS = (2, 4, 6, 7), (2, 5, 8)


def numbers(*shape: int) -> Array:
    return RANDOM.normal(size=shape).astype(np.float32)


def whole(*values: int) -> Array:
    return np.array(values, dtype=np.int64)


@dataclass(frozen=True)
class Use:
    """One operator on an input of `shape`, with constants behind (or, `before`, in front of) it."""

    op: str
    shape: tuple[int, ...] = IMAGE
    constants: Sequence[Array | None] = ()
    version: int = 20
    before: bool = False
    outputs: int = 1
    positive: bool = False
    attributes: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        told = "-".join(f"{key}_{value}" for key, value in self.attributes.items())
        return f"{self.op}-{self.version}-{told}"[:60]


def use(op: str, *constants: Array | None, **attributes: Any) -> Use:
    own = {"shape", "version", "before", "outputs", "positive"}
    options = {name: attributes.pop(name) for name in own & set(attributes)}
    return Use(op, constants=constants, attributes=attributes, **options)


ELEMENTWISE = [
    *(use(op) for op in ("Relu", "Sigmoid", "Tanh", "Erf", "Exp", "Abs", "Neg", "Floor", "Ceil")),
    *(use(op) for op in ("Tan", "Atan", "Sinh", "Cosh", "Asinh", "MeanVarianceNormalization")),
    use("LpNormalization"),
    use("LpNormalization", axis=1, p=1),
    *(use(op) for op in ("Sin", "Cos", "Softplus", "Softsign", "HardSwish", "Mish", "Sign")),
    *(use(op, positive=True) for op in ("Sqrt", "Log", "Reciprocal")),
    *(use(op, np.float32(2.0).reshape(())) for op in ("Add", "Sub", "Mul", "Div", "Min", "Max")),
    *(use(op, numbers(4, 1, 1)) for op in ("Add", "Sub", "Mul", "Div", "Min", "Max")),
    *(use(op, numbers(4, 1, 1), before=True) for op in ("Sub", "Div")),
    use("Pow", np.float32(2.0).reshape(())),
    use("Pow", np.float32(3.0).reshape(()), positive=True),
    use("Mod", np.float32(2.0).reshape(()), fmod=1),
    use("Round"),
    use("LeakyRelu", alpha=0.2),
    use("Elu", alpha=0.7),
    use("Celu", alpha=0.7),
    use("Selu"),
    use("ThresholdedRelu", alpha=0.3),
    use("HardSigmoid"),
    use("HardSigmoid", alpha=1 / 6, beta=0.5),
    use("Gelu"),
    use("Gelu", approximate="tanh"),
    use("PRelu", numbers(4, 1, 1)),
    use("PRelu", numbers(1)),
    use("PRelu", numbers(4, 6, 7)),
    use("Clip", np.float32(0.0), np.float32(6.0)),
    use("Clip", None, np.float32(0.5)),
    use("Clip", min=-0.5, max=0.5, version=7),
    use("Softmax", axis=1),
    use("Softmax", axis=1, version=11),
    use("Softmax", version=11, shape=(2, 9)),
    use("LogSoftmax", axis=-1),
    use("Dropout"),
    use("Identity"),
    use("Cast", to=TensorProto.FLOAT),
    use("Sum", numbers(4, 1, 1), numbers(7)),
    use("Mean", numbers(2, 4, 6, 7)),
]
REDUCTIONS = [
    *(use(f"Reduce{name}", whole(2, 3)) for name in ("Mean", "Sum", "Max", "Min", "L1", "L2")),
    *(use(f"Reduce{name}", whole(-1), keepdims=0) for name in ("Mean", "Prod", "SumSquare")),
    use("ReduceMean", axes=[2, 3], version=13),
    use("ReduceSum", whole(1), keepdims=0, version=13),
    use("ReduceMean", keepdims=0),
    use("ReduceLogSumExp", whole(1)),
    use("ArgMax", axis=1),
    use("ArgMin", axis=-1, keepdims=0),
    use("CumSum", whole(1).reshape(())),
    *(
        use("CumSum", whole(2).reshape(()), exclusive=exclusive, reverse=reverse)
        for exclusive in (0, 1)
        for reverse in (0, 1)
    ),
    use("ReduceLogSum", whole(1), positive=True),
    use("TopK", whole(3), axis=-1, outputs=2),
]
MOVES = [
    use("Reshape", whole(0, -1)),
    use("Reshape", whole(0, 2, 2, 42)),
    use("Flatten"),
    use("Flatten", axis=2),
    use("Transpose", perm=[0, 2, 3, 1]),
    use("Transpose"),
    use("Squeeze", whole(2), shape=(2, 4, 1, 7)),
    use("Squeeze", axes=[2], shape=(2, 4, 1, 7), version=11),
    use("Unsqueeze", whole(1, -1)),
    use("Unsqueeze", axes=[0], version=11),
    use("Concat", numbers(2, 3, 6, 7), axis=1),
    use("Split", whole(1, 3), axis=1, outputs=2),
    use("Split", axis=1, outputs=2, num_outputs=2),
    use("Split", axis=1, split=[1, 3], outputs=2, version=11),
    use("Slice", whole(1, 0), whole(3, -1), whole(1, 3), whole(1, 2)),
    use("Slice", whole(0), whole(2**62), whole(2)),
    use("Slice", whole(-1), whole(-(2**62)), whole(3), whole(-1)),
    use("Slice", starts=[1], ends=[3], axes=[1], version=9),
    use("Gather", whole(2, 0, -1), axis=1),
    use("Gather", whole(1).reshape(()), axis=2),
    use("Gather", whole(1, 0, 2, 3).reshape(2, 2), axis=1),
    use("GatherElements", np.zeros((2, 2, 6, 7), dtype=np.int64), axis=1),
    use("ScatterElements", np.zeros((2, 2, 6, 7), np.int64), numbers(2, 2, 6, 7), axis=1),
    use("ScatterND", whole(0, 1, 1, 2).reshape(2, 2), numbers(2, 6, 7)),
    use("GatherND", whole(0, 1, 1, 2).reshape(2, 2)),
    use("Expand", whole(3, 2, 4, 6, 7)),
    use("Tile", whole(1, 2, 1, 1)),
    use("Pad", whole(0, 0, 1, 2, 0, 0, 0, 1), np.float32(0.5)),
    use("Pad", whole(0, 0, 1, 2, 0, 0, 2, 1), mode="reflect"),
    use("Pad", whole(0, 0, 1, 2, 0, 0, 2, 1), mode="edge"),
    use("Pad", pads=[0, 0, 1, 1, 0, 0, 1, 1], value=0.25, version=9),
    use("Pad", whole(1, 2), None, whole(3), version=18),
    use("DepthToSpace", blocksize=2),
    use("DepthToSpace", blocksize=2, mode="CRD"),
    use("SpaceToDepth", blocksize=2, shape=(2, 4, 6, 8)),
    use("Trilu", upper=0),
    use("Trilu", whole(1).reshape(())),
    use("Where", numbers(7), np.float32(1.0).reshape(()), before=False, shape=IMAGE),
]
NETWORK = [
    use("Conv", numbers(5, 4, 3, 3), numbers(5), pads=[1, 1, 1, 1], strides=[2, 1]),
    use("Conv", numbers(5, 4, 3, 3), pads=[0, 1, 2, 1]),
    use("Conv", numbers(5, 4, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    use("Conv", numbers(5, 4, 3, 3), auto_pad="SAME_LOWER", strides=[2, 2]),
    use("Conv", numbers(8, 2, 3, 3), group=2, dilations=[2, 2]),
    use("Conv", numbers(4, 1, 3, 3), numbers(4), group=4),
    use("Conv", numbers(3, 5, 3), shape=ROWS),
    use("Conv", numbers(3, 4, 2, 2, 2), shape=(2, 4, 4, 5, 6)),
    use("ConvTranspose", numbers(4, 3, 2, 2), numbers(3), strides=[2, 2]),
    use("ConvTranspose", numbers(4, 2, 3, 3), strides=[2, 2], pads=[1] * 4, group=2,
        output_padding=[1, 1]),
    use("BatchNormalization", numbers(4), numbers(4), numbers(4), abs(numbers(4)), epsilon=1e-3),
    use("BatchNormalization", numbers(8), numbers(8), numbers(8), abs(numbers(8)), shape=(2, 8)),
    use("LayerNormalization", numbers(8), numbers(8), shape=ROWS),
    use("LayerNormalization", numbers(5, 8), axis=1, shape=ROWS),
    use("InstanceNormalization", numbers(4), numbers(4)),
    use("GroupNormalization", numbers(4), numbers(4), num_groups=2, version=21),
    use("LRN", size=3),
    use("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    use("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    use("MaxPool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    use("MaxPool", kernel_shape=[3], shape=ROWS),
    use("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    use("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    use("AveragePool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    use("AveragePool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    use("GlobalAveragePool"),
    use("GlobalMaxPool"),
    use("MatMul", numbers(8, 3), shape=ROWS),
    use("MatMul", numbers(3, 5), shape=ROWS, before=True),
    use("MatMul", numbers(2, 8, 3), shape=ROWS),
    use("Gemm", numbers(8, 3), numbers(3), shape=(2, 8)),
    use("Gemm", numbers(3, 8), numbers(3), transB=1, alpha=0.5, beta=2.0, shape=(2, 8)),
    use("Gemm", numbers(3, 8), numbers(1, 3), transB=1, shape=(2, 8)),
    use("Gemm", numbers(2, 3), transA=1, shape=(2, 8)),
    use("Einsum", numbers(8, 3), equation="bij,jk->bik", shape=ROWS),
    use("Resize", None, np.float32([1, 1, 2, 2]), mode="nearest"),
    use("Resize", None, np.float32([1, 1, 2, 2]), mode="nearest", nearest_mode="floor",
        coordinate_transformation_mode="asymmetric"),
    use("Resize", None, None, whole(2, 4, 12, 21), mode="linear"),
    use("Resize", None, np.float32([1, 1, 0.5, 0.5]), mode="linear"),
    use("Resize", None, None, whole(2, 4, 11, 9), mode="linear",
        coordinate_transformation_mode="align_corners"),
    use("Upsample", np.float32([1, 1, 2, 3]), mode="nearest", version=9),
    use("Upsample", np.float32([1, 1, 2, 3]), mode="linear", version=9),
    *(
        use("Resize", None, None, whole(2, 4, 11, 4), mode=mode,
            coordinate_transformation_mode=place)
        for mode in ("linear", "cubic")
        for place in ("asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners")
    ),
    *(
        use("Resize", None, np.float32([1, 1, 1.7, 0.6]), mode="nearest", nearest_mode=rounding,
            coordinate_transformation_mode=place)
        for rounding in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
        for place in ("asymmetric", "half_pixel", "align_corners")
    ),
    use("Resize", None, np.float32([1.5, 2]), mode="linear", axes=[2, 3]),
    use("ConvTranspose", numbers(4, 3, 3, 3), strides=[2, 2], pads=[0, 1, 1, 0]),
    use("ConvTranspose", numbers(4, 3, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
    use("ConvTranspose", numbers(4, 3, 3, 3), strides=[2, 2], auto_pad="SAME_LOWER"),
    use("GridSample", numbers(2, 3, 3, 2), mode="linear"),
    use("GridSample", numbers(2, 3, 3, 2), mode="nearest", padding_mode="border", align_corners=1),
]  # fmt: skip


def groups() -> dict[str, list[Use]]:
    """Put together what has the same input and version: one file is opened for all of it."""
    grouped: dict[str, list[Use]] = {}
    for case in (*ELEMENTWISE, *REDUCTIONS, *MOVES, *NETWORK):
        shape = "x".join(map(str, case.shape))
        sign = "-positive" if case.positive else ""
        grouped.setdefault(f"{shape}-version{case.version}{sign}", []).append(case)
    return grouped


def file_of(cases: list[Use], folder: Path) -> Path:
    nodes, constants, outputs = [], [], []
    for at, case in enumerate(cases):
        names = [
            f"c{at}_{n}" if array is not None else "" for n, array in enumerate(case.constants)
        ]
        constants += [
            numpy_helper.from_array(np.asarray(array), name)
            for array, name in zip(case.constants, names, strict=True)
            if array is not None
        ]
        inputs = [*names, "x"] if case.before else ["x", *names]
        results = [f"y{at}_{n}" for n in range(case.outputs)]
        if case.op == "Where":
            nodes.append(helper.make_node("Cast", ["x"], ["condition"], to=TensorProto.BOOL))
            inputs = ["condition", *names]
        nodes.append(helper.make_node(case.op, inputs, results, **case.attributes))
        outputs += results
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *cases[0].shape[1:]])],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        constants,
    )
    return saved(graph, folder / "operators.onnx", cases[0].version)


def saved(graph: GraphProto, path: Path, version: int) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
    model.ir_version = 10
    path.write_bytes(model.SerializeToString())
    return path


def of_runtime(path: Path, data: Array) -> list[Array]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    results: list[Array] = session.run(None, {"x": data})
    return results


def opened(path: Path, shape: tuple[int, ...]) -> Network:
    return read_network(Source(path=str(path), input_shapes=(shape,)))


@pytest.mark.parametrize("cases", groups().values(), ids=groups().keys())
def test_that_operators_give_the_numbers_of_onnx_runtime(cases: list[Use], tmp_path: Path) -> None:
    path = file_of(cases, tmp_path)
    shape = cases[0].shape
    data = abs(numbers(*shape)) + np.float32(0.1) if cases[0].positive else numbers(*shape)
    network = opened(path, shape)
    assert network.graph_lock == ""
    given = network.outputs(torch.from_numpy(data))
    told = [str(case) for case in cases for _ in range(case.outputs)]
    for result, expected, case in zip(given, of_runtime(path, data), told, strict=True):
        assert result.shape == expected.shape, case
        np.testing.assert_allclose(result.detach().numpy(), expected, 1e-4, 5e-6, err_msg=case)


@pytest.mark.parametrize("case", [use("Det", shape=(2, 3, 3))], ids=str)
def test_that_an_unknown_operator_is_named_with_its_node_and_file(
    case: Use, tmp_path: Path
) -> None:
    path = file_of([case], tmp_path)
    assert f"its operator {case.op} at node 'y0_0' is none" in opened(path, case.shape).graph_lock


def test_that_an_operator_that_nothing_runs_is_refused_by_name(tmp_path: Path) -> None:
    path = file_of([use("Unheard", shape=(2, 3))], tmp_path)
    with pytest.raises(UserError, match=r"operators\.onnx: operator Unheard at node 'y0_0'"):
        opened(path, (2, 3))


def test_that_a_quantized_file_opens_as_float_to_the_same_rounding(tmp_path: Path) -> None:
    weight = RANDOM.integers(-127, 128, size=(5, 4, 3, 3)).astype(np.int8)
    scale = abs(numbers(5)) / 100
    zero = np.zeros(5, dtype=np.int8)
    held = {"conv.weight_quantized": weight, "s": scale, "z": zero}
    grid = {"step": np.float32(0.02), "shift": np.uint8(120)}
    arrays = {**held, **grid}
    nodes = [
        helper.make_node("DequantizeLinear", list(held), ["conv.weight"], axis=0),
        helper.make_node("QuantizeLinear", ["x", *grid], ["q"]),
        helper.make_node("DequantizeLinear", ["q", *grid], ["rounded"]),
        helper.make_node("Conv", ["rounded", "conv.weight"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 6, 7])],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    path = saved(graph, tmp_path / "quantized.onnx", 20)
    network = read_network(Source(path=str(path)))
    data = numbers(1, 4, 6, 7)
    given = network.outputs(torch.from_numpy(data))[0].detach().numpy()
    np.testing.assert_allclose(given, of_runtime(path, data)[0], rtol=1e-4, atol=1e-5)
    assert [name for name, _ in network.layers()] == ["conv"]
    assert network.notes == (
        FREED,
        "Quantized weights of the file, opened as float32: 1.",
        "Activations are rounded to 8 bits as in the file: 1.",
    )
