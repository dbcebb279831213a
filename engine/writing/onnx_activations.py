"""Static quantization of activations, so that ONNX Runtime computes 8-bit layers in integers.

Activations are unsigned with 7 bits used of 8 within the calibrated range: processors without
8-bit dot products add pairs of products in 16 bits, which 255 times 127 twice would overflow.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from featherweight.engine.writing.onnx_weights import set_nodes

Array = npt.NDArray[np.generic]
OPERATORS = ("Conv", "Gemm", "MatMul")
LEVELS = 127
OUTLIERS = 1e-4
LARGEST_BIAS = 2**30
MOST_VALUES = 2**20


@dataclass(frozen=True)
class Range:
    """The scale and the zero point of an activation."""

    scale: float
    zero: int


def integer_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the nodes that ONNX Runtime can compute in integers: 8-bit weights, float inputs."""
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    dequantized = {
        node.output[0]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and kinds.get(node.input[0]) == TensorProto.INT8
    }
    return [
        node
        for node in model.graph.node
        if node.op_type in OPERATORS and node.input[1] in dequantized
    ]


def quantize_activations(
    model: onnx.ModelProto, calibration: Iterable[Mapping[str, Array]]
) -> set[str]:
    """Put pairs of QuantizeLinear and DequantizeLinear around 8-bit layers, in place.

    `calibration` are batches of inputs by name; ranges reach to the 99.99th percentile. Returns
    the weights of the layers that now run in integers, by the names they are read under.
    """
    graph = model.graph
    nodes = integer_nodes(model)
    names = dict.fromkeys(name for node in nodes for name in (node.input[0], _result(graph, node)))
    outputs = {value.name for value in graph.output}
    ranges = _ranges(model, [name for name in names if name not in outputs], calibration)
    done = [node for node in nodes if node.input[0] in ranges and _bias_fits(graph, node, ranges)]
    for node in done:
        _quantize_bias(graph, node, ranges)
    used = {name for node in done for name in (node.input[0], _result(graph, node))}
    _put_pairs(graph, {name: ranges[name] for name in ranges if name in used})
    return {node.input[1] for node in done}


def _result(graph: onnx.GraphProto, node: onnx.NodeProto) -> str:
    """Return what leaves a layer: the output of the ReLU behind it, where one follows alone."""
    output: str = node.output[0]
    users = [user for user in graph.node if output in user.input]
    if len(users) == 1 and users[0].op_type == "Relu":
        return str(users[0].output[0])
    return output


def _ranges(
    model: onnx.ModelProto, names: list[str], calibration: Iterable[Mapping[str, Array]]
) -> dict[str, Range]:
    watched = onnx.ModelProto.FromString(model.SerializeToString())
    known = {value.name for value in (*watched.graph.input, *watched.graph.output)}
    inner = [name for name in names if name not in known]
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inner
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options)
    low, high = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for batch in calibration:
        found = dict(zip(inner, session.run(inner, dict(batch)), strict=True)) | dict(batch)
        for name in names:
            values = found[name].reshape(-1)
            ends = np.quantile(values[:: -(-values.size // MOST_VALUES)], (OUTLIERS, 1 - OUTLIERS))
            low[name] = min(low[name], float(ends[0]))
            high[name] = max(high[name], float(ends[1]))
    return {name: _range(low[name], high[name]) for name in names}


def _range(low: float, high: float) -> Range:
    scale = (high - low) / LEVELS or 1.0
    return Range(scale, round(-low / scale))


def _bias_fits(graph: onnx.GraphProto, node: onnx.NodeProto, ranges: dict[str, Range]) -> bool:
    if len(node.input) < 3:
        return True
    bias = _initializer(graph, node.input[2])
    if bias is None:
        return False
    scales = _weight_scales(graph, node) * ranges[node.input[0]].scale
    return bool((np.abs(bias) / scales < LARGEST_BIAS).all())


def _quantize_bias(graph: onnx.GraphProto, node: onnx.NodeProto, ranges: dict[str, Range]) -> None:
    if len(node.input) < 3:
        return
    name = node.input[2]
    bias = _initializer(graph, name)
    assert bias is not None
    scales = (_weight_scales(graph, node) * ranges[node.input[0]].scale).astype(np.float32)
    scales = np.broadcast_to(scales, bias.shape).copy()
    whole = np.round(bias / scales).astype(np.int32)
    made = [
        numpy_helper.from_array(whole, f"{name}.integers"),
        numpy_helper.from_array(scales, f"{name}.scales"),
    ]
    graph.initializer.extend(made)
    output = f"{name}.dequantized"
    inputs = [tensor.name for tensor in made]
    graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, [output], axis=0))
    node.input[2] = output
    if not any(name in user.input for user in graph.node):
        graph.initializer.remove(next(t for t in graph.initializer if t.name == name))


def _put_pairs(graph: onnx.GraphProto, ranges: dict[str, Range]) -> None:
    """Quantize each of these activations; whoever reads it reads what is left of it."""
    produced = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name in ranges:
                node.input[position] = f"{name}.dequantized"
    nodes: list[onnx.NodeProto] = []
    for name in ranges:
        if name not in produced:
            nodes += _pair(graph, name, ranges[name])
    for node in graph.node:
        nodes.append(node)
        for name in node.output:
            if name in ranges:
                nodes += _pair(graph, name, ranges[name])
    set_nodes(graph, nodes)


def _pair(graph: onnx.GraphProto, name: str, range_: Range) -> list[onnx.NodeProto]:
    scale = numpy_helper.from_array(np.array(range_.scale, np.float32), f"{name}.scale")
    zero = numpy_helper.from_array(np.array(range_.zero, np.uint8), f"{name}.zero")
    graph.initializer.extend([scale, zero])
    sides, between = [scale.name, zero.name], f"{name}.quantized"
    return [
        helper.make_node("QuantizeLinear", [name, *sides], [between]),
        helper.make_node("DequantizeLinear", [between, *sides], [f"{name}.dequantized"]),
    ]


def _weight_scales(graph: onnx.GraphProto, node: onnx.NodeProto) -> npt.NDArray[np.float32]:
    dequantize = next(made for made in graph.node if node.input[1] in made.output)
    scales = _initializer(graph, dequantize.input[1])
    assert scales is not None
    return scales.astype(np.float32)


def _initializer(graph: onnx.GraphProto, name: str) -> npt.NDArray[np.float32] | None:
    found = next((tensor for tensor in graph.initializer if tensor.name == name), None)
    return None if found is None else numpy_helper.to_array(found)
