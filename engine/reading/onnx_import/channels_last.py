"""Operators of ONNX Runtime that have channels last, as the standard's with channels first."""

from collections.abc import Iterator, Sequence

from onnx import NodeProto, helper

from featherweight.engine.reading.onnx_import.rewriting import Rewriting, rewrites

FIRST, LAST = [0, 3, 1, 2], [0, 2, 3, 1]
# The operator with channels first, its domain, and which inputs have channels besides the first.
TURNED: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "QLinearConv": ("QLinearConv", "", ()),
    "NhwcMaxPool": ("MaxPool", "", ()),
    "NhwcConv": ("Conv", "", ()),
    "NhwcFusedConv": ("FusedConv", "com.microsoft", (3,)),
}


@rewrites(*TURNED, domain="com.microsoft")
def _turned(node: NodeProto, to: Rewriting) -> Iterator[NodeProto]:
    kind, domain, others = TURNED[node.op_type]
    last = node.op_type != "QLinearConv" or to.attributes(node).get("channels_last", 0)
    yield from between_turns(node, to, (kind, domain), others if last else None)


def between_turns(
    node: NodeProto, to: Rewriting, kind: tuple[str, str], others: Sequence[int] | None = ()
) -> Iterator[NodeProto]:
    """Give the operator `kind` and its domain on channels first, with what turns its values.

    `others` are inputs to turn besides the first; with None no value is turned.
    """
    inputs, output = list(node.input), node.output[0]
    for at in () if others is None else (0, *others):
        if at < len(inputs) and inputs[at]:
            turned = to.name(node, f"first{at}")
            yield to.node("Transpose", (inputs[at],), turned, perm=FIRST)
            inputs[at] = turned
    result = output if others is None else to.name(node, "last")
    made = to.like(node, kind[0], inputs, result, without=("channels_last",))
    made.domain = kind[1]
    yield made
    if others is not None:
        yield to.node("Transpose", (result,), output, perm=LAST)


def without_turns(nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """Return nodes where nothing is turned to channels last and at once back again."""
    turned = {node.output[0]: node.input[0] for node in nodes if _turns(node, LAST)}
    back = {node.output[0] for node in nodes if _turns(node, FIRST) and node.input[0] in turned}
    return [
        helper.make_node("Identity", [turned[node.input[0]]], node.output, node.name)
        if node.output and node.output[0] in back
        else node
        for node in nodes
    ]


def _turns(node: NodeProto, order: list[int]) -> bool:
    return node.op_type == "Transpose" and any(
        one.name == "perm" and list(one.ints) == order for one in node.attribute
    )
