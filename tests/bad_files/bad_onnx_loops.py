"""ONNX files that only ONNX Runtime could run, and should not: loops, words, sequences, its own."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from bad_onnx import HUGE, floats, ints, model, node
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

OWN = "com.microsoft"


def models() -> Iterator[tuple[str, ModelProto]]:
    """Give the models by name."""
    yield from (*_loops(), *_branches(), *_operators())


def _loops() -> Iterator[tuple[str, ModelProto]]:
    yield "loop-of-nothing", _loop([], "v")
    yield "loop-of-doubling", _loop([node("Concat", "v v", "w", axis=0)])
    yield "loop-that-grows-at-once", _loop([node("Expand", "v s", "w")])
    yield "loop-that-reads-itself", _loop([node("Add", "v w", "w")])
    yield "loop-that-reads-nothing", _loop([node("Add", "v nowhere", "w")])
    yield "loop-of-negative-length", _loop([node("Relu", "v", "w")], count=-5)
    yield "loop-in-a-loop", _loop([node("Loop", "n go v", "w", body=_body([], "v"))])
    yield "scan-over-nothing", model([node("Scan", "x", "y", body=_body([]), num_scan_inputs=0)])
    yield "scan-over-many", model([node("Scan", "x", "y", body=_body([]), num_scan_inputs=HUGE)])
    words = numpy_helper.from_array(np.array(["a" * 99], object), "t")
    yield (
        "loop-of-words",
        _loop([helper.make_node("Constant", [], ["t"], value=words), node("Relu", "v", "w")]),
    )
    cast = node("Cast", "v", "t", to=TensorProto.STRING)
    yield "loop-that-casts-to-words", _loop([cast, node("Relu", "v", "w")])


def _loop(nodes: list[NodeProto], result: str = "w", count: int = 9) -> ModelProto:
    tensors = [ints("s", 1 << 20, 1 << 18), numpy_helper.from_array(np.array(True), "go")]
    tensors.append(numpy_helper.from_array(np.array(HUGE if count == 9 else count), "n"))
    return model([node("Loop", "n go x", "y", body=_body(nodes, result))], tensors)


def _body(nodes: list[NodeProto], result: str = "w") -> GraphProto:
    inputs: list[Any] = [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
    ]
    outputs = [inputs[1], helper.make_tensor_value_info(result, TensorProto.FLOAT, None)]
    return helper.make_graph(nodes, "body", inputs, outputs)


def _branches() -> Iterator[tuple[str, ModelProto]]:
    for name, shape in (("tebibyte", (1 << 20, 1 << 18)), ("negative", (-4, 4))):
        inner = [node("ConstantOfShape", "s", "b")]
        other = [node("Relu", "x", "a")]
        graphs = [
            helper.make_graph(nodes, "g", [], [helper.make_tensor_value_info(one, 1, None)])
            for nodes, one in ((inner, "b"), (other, "a"))
        ]
        decided = [node("ReduceSum", "x", "t", keepdims=0), node("Cast", "t", "c", to=9)]
        yield (
            f"branch-of-{name}",
            model(
                [*decided, node("If", "c", "y", then_branch=graphs[0], else_branch=graphs[0])],
                [ints("s", *shape)],
            ),
        )
        yield (
            f"branch-without-one-{name}",
            model([*decided, node("If", "c", "y", then_branch=graphs[1])], [ints("s", *shape)]),
        )


def _operators() -> Iterator[tuple[str, ModelProto]]:
    yield "sequence-at-nowhere", _sequence(99)
    yield "sequence-as-output", model([node("SequenceConstruct", "x x")])
    yield "sequence-of-one-as-x", _sequence(-HUGE)
    heads = [("none", 0), ("negative", -2), ("many", HUGE), ("odd", 3)]
    for name, count in heads:
        yield f"heads-{name}", _own("x x x - - l t", count)
    yield "heads-without-inputs", _own("x", 2)
    yield "own-with-absurd-weights", _own("x w w - - l t", 2)
    custom = helper.make_node("Run", ["x"], ["y"], domain="evil.com", library="evil.so")
    made = model([custom])
    made.opset_import.append(helper.make_opsetid("evil.com", 1))
    yield "operator-of-a-library", made
    made = model([helper.make_node("EPContext", ["x"], ["y"], domain=OWN, ep_cache_context="/x")])
    made.opset_import.append(helper.make_opsetid(OWN, 1))
    yield "operator-of-a-cache", made


def _sequence(at: int) -> ModelProto:
    place = numpy_helper.from_array(np.array(at), "at")
    return model([node("SequenceConstruct", "x x", "both"), node("SequenceAt", "both at")], [place])


def _own(inputs: str, heads: int) -> ModelProto:
    names = [name.strip("-") for name in inputs.split()]
    made = model(
        [
            helper.make_node(
                "GroupQueryAttention",
                names,
                ["y", "k", "v"],
                domain=OWN,
                num_heads=heads,
                kv_num_heads=heads,
            )
        ],
        [
            floats("w", 1, 4, 1 << 12),
            numpy_helper.from_array(np.array([1 << 30], np.int32), "l"),
            numpy_helper.from_array(np.array(-7, np.int32), "t"),
        ],
        (1, 1, 4),
    )
    made.opset_import.append(helper.make_opsetid(OWN, 1))
    return made
