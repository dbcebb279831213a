"""ONNX files that no graph of layers can hold: loops, branches, sequences, ONNX Runtime's own."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
RANDOM = np.random.default_rng(7)


def array(name: str, *shape: int, kind: Any = np.float32) -> TensorProto:
    """Return a constant of random numbers."""
    return numpy_helper.from_array((RANDOM.normal(size=shape) / 4).astype(kind), name)


def whole(name: str, *values: int, alone: bool = False) -> TensorProto:
    """Return a constant of whole numbers, or of one number."""
    return numpy_helper.from_array(np.array(values[0] if alone else values, np.int64), name)


def value(name: str, kind: int = FLOAT, shape: Any = None) -> onnx.ValueInfoProto:
    """Return an input or an output of a graph."""
    return helper.make_tensor_value_info(name, kind, shape)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    """Return a node; inputs and outputs are names between blanks, - is one left out."""
    names = [name.strip("-") for name in inputs.split()]
    return helper.make_node(op, names, outputs.split(), f"the_{op}_{outputs[:1]}", **attributes)


def saved(path: Path, graph: GraphProto, opset: int = 18, **more: int) -> Path:
    """Write a model; `more` are versions of other sets of operators, _ in their names a dot."""
    imports = [helper.make_opsetid("", opset)]
    imports += [helper.make_opsetid(name.replace("_", "."), at) for name, at in more.items()]
    model = helper.make_model(graph, opset_imports=imports)
    model.ir_version = 10
    path.write_bytes(model.SerializeToString())
    return path


def loop(path: Path, opset: int = 18, kind: Any = np.float32) -> Path:
    """Write a language model with a loop over its steps: weights inside and outside of its body."""
    body = helper.make_graph(
        [
            node("Gather", "x i", "step", axis=1),
            node("MatMul", "step rnn.input.weight", "a"),
            node("MatMul", "h inner", "b"),
            node("Add", "a b", "c"),
            node("Tanh", "c", "next"),
            node("Identity", "go", "on"),
        ],
        "body",
        [value("i", INT64, []), value("go", BOOL, []), value("h")],
        [value("on", BOOL, []), value("next")],
        [array("inner", 48, 48)],
    )
    nodes = [
        node("Gather", "words.weight ids", "x"),
        node("Shape", "ids", "sizes"),
        node("Gather", "sizes one", "steps"),
        node("Slice", "sizes zero one_each", "rows"),
        node("Concat", "rows wide", "start", axis=0),
        node("ConstantOfShape", "start", "h0"),
        node("Loop", "steps - h0", "h", body=body),
        node("Gemm", "h fc.weight fc.bias", "y", transB=1),
    ]
    tensors = [
        array("words.weight", 90, 40),
        array("rnn.input.weight", 40, 48),
        array("fc.weight", 20, 48),
        array("fc.bias", 20),
        *(whole("one", 1, alone=True), whole("zero", 0), whole("one_each", 1), whole("wide", 48)),
    ]
    if kind == np.float16:
        nodes[3:3] = [node("Cast", "narrow.weight", "turned", to=FLOAT)]
        nodes[-1] = node("Gemm", "h turned fc.bias", "y", transB=1)
        tensors[2] = array("narrow.weight", 20, 48, kind=np.float16)
    graph = helper.make_graph(
        nodes, "net", [value("ids", INT64, ["N", 7])], [value("y", FLOAT, ["N", 20])], tensors
    )
    return saved(path, graph, opset)


def scan(path: Path) -> Path:
    """Write a network that scans over its rows."""
    body = helper.make_graph(
        [
            node("MatMul", "row inner.weight", "a"),
            node("Add", "a before", "after"),
            node("Relu", "after", "out"),
        ],
        "body",
        [value("before", FLOAT, [32]), value("row", FLOAT, [32])],
        [value("after", FLOAT, [32]), value("out", FLOAT, [32])],
    )
    nodes = [
        node("MatMul", "x first.weight", "rows"),
        node("Scan", "zeros rows", "last y", body=body, num_scan_inputs=1),
    ]
    tensors = [
        *(array("first.weight", 24, 32), array("inner.weight", 32, 32)),
        numpy_helper.from_array(np.zeros(32, np.float32), "zeros"),
    ]
    graph = helper.make_graph(
        nodes, "net", [value("x", FLOAT, [5, 24])], [value("last"), value("y")], tensors
    )
    return saved(path, graph)


def branch(path: Path) -> Path:
    """Write a network that decides by its data which of two convolutions it takes."""
    graphs = [
        helper.make_graph(
            [node("Conv", "x w", f"{name}_y", pads=[1, 1, 1, 1])],
            *(name, [], [value(f"{name}_y")]),
            [array("w", 16, 8, 3, 3)],
        )
        for name in ("one", "other")
    ]
    nodes = [
        node("ReduceSum", "x", "sum", keepdims=0),
        node("Greater", "sum zero", "more"),
        node("If", "more", "y", then_branch=graphs[0], else_branch=graphs[1]),
    ]
    zero = numpy_helper.from_array(np.float32(0), "zero")
    inputs = [value("x", FLOAT, ["N", 8, 6, 6])]
    return saved(path, helper.make_graph(nodes, "net", inputs, [value("y")], [zero]))


def several(path: Path) -> Path:
    """Write a network with a sequence, an optional, and an LSTM of several lengths."""
    nodes = [
        node("SequenceConstruct", "x x", "both"),
        node("SequenceAt", "both one", "again"),
        node("Optional", "again", "maybe"),
        node("OptionalGetElement", "maybe", "z"),
        node("LSTM", "z W R B lengths", "all", hidden_size=16),
        node("Squeeze", "all axis", "flat"),
        node("NonZero", "flat", "y"),
        node("MatMul", "flat out.weight", "other"),
    ]
    tensors = [
        *(array("W", 1, 64, 24), array("R", 1, 64, 16), array("B", 1, 128)),
        numpy_helper.from_array(np.array([5, 3, 1], np.int32), "lengths"),
        *(array("out.weight", 16, 12), whole("one", 1, alone=True), whole("axis", 1)),
    ]
    inputs, outputs = [value("x", FLOAT, [5, 3, 24])], [value("y", INT64), value("other")]
    return saved(path, helper.make_graph(nodes, "net", inputs, outputs, tensors))


def decoder(path: Path) -> Path:
    """Write a step of a decoder with past keys and values, by an operator of ONNX Runtime's own."""
    nodes = [
        node("MatMul", "x q.weight", "query"),
        node("MatMul", "x k.weight", "key"),
        node("MatMul", "x v.weight", "value"),
        node(
            "GroupQueryAttention",
            "query key value past_key past_value lengths total",
            "mixed present_key present_value",
            num_heads=2,
            kv_num_heads=2,
            domain="com.microsoft",
        ),
        node("MatMul", "mixed o.weight", "y"),
    ]
    tensors = [array(f"{name}.weight", 32, 32) for name in "qkvo"]
    tensors += [
        numpy_helper.from_array(np.array([4], np.int32), "lengths"),
        numpy_helper.from_array(np.array(5, np.int32), "total"),
    ]
    inputs = [value("x", FLOAT, [1, 1, 32])]
    inputs += [value(f"past_{name}", FLOAT, [1, 2, 4, 16]) for name in ("key", "value")]
    outputs = [value("y"), value("present_key"), value("present_value")]
    return saved(path, helper.make_graph(nodes, "net", inputs, outputs, tensors), com_microsoft=1)


FILES = {one.__name__: one for one in (loop, scan, branch, several, decoder)}
