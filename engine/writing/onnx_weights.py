"""Compact weights in an ONNX graph: a small initializer and the nodes that unpack it."""

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from featherweight.engine.bit_packing import packed
from featherweight.engine.methods.precision.codebook import CodebookForm
from featherweight.engine.methods.precision.float16 import Float16Form
from featherweight.engine.methods.precision.integer import IntegerForm
from featherweight.engine.network import Network
from featherweight.engine.weight_forms import StoredForm

SIGNED = {8: TensorProto.INT8, 4: TensorProto.INT4, 2: TensorProto.INT2}
UNSIGNED = {8: TensorProto.UINT8, 4: TensorProto.UINT4, 2: TensorProto.UINT2}
# Sets of operators, and versions of the file, that know integers of so many bits.
OPSETS = {8: 20, 4: 21, 2: 25}
FILE_VERSIONS = {8: 10, 4: 10, 2: 13}
Integers = npt.NDArray[np.signedinteger | np.unsignedinteger]


def needed_opset(network: Network) -> int:
    """Return the set of operators that the stored forms of a network need."""
    forms = [form for form in network.module.modules() if isinstance(form, StoredForm)]
    return OPSETS[min((_bits(form) for form in forms), default=8)]


def put_weights(model: onnx.ModelProto, forms: dict[str, StoredForm]) -> None:
    """Put forms in the place of the graph's weight inputs of these names, in place.

    Integers become DequantizeLinear, shared values Gather, float16 Cast. Where the model's set of
    operators is too old for 4 or 2 bits, they take 8.
    """
    graph = model.graph
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    smallest = min(bits for bits, needed in OPSETS.items() if bits == 8 or opset >= needed)
    nodes: list[onnx.NodeProto] = []
    for name, form in forms.items():
        inputs = [value for value in graph.input if value.name == name]
        if not inputs:
            continue
        graph.input.remove(inputs[0])
        bits = max(_bits(form), smallest)
        model.ir_version = max(model.ir_version, FILE_VERSIONS[bits])
        tensors, made = _unpacking(name, form, bits, _transposing(graph, name))
        graph.initializer.extend(tensors)
        nodes += made
    set_nodes(graph, [*nodes, *graph.node])


def multiply_out(model: onnx.ModelProto, kept: set[str]) -> None:
    """Turn DequantizeLinear of weights into Cast and Mul, but for outputs in `kept`, in place.

    It is the same product. ONNX Runtime does Cast and Mul once, as it loads the file, but
    DequantizeLinear at every run, or it rounds the activations to go with it.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        whole, output = tensors.get(node.input[0] if node.input else ""), node.output[0]
        if node.op_type != "DequantizeLinear" or whole is None or output in kept:
            nodes.append(node)
            continue
        axis = next(a.i for a in node.attribute if a.name == "axis")
        scales = tensors[node.input[1]]
        factors = numpy_helper.to_array(scales)
        if factors.ndim:
            sides = [1] * len(whole.dims)
            sides[axis] = factors.size
            scales.CopyFrom(numpy_helper.from_array(factors.reshape(sides), scales.name))
        floats = f"{whole.name}.float32"
        nodes.append(helper.make_node("Cast", [whole.name], [floats], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [floats, scales.name], [output]))
    set_nodes(model.graph, nodes)


def set_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Put nodes, which may be the graph's own, in the place of all nodes of the graph."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _bits(form: StoredForm) -> int:
    if isinstance(form, IntegerForm | CodebookForm):
        return min(bits for bits in OPSETS if bits >= form.bits)
    return 8


def _transposing(graph: onnx.GraphProto, name: str) -> str:
    """Take out the Transpose that is all that uses a matrix; return its output, else nothing."""
    users = [node for node in graph.node if name in node.input]
    if len(users) != 1 or users[0].op_type != "Transpose":
        return ""
    permutation = next((list(a.ints) for a in users[0].attribute if a.name == "perm"), [1, 0])
    if permutation != [1, 0]:
        return ""
    output: str = users[0].output[0]
    graph.node.remove(users[0])
    return output


def _unpacking(
    name: str, form: StoredForm, bits: int, transposed: str
) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    output = transposed or name
    axis = 1 if transposed else 0

    def turned(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        return values.T if transposed else values

    if isinstance(form, IntegerForm):
        scales = form.parts()["scales"]
        levels = turned(form.levels().numpy())
        whole = integers(f"{name}.integers", levels, SIGNED[bits], bits)
        factors = scales if scales.size > 1 or form.shape[0] == 1 else scales.reshape(())
        sides = numpy_helper.from_array(factors, f"{name}.scales")
        node = helper.make_node("DequantizeLinear", [whole.name, sides.name], [output], axis=axis)
        return [whole, sides], [node]
    if isinstance(form, CodebookForm):
        symbols = turned(form.symbols().values.reshape(form.shape))
        whole = integers(f"{name}.indices", symbols, UNSIGNED[bits], bits)
        table = numpy_helper.from_array(form.parts()["codebooks"], f"{name}.codebook")
        wide = f"{name}.wide"
        cast = helper.make_node("Cast", [whole.name], [wide], to=TensorProto.INT32)
        return [whole, table], [cast, helper.make_node("Gather", [table.name, wide], [output])]
    if isinstance(form, Float16Form):
        half = numpy_helper.from_array(turned(form.values.numpy()), f"{name}.float16")
        node = helper.make_node("Cast", [half.name], [output], to=TensorProto.FLOAT)
        return [half], [node]
    plain = numpy_helper.from_array(turned(form().numpy()), f"{name}.float32")
    return [plain], [helper.make_node("Identity", [plain.name], [output])]


def integers(name: str, values: npt.NDArray[np.generic], kind: int, bits: int) -> onnx.TensorProto:
    """Return an initializer of whole numbers of 8, 4 or 2 bits, several in a byte."""
    low = np.ascontiguousarray(values).astype(np.int16) & ((1 << bits) - 1)
    data = packed(low.astype(np.uint8), bits).tobytes()
    return TensorProto(name=name, data_type=kind, dims=values.shape, raw_data=data)
