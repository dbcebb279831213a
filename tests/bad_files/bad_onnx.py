"""ONNX files that no exporter writes: crafted to loop, to fill memory, to read other files."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    helper,
    numpy_helper,
)

Make = Any
HUGE = 1 << 40


def model(
    nodes: list[NodeProto],
    tensors: list[TensorProto] | None = None,
    shape: tuple[Any, ...] = (1, 4),
    output: str = "y",
    opset: int = 20,
    **more: Any,
) -> ModelProto:
    """Return a model from `x` (float32) to `output`, checked by nobody."""
    graph = helper.make_graph(
        nodes,
        "crafted",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        tensors or [],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **more)
    made.ir_version = 9
    return made


def node(op: str, inputs: str, outputs: str = "y", **attributes: Any) -> NodeProto:
    """Return a node; inputs and outputs are names between blanks."""
    made = helper.make_node(op, inputs.split(" "), outputs.split(" "), name=f"the_{op}")
    for key, value in attributes.items():
        kind = AttributeProto.INTS if value == [] else None
        made.attribute.append(helper.make_attribute(key, value, attr_type=kind))
    return made


def ints(name: str, *values: int) -> TensorProto:
    """Return a constant of whole numbers."""
    return numpy_helper.from_array(np.array(values, np.int64), name)


def floats(name: str, *shape: int) -> TensorProto:
    """Return a constant of ones."""
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def huge(name: str, *dims: int) -> TensorProto:
    """Return a constant that says it has these sizes and holds next to nothing."""
    return TensorProto(name=name, dims=dims, data_type=TensorProto.FLOAT, raw_data=b"\0" * 8)


def files() -> Iterator[tuple[str, Make]]:
    """Give names of cases, and what writes the file of one at a path."""
    for name, made in (*_loops(), *_structure()):
        yield name, lambda path, made=made: path.write_bytes(made.SerializeToString())
    yield from _outside()
    yield "external-beyond-its-end", lambda path: _external(path, "data", offset=1 << 40)
    yield "external-with-negative-offset", lambda path: _external(path, "data", offset=-4)
    yield "external-with-absurd-length", lambda path: _external(path, "data", length=1 << 50)
    yield "external-that-is-missing", lambda path: _external(path, "nothing")
    yield "external-that-is-text", lambda path: _external(path, "data", offset="ten")


def _loops() -> Iterator[tuple[str, ModelProto]]:
    yield "a-node-reads-itself", model([node("Add", "x y", "y")])
    yield (
        "two-nodes-read-each-other",
        model([node("Add", "x b", "a"), node("Relu", "a", "b")], output="b"),
    )
    yield "nodes-out-of-order", model([node("Relu", "a"), node("Relu", "x", "a")])
    yield "input-from-nowhere", model([node("Add", "x nothing")])
    yield "a-function-calls-itself", _functions([[("f0", "a", "b")]])
    yield "functions-call-in-a-circle", _functions([[("f1", "a", "b")], [("f0", "a", "b")]])
    yield (
        "functions-double-forty-times",
        _functions(
            [[(f"f{at + 1}", "a", "m"), (f"f{at + 1}", "m", "b")] for at in range(40)]
            + [[("Relu", "a", "b")]]
        ),
    )
    for depth in (5, 25):
        yield f"branches-in-branches-{depth}", _nested(depth)
    loop = helper.make_graph([node("Identity", "c", "d")], "body", [], [])
    yield "a-loop", model([node("Loop", "n c x", "y", body=loop)], [ints("n", HUGE)])
    yield "a-scan", model([node("Scan", "x", "y", body=loop, num_scan_inputs=1)])


def _functions(bodies: list[list[tuple[str, str, str]]]) -> ModelProto:
    made = model([helper.make_node("f0", ["x"], ["y"], domain="local")])
    made.opset_import.append(helper.make_opsetid("local", 1))
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("local", 1)]
    for at, body in enumerate(bodies):
        calls = [
            helper.make_node(op, [one], [other], domain="" if op == "Relu" else "local")
            for op, one, other in body
        ]
        made.functions.append(helper.make_function("local", f"f{at}", ["a"], ["b"], calls, imports))
    return made


def _nested(depth: int) -> ModelProto:
    nodes = [node("Relu", "x", "r")]
    for at in range(depth):
        graph = GraphProto(name=f"g{at}")
        graph.node.extend(nodes)
        graph.output.append(helper.make_tensor_value_info(nodes[-1].output[0], 1, None))
        other = {"else_branch": graph} if at < 3 else {}
        nodes = [node("If", "yes", f"o{at}", then_branch=graph, **other)]
    yes = numpy_helper.from_array(np.array(True), "yes")
    return model(nodes, [yes], output=nodes[-1].output[0])


def _structure() -> Iterator[tuple[str, ModelProto]]:
    yield "no-nodes", model([])
    yield "an-output-that-is-the-input", model([node("Relu", "x")], output="x")
    yield "an-output-from-nowhere", model([node("Relu", "x")], output="z")
    yield "a-constant-output", model([node("Relu", "w")], [floats("w", 4)])
    for version in (0, 1, 6, 99, HUGE):
        yield f"operator-set-{version}", model([node("Relu", "x")], opset=version)
    yield "a-foreign-domain", model([helper.make_node("Relu", ["x"], ["y"], domain="evil.com")])
    text = TensorProto(name="w", dims=[1], data_type=TensorProto.STRING, string_data=[b"x"])
    yield "words-as-weights", model([node("Add", "x w")], [text])
    yield (
        "a-type-that-is-none",
        model(
            [node("Add", "x w")],
            [TensorProto(name="w", dims=[2], data_type=77, raw_data=b"12345678")],
        ),
    )
    yield (
        "names-with-line-breaks",
        model([helper.make_node("No\npe\x1b[31m", ["x"], ["y"], name="a\nb" * 90)]),
    )
    yield (
        "names-that-are-code",
        model(
            [
                helper.make_node(
                    "MatMul", ["x", "__import__('os').system('touch mark').weight"], ["y"]
                )
            ],
            [floats("__import__('os').system('touch mark').weight", 4, 4)],
        ),
    )
    same = model([node("Relu", "x"), node("Exp", "x")])
    same.graph.input.append(same.graph.input[0])
    yield "two-inputs-of-one-name", same
    words = model([node("Relu", "x")])
    words.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    yield "an-input-of-words", words
    untyped = model([node("Relu", "x")])
    untyped.graph.input[0].ClearField("type")
    yield "an-input-without-a-type", untyped
    sparse = model([node("Relu", "x")])
    sparse.graph.sparse_initializer.add()
    yield "a-sparse-weight", sparse
    yield "only-a-version", ModelProto(ir_version=9)


def _outside() -> Iterator[tuple[str, Make]]:
    for name, location in {
        "above": "../outside.bin",
        "absolute": "/etc/hostname",
        "far-above": "a/../../../../../etc/hostname",
        "nowhere": "",
        "a-folder": ".",
        "with-a-zero-byte": "a\0b",
        "much-too-long": "a" * 5000,
    }.items():
        yield f"external-{name}", lambda path, location=location: _external(path, location)
    yield "external-through-a-link", _through_a_link
    yield "external-in-a-pipe", _in_a_pipe


def _external(path: Path, location: str, offset: Any = 0, length: int | None = None) -> None:
    (path.parent / "data").write_bytes(b"\0" * 64)
    (path.parent.parent / "outside.bin").write_bytes(b"\0" * 64)
    weight = TensorProto(name="w", dims=[4, 4], data_type=TensorProto.FLOAT)
    weight.data_location = TensorProto.EXTERNAL
    entries: dict[str, Any] = {"location": location, "offset": offset}
    if length is not None:
        entries["length"] = length
    for key, value in entries.items():
        weight.external_data.add(key=key, value=str(value))
    path.write_bytes(model([node("MatMul", "x w")], [weight]).SerializeToString())


def _through_a_link(path: Path) -> None:
    (path.parent / "link").unlink(missing_ok=True)
    (path.parent / "link").symlink_to("/etc/hostname")
    _external(path, "link")


def _in_a_pipe(path: Path) -> None:
    pipe = path.parent / "pipe"
    if not pipe.exists():
        os.mkfifo(pipe)
    _external(path, "pipe")


def good() -> bytes:
    """Return a small good file with a convolution, a norm and a linear layer."""
    rng = np.random.default_rng(0)
    weights = {
        "conv.weight": (4, 1, 3, 3),
        "conv.bias": (4,),
        "fc.weight": (3, 64),
        "fc.bias": (3,),
    }
    tensors = [
        numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
        for name, shape in weights.items()
    ]
    nodes = [
        node("Conv", "x conv.weight conv.bias", "a", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", "a", "b"),
        node("Flatten", "b", "c"),
        node("Gemm", "c fc.weight fc.bias", transB=1),
    ]
    made = model(nodes, tensors, ("N", 1, 8, 8))
    content: bytes = made.SerializeToString()
    return content
