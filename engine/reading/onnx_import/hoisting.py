"""The weights of a model that stays as it is, taken out of it: each becomes an input of the model.

They are found where they are read: at the top, in the bodies of loops and in branches.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

from featherweight.engine.onnx_graphs import bodies_of, free_value, graphs_of, value_names
from featherweight.engine.reading.onnx_import.model import OnnxFile
from featherweight.engine.reading.onnx_import.values import Host, UnsupportedError

STANDARD = ("", "ai.onnx")
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
# What reads weights, at which of its inputs, and how its layer calls them.
READERS: dict[str, dict[int, str]] = {
    "MatMul": {1: "weight", 0: "weight"},
    "Gemm": {1: "weight"},
    "Conv": {1: "weight"},
    "ConvTranspose": {1: "weight"},
    "DeformConv": {1: "weight"},
    "Gather": {0: "weight"},
    "LSTM": {1: "weight_ih", 2: "weight_hh"},
    "GRU": {1: "weight_ih", 2: "weight_hh"},
    "RNN": {1: "weight_ih", 2: "weight_hh"},
}
BIASES = {"Gemm": 2, "Conv": 2, "ConvTranspose": 2, "LSTM": 3, "GRU": 3, "RNN": 3}
# What a weight may go through on its way, none of which changes where its rows are.
PASSED = ("Identity", "Cast")
MOST_PASSED = 4
OLDEST_FORMAT = 4
LOOPS = ("Loop", "Scan")
User = tuple[NodeProto, int]


@dataclass
class Weight:
    """A weight of the model: its input's name, its numbers (float32), and what reads it.

    `source` is its name in the file, `position` its place among the inputs of its reader, `tensor`
    its name in the reader's layer. `turned` says that a Transpose stands between the weight, a
    matrix, and its reader.
    """

    name: str
    source: str
    array: Host
    reader: NodeProto
    position: int
    tensor: str
    turned: bool = False


@dataclass
class _Constant:
    """A tensor that a graph holds, and its place among the initializers or the nodes."""

    name: str
    value: TensorProto
    place: int
    is_node: bool


def hoisted(file: OnnxFile, model: ModelProto) -> tuple[ModelProto, list[Weight]]:
    """Return the model with its weights as inputs behind its own, and these weights.

    `model` is used up. What it keeps in files beside is put into it, as `file` checks it.
    Raises UnsupportedError where it has what could take any memory or time, and what damage does.
    """
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    own = [given for given in graph.input if given.name not in constants]
    inputs = [type(given).FromString(given.SerializeToString()) for given in own]
    graphs = list(graphs_of(graph))
    _check(model, graphs)
    taken = value_names(graph)
    weights, added = [], []
    for one in graphs:
        users, removed = _users(one), list[_Constant]()
        for constant in list(_constants(one)):
            weight = _weight(constant, users, file)
            if weight is None:
                continue
            if one is not graph:
                # Another graph may have a value of the same name.
                weight.name = free_value(weight.name, taken)
                for node, position in users[constant.name]:
                    node.input[position] = weight.name
            kind, shape = constant.value.data_type, list(weight.array.shape)
            added.append(helper.make_tensor_value_info(weight.name, kind, shape))
            weights.append(weight)
            removed.append(constant)
        _remove(one, removed)
    del graph.input[:]
    graph.input.extend([*inputs, *added])
    for one in graphs:
        _bring(one, file)
    bare = ModelProto(ir_version=max(model.ir_version, OLDEST_FORMAT), graph=graph)
    for entry in model.opset_import:
        domain = "" if entry.domain in STANDARD else entry.domain
        bare.opset_import.append(helper.make_opsetid(domain, entry.version))
    # A message keeps the memory of what was taken out of it.
    return ModelProto.FromString(bare.SerializeToString()), weights


def _check(model: ModelProto, graphs: list[GraphProto]) -> None:
    if model.functions:
        raise UnsupportedError("functions are not all put where they are called")
    for graph in graphs:
        if graph.sparse_initializer:
            raise UnsupportedError("sparse initializers are not read")
        if any(tensor.data_type == TensorProto.STRING for tensor in _tensors(graph)):
            raise UnsupportedError("words are not read")
        for node in graph.node:
            if node.op_type in LOOPS and not all(len(body.node) for body in bodies_of(node)):
                raise UnsupportedError("loop computes nothing")
            if any(map(_is_words, node.attribute)):
                # Words can grow without end, and nothing bounds their memory.
                raise UnsupportedError("words are not read")


def _is_words(attribute: AttributeProto) -> bool:
    if attribute.name == "to":
        return bool(attribute.i == TensorProto.STRING)
    several = bool(attribute.strings) and attribute.name != "activations"
    return several or attribute.name == "value_string"


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def _bring(graph: GraphProto, file: OnnxFile) -> None:
    for tensor in _tensors(graph):
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.CopyFrom(file.with_data(tensor))


def _users(graph: GraphProto) -> dict[str, list[User]]:
    """Return who reads each name, in the graphs of nodes too."""
    users: dict[str, list[User]] = {}
    for one in graphs_of(graph):
        for node in one.node:
            for position, name in enumerate(node.input):
                users.setdefault(name, []).append((node, position))
    return users


def _constants(graph: GraphProto) -> Iterator[_Constant]:
    results = {result.name for one in graphs_of(graph) for result in one.output}
    for place, tensor in enumerate(graph.initializer):
        if tensor.name not in results:
            yield _Constant(tensor.name, tensor, place, is_node=False)
    for place, node in enumerate(graph.node):
        if node.op_type == "Constant" and node.domain in STANDARD and len(node.output) == 1:
            held = [one.t for one in node.attribute if one.name == "value"]
            if held and node.output[0] not in results:
                yield _Constant(node.output[0], held[0], place, is_node=True)


def _weight(constant: _Constant, users: dict[str, list[User]], file: OnnxFile) -> Weight | None:
    value, readers = constant.value, users.get(constant.name, [])
    if value.data_type not in FLOATS or not value.dims or not all(value.dims):
        return None
    for node, position in readers:
        turned = False
        for _ in range(MOST_PASSED):
            onward = users.get(node.output[0], []) if node.output else []
            turns = node.op_type == "Transpose" and len(value.dims) == 2 and _turns(node)
            if (node.op_type not in PASSED and not turns) or not onward:
                break
            turned, (node, position) = turned ^ turns, onward[0]
        tensor = _tensor(node, position, len(value.dims))
        if tensor and (tensor != "bias" or len(readers) == 1):
            array = np.array(file.array(value), np.float32)
            return Weight(constant.name, constant.name, array, node, position, tensor, turned)
    return None


def _turns(node: NodeProto) -> bool:
    return bool(attribute_of(node, "perm", [1, 0]) == [1, 0])


def _tensor(node: NodeProto, position: int, rank: int) -> str:
    """Return the name of a weight in the layer of its reader, empty where it is none."""
    if node.domain not in STANDARD:
        return f"weight_{position}" if rank > 1 else ""
    if BIASES.get(node.op_type) == position:
        return "bias"
    if node.op_type == "Einsum":
        return f"weight_{position}" if rank > 1 else ""
    return READERS.get(node.op_type, {}).get(position, "") if rank > 1 else ""


def attribute_of(node: NodeProto, name: str, usual: Any) -> Any:
    """Return an attribute of a node as plain numbers, or what it is where it is left out."""
    found = next((one for one in node.attribute if one.name == name), None)
    if found is None:
        return usual
    value = helper.get_attribute_value(found)
    return value if isinstance(value, int | float) else list(value)


def _remove(graph: GraphProto, constants: list[_Constant]) -> None:
    for constant in reversed(constants):
        if constant.is_node:
            del graph.node[constant.place]
        else:
            del graph.initializer[constant.place]
