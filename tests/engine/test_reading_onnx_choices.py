"""Recurrent layers in every form, branches that are decided, float16, several inputs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor

from featherweight.engine.errors import UserError
from featherweight.engine.events import Source
from featherweight.engine.network import Network
from featherweight.engine.reading.formats import read_network

FLOAT = TensorProto.FLOAT
STEPS, BATCH, WIDTH, HIDDEN = 5, 2, 4, 3


def array(name: str, *shape: int) -> TensorProto:
    values = np.random.default_rng(len(name)).normal(size=shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


def constant(name: str, values: Any, dtype: Any = np.int64) -> TensorProto:
    return numpy_helper.from_array(np.array(values, dtype), name)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op, inputs.split(" "), outputs.split(" "), **attributes)


def value(name: str, kind: int = FLOAT, shape: Any = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Give a function that saves a graph as a file."""

    def save(
        nodes: list[NodeProto],
        tensors: list[TensorProto],
        inputs: list[onnx.ValueInfoProto],
        outputs: str = "y",
        opset: int = 17,
    ) -> Path:
        graph = helper.make_graph(
            nodes, "net", inputs, [value(name) for name in outputs.split()], tensors
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        model.ir_version = 9
        onnx.save(model, tmp_path / "net.onnx")
        return tmp_path / "net.onnx"

    return save


def of_runtime(path: Path, feeds: dict[str, Tensor]) -> list[npt.NDArray[Any]]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    results: list[npt.NDArray[Any]] = session.run(None, {k: v.numpy() for k, v in feeds.items()})
    return results


def check(network: Network, feeds: dict[str, Tensor], path: Path, given: Any = None) -> None:
    with torch.no_grad():
        results = network.outputs(*(given or feeds.values()))
    for result, expected in zip(results, of_runtime(path, feeds), strict=True):
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("state", [False, True], ids=["no-state", "state"])
@pytest.mark.parametrize("before", [0, 1], ids=["reset-first", "reset-last"])
def test_that_every_gru_gives_what_the_runtime_gives(
    direction: str, state: bool, before: int, saved: Callable[..., Path]
) -> None:
    both = 2 if direction == "bidirectional" else 1
    tensors = [
        array("weights", both, 3 * HIDDEN, WIDTH),
        array("inside", both, 3 * HIDDEN, HIDDEN),
        array("biases", both, 6 * HIDDEN),
        array("initial state", both, BATCH, HIDDEN),
        constant("lengths", [STEPS] * BATCH, np.int32),
    ]
    gru = helper.make_node(
        "GRU",
        ["x", "weights", "inside", "biases", "lengths", "initial state" if state else ""],
        ["y", "last"],
        direction=direction,
        hidden_size=HIDDEN,
        linear_before_reset=before,
    )
    path = saved([gru], tensors, [value("x", FLOAT, (STEPS, BATCH, WIDTH))], "y last")
    network = read_network(Source(path=str(path)))
    assert network.graph_lock == ""
    check(network, {"x": torch.randn(STEPS, BATCH, WIDTH)}, path)
    kinds = {type(layer).__name__ for _, layer in network.layers()}
    assert kinds == ({"GRU"} if before else {"Linear"})


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_that_a_layer_with_the_batch_first_is_the_same_turned(
    op: str, saved: Callable[..., Path]
) -> None:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    tensors = [array("W", 1, gates * HIDDEN, WIDTH), array("R", 1, gates * HIDDEN, HIDDEN)]
    results = []
    for layout, shape in ((0, (STEPS, BATCH, WIDTH)), (1, (BATCH, STEPS, WIDTH))):
        made = node(op, "x W R", "y last", hidden_size=HIDDEN, layout=layout)
        path = saved([made], tensors, [value("x", FLOAT, shape)], "y last")
        results.append(read_network(Source(path=str(path))))
    data = torch.randn(STEPS, BATCH, WIDTH)
    output, last = results[0].outputs(data)
    turned, memory = results[1].outputs(data.transpose(0, 1))
    assert torch.allclose(output.permute(2, 0, 1, 3), turned, atol=1e-6)
    assert torch.allclose(last.transpose(0, 1), memory, atol=1e-6)


def branches() -> list[NodeProto]:
    graphs: list[GraphProto] = []
    for name, weight in (("fast", "a"), ("slow", "b")):
        result = f"{name}_y"
        graphs.append(
            helper.make_graph([node("MatMul", f"x {weight}", result)], name, [], [value(result)])
        )
    return [
        node("Equal", "rate wanted", "same"),
        helper.make_node("If", ["same"], ["y"], then_branch=graphs[0], else_branch=graphs[1]),
    ]


@pytest.mark.parametrize("rate", [16000, 8000])
def test_that_a_branch_on_an_input_has_a_graph_once_that_is_fixed(
    rate: int, saved: Callable[..., Path]
) -> None:
    tensors = [array("a", 4, 3), array("b", 4, 3), constant("wanted", 16000)]
    inputs = [value("x", FLOAT, ("N", 4)), value("rate", TensorProto.INT64, ())]
    path = saved(branches(), tensors, inputs)
    undecided = read_network(Source(path=str(path), input_shapes=((1, 4), (1,))))
    assert "condition depends on the input (--value name=1 fixes one)" in undecided.graph_lock
    network = read_network(Source(path=str(path), input_values=(("rate", rate),)))
    data = torch.randn(3, 4)
    check(network, {"x": data, "rate": torch.tensor(rate)}, path, [data])
    assert len(list(network.layers())) == 1


def test_that_fixing_what_is_no_input_is_told_with_the_inputs(saved: Callable[..., Path]) -> None:
    path = saved([node("Relu", "x", "y")], [], [value("x", FLOAT, (1, 4))])
    with pytest.raises(UserError, match="has no input rate") as caught:
        read_network(Source(path=str(path), input_values=(("rate", 1),)))
    assert "Its inputs are x." in caught.value.hint


def test_that_a_branch_on_constants_or_sizes_is_decided(saved: Callable[..., Path]) -> None:
    tensors = [array("a", 4, 3), array("b", 4, 3), constant("wanted", 4), constant("one", 1)]
    nodes = [node("Shape", "x", "s"), node("Gather", "s one", "rate"), *branches()]
    path = saved(nodes, tensors, [value("x", FLOAT, ("N", 4))])
    check(read_network(Source(path=str(path))), {"x": torch.randn(3, 4)}, path)


@pytest.mark.parametrize("op", ["Loop", "Scan", "SequenceAt", "StringConcat"])
def test_that_what_is_no_graph_of_layers_is_named_with_its_mend(
    op: str, saved: Callable[..., Path]
) -> None:
    path = saved([node(op, "x x", "y")], [], [value("x", FLOAT, (1, 4))])
    with pytest.raises(UserError, match=f"operator {op} at node 'y' is none that can be") as caught:
        read_network(Source(path=str(path)))
    assert caught.value.hint


def test_that_half_precision_opens_as_float_and_says_so(saved: Callable[..., Path]) -> None:
    half = numpy_helper.from_array(np.ones((4, 3), np.float16) / 3, "w")
    inputs = [value("x", TensorProto.FLOAT16, ("N", 4))]
    path = saved([node("MatMul", "x w", "y")], [half], inputs)
    network = read_network(Source(path=str(path)))
    data = torch.randn(3, 4).half()
    expected = data.float() @ torch.full((4, 3), 1 / 3)
    assert torch.allclose(network.outputs(data.float())[0], expected, atol=1e-2)
    assert "The file holds float16; the weights were opened as float32." in network.notes


def test_that_several_inputs_and_outputs_keep_their_order(saved: Callable[..., Path]) -> None:
    nodes = [
        node("Gather", "e words", "g"),
        node("ReduceMean", "g", "m", axes=[1], keepdims=0),
        node("MatMul", "x w", "p"),
        node("Add", "p m", "sum"),
        node("Sigmoid", "m", "gate"),
    ]
    inputs = [value("words", TensorProto.INT64, ("N", 5)), value("x", FLOAT, ("N", 4))]
    path = saved(nodes, [array("e", 9, 3), array("w", 4, 3)], inputs, "sum gate", opset=13)
    network = read_network(Source(path=str(path)))
    assert network.example[0].dtype == torch.int64
    assert int(network.example[0].max()) < 9
    check(network, {"words": torch.randint(0, 9, (3, 5)), "x": torch.randn(3, 4)}, path)


def test_that_layers_of_one_tensor_train_apart_where_they_are_no_twins(
    saved: Callable[..., Path],
) -> None:
    nodes = [
        node("Conv", "x w", "a"),
        node("Relu", "a", "b"),
        node("Conv", "b w", "y", dilations=[2, 2]),
    ]
    path = saved(nodes, [array("w", 3, 3, 1, 1)], [value("x", FLOAT, ("N", 3, 4, 4))])
    network = read_network(Source(path=str(path)))
    first, second = (layer for _, layer in network.layers())
    with torch.no_grad():
        first.get_parameter("weight").zero_()
    assert bool(second.get_parameter("weight").abs().sum() > 0)
