"""Products by weights of 4 or 8 bits as they are, without unpacking them.

ONNX Runtime takes DequantizeLinear along the inputs and the product behind it as one, and rounds
the layer's inputs to 8 bits, block by block. Turned the other way the weights would be unpacked at
every run, which is several times slower than floats.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from featherweight.engine.bit_packing import packed
from featherweight.engine.methods.precision.integer import IntegerForm
from featherweight.engine.weight_forms import StoredForm
from featherweight.engine.writing.onnx_weights import (
    multiply_out,
    put_weights,
    set_nodes,
    transposing,
)

KINDS = {4: TensorProto.INT4, 8: TensorProto.INT8}
BYTE = 8
# The sizes of blocks that the kernel has; it spreads a scale of a row or of all by itself.
SIZES = (16, 32, 64, 128, 256)
# From here on there are 4 bits, and blocks.
FIRST_OPSET = 21
ZERO = "products.zero"


def multiplied(forms: Mapping[str, StoredForm]) -> dict[str, IntegerForm]:
    """Return the forms that a product may take as they are."""
    return {
        name: form
        for name, form in forms.items()
        if isinstance(form, IntegerForm)
        and form.bits in KINDS
        and len(form.shape) == 2
        and (form.scales.ndim < 2 or _block_size(form) in SIZES)
    }


def with_products(
    model: onnx.ModelProto, forms: Mapping[str, StoredForm]
) -> tuple[onnx.ModelProto, set[str]]:
    """Return a copy in which products take small weights as they are, and which weights these are.

    `forms` are those of the graph's weight inputs; the others are unpacked to floats.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    done = put_products(made, multiplied(forms))
    kept = {node.output[0] for node in made.graph.node if node.op_type == "DequantizeLinear"}
    put_weights(made, {name: form for name, form in forms.items() if name not in done})
    multiply_out(made, kept)
    return made, done


def put_products(model: onnx.ModelProto, forms: Mapping[str, IntegerForm]) -> set[str]:
    """Put forms in the place of the graph's weight inputs of these names, in place.

    Returns the names of those that took the form: matrices that only products multiply by.
    """
    graph = model.graph
    opset = max(entry.version for entry in model.opset_import if entry.domain == "")
    nodes: list[onnx.NodeProto] = []
    done, products = set(), set()
    for name, form in forms.items():
        whole_bytes = form.bits == BYTE and form.scales.ndim < 2
        output = _turned(graph, name) if whole_bytes or opset >= FIRST_OPSET else ""
        if not output:
            continue
        graph.input.remove(next(value for value in graph.input if value.name == name))
        whole, scales = _tensors(name, form)
        graph.initializer.extend([whole, scales])
        inputs, settings = [whole.name, scales.name], _axis(form)
        nodes.append(helper.make_node("DequantizeLinear", inputs, [output], **settings))
        done.add(name)
        products.add(output)
    nodes += [part for node in graph.node for part in _plain_product(node, products)]
    _part_with_relu(graph, nodes, products)
    set_nodes(graph, nodes)
    return done


def _tensors(name: str, form: IntegerForm) -> tuple[TensorProto, TensorProto]:
    levels = np.ascontiguousarray(form.levels().numpy().T)
    low = levels.view(np.uint8).reshape(-1) & np.uint8((1 << form.bits) - 1)
    whole = TensorProto(
        name=f"{name}.integers",
        data_type=KINDS[form.bits],
        dims=levels.shape,
        raw_data=packed(low, form.bits).tobytes(),
    )
    scales = form.scales.float().numpy()
    # One scale has to be a scalar, which contiguous arrays never are.
    factors = scales.reshape(()) if scales.size == 1 else np.ascontiguousarray(scales.T)
    return whole, numpy_helper.from_array(factors, f"{name}.scales")


def _axis(form: IntegerForm) -> dict[str, Any]:
    if form.scales.numel() == 1:
        return {}
    return {"axis": 0, "block_size": _block_size(form)} if form.scales.ndim == 2 else {"axis": 1}


def _block_size(form: IntegerForm) -> int:
    """Return how many inputs share a scale; 0 where the blocks are uneven."""
    inputs, groups = form.shape[1], form.scales.shape[1]
    return inputs // groups if inputs % groups == 0 else 0


def _part_with_relu(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], weights: set[str]) -> None:
    """Write a ReLU behind these products as Max: ONNX Runtime 1.32 fuses no product before one."""
    results = {node.output[0] for node in nodes if weights.intersection(node.input)}
    results |= {
        node.output[0]
        for node in nodes
        if node.op_type == "Add" and results.intersection(node.input)
    }
    found = [node for node in nodes if node.op_type == "Relu" and node.input[0] in results]
    for node in found:
        node.op_type = "Max"
        node.input.append(ZERO)
    if found:
        graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), ZERO))


def _plain_product(node: onnx.NodeProto, weights: set[str]) -> list[onnx.NodeProto]:
    """Return Gemm by these weights as MatMul and Add, which fuse with what follows later."""
    if node.op_type != "Gemm" or node.input[1] not in weights:
        return [node]
    product = node.output[0] if len(node.input) == 2 else f"{node.output[0]}.product"
    made = [helper.make_node("MatMul", list(node.input[:2]), [product])]
    if len(node.input) == 3:
        made.append(helper.make_node("Add", [product, node.input[2]], list(node.output)))
    return made


def _turned(graph: onnx.GraphProto, name: str) -> str:
    """Have products read a weight with its inputs first, in place; return its name there.

    Returns nothing, with nothing changed, where something else than plain products uses it.
    """
    users = [node for node in graph.node if name in node.input]
    if users and all(_is_product(node, turned=1) and node.input[1] == name for node in users):
        for node in users:
            node.input[1] = f"{name}.turned"
            next(each for each in node.attribute if each.name == "transB").i = 0
        return f"{name}.turned"
    turned = {output for node in users if node.op_type == "Transpose" for output in node.output}
    products = [node for node in graph.node if turned.intersection(node.input)]
    if products and all(_is_product(node) and node.input[1] in turned for node in products):
        return transposing(graph, name)
    return ""


def _is_product(node: onnx.NodeProto, turned: int = 0) -> bool:
    usual = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": turned}
    given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    plain = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} | given == usual
    return plain and (node.op_type == "Gemm" or (node.op_type == "MatMul" and not turned))
