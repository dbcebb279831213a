"""Static quantization of activations, so that ONNX Runtime computes 8-bit layers in integers.

Processors without 8-bit dot products add pairs of products in 16 bits, which 255 times 127 twice
would overflow: for them activations use 7 bits of 8 within their range.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from featherweight.engine.events import IntegerOptions
from featherweight.engine.writing.activation_ranges import Observed, Range, chosen_range
from featherweight.engine.writing.onnx_weights import set_nodes

Array = npt.NDArray[np.generic]
OPERATORS = ("Conv", "Gemm", "MatMul")
LIMITING = ("Relu", "Clip")
WEIGHTED = (*OPERATORS, "ConvTranspose")
LEAST = "bits.least"
LARGEST = 255
LARGEST_BIAS = 2**30
MOST_VALUES = 2**20


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
    model: onnx.ModelProto,
    calibration: Iterable[Mapping[str, Array]],
    options: IntegerOptions,
    bits: int,
) -> set[str]:
    """Put pairs of QuantizeLinear and DequantizeLinear around 8-bit layers, in place.

    `calibration` are batches of inputs by name; activations use so many `bits`, 7 or 8. Returns
    the weights of the layers that now run in integers, by the names they are read under.
    """
    graph = model.graph
    nodes = integer_nodes(model)
    names = dict.fromkeys(name for node in nodes for name in (node.input[0], _result(graph, node)))
    outputs = {value.name for value in graph.output}
    ranges = _ranges(
        model, [name for name in names if name not in outputs], calibration, options, bits
    )
    done = _integers_within(model, ranges)
    used = {name for node in done for name in (node.input[0], _result(graph, node))}
    ended = _drop_limits(graph, done, ranges)
    kept = {node.input[1] for node in done}
    put_pairs(model, {name: ranges[name] for name in ranges if name in used}, ended, kept)
    return kept


def quantize_within(model: onnx.ModelProto, ranges: Mapping[str, Range]) -> set[str]:
    """Put pairs around these values, in place, and nothing beyond the ranges; as with calibration.

    Returns the weights of the layers that now run in integers, by the names they are read under.
    """
    done = _integers_within(model, ranges)
    _drop_limits(model.graph, done, ranges)
    kept = {node.input[1] for node in done}
    put_pairs(model, ranges, set(ranges), kept)
    return kept


def _integers_within(model: onnx.ModelProto, ranges: Mapping[str, Range]) -> list[onnx.NodeProto]:
    """Hold the biases of layers whose inputs have ranges in integers; return these layers."""
    graph = model.graph
    done = [
        node
        for node in integer_nodes(model)
        if node.input[0] in ranges and _has_known_bias(graph, node)
    ]
    for node in done:
        _fit_bias(graph, node, ranges)
        _quantize_bias(graph, node, ranges)
    return done


def _drop_limits(
    graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto], ranges: Mapping[str, Range]
) -> set[str]:
    """Take out what limits these layers where their ranges do; return what had an upper end."""
    results = {name: node for node in nodes if (name := _result(graph, node)) in ranges}
    return {name for name, node in results.items() if _drop_limit(graph, node, ranges[name])}


def _result(graph: onnx.GraphProto, node: onnx.NodeProto) -> str:
    """Return what leaves a layer: the output of what limits it behind it, if that follows alone."""
    output: str = node.output[0]
    users = [user for user in graph.node if output in user.input]
    if len(users) == 1 and users[0].op_type in LIMITING and users[0].input[0] == output:
        return str(users[0].output[0])
    return output


def _ranges(
    model: onnx.ModelProto,
    names: list[str],
    calibration: Iterable[Mapping[str, Array]],
    options: IntegerOptions,
    bits: int,
) -> dict[str, Range]:
    watched = onnx.ModelProto.FromString(model.SerializeToString())
    known = {value.name for value in (*watched.graph.input, *watched.graph.output)}
    inner = [name for name in names if name not in known]
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inner
    )
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(watched.SerializeToString(), settings)
    observed = {name: Observed() for name in names}
    for batch in calibration:
        found = dict(zip(inner, session.run(inner, dict(batch)), strict=True)) | dict(batch)
        for name in names:
            values = found[name].reshape(-1)
            observed[name].add(values[:: -(-values.size // MOST_VALUES)])
    return {name: chosen_range(observed[name], options, (1 << bits) - 1) for name in names}


def _fit_bias(graph: onnx.GraphProto, node: onnx.NodeProto, ranges: Mapping[str, Range]) -> None:
    """Give rows of a layer's weight a wider scale where 32 bits cannot hold the bias, in place.

    Such a bias is so much larger than all else in its sum that the coarser weights are lost in it.
    """
    if len(node.input) < 3:
        return
    dequantize = next(made for made in graph.node if node.input[1] in made.output)
    axis = next(a.i for a in dequantize.attribute if a.name == "axis")
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    whole, scales = (tensors[name] for name in dequantize.input[:2])
    levels, factors = numpy_helper.to_array(whole), numpy_helper.to_array(scales)
    bias = _initializer(graph, node.input[2])
    assert bias is not None
    steps = np.abs(bias / (factors.astype(np.float64) * ranges[node.input[0]].scale))
    needed = np.maximum((steps if factors.ndim else steps.max()) / LARGEST_BIAS, 1.0)
    sides = [-1 if factors.ndim and at == axis else 1 for at in range(levels.ndim)]
    narrowed = np.rint(levels / np.reshape(needed, sides)).astype(np.int8)
    widened = (factors * needed).astype(np.float32)
    whole.CopyFrom(numpy_helper.from_array(narrowed, whole.name))
    scales.CopyFrom(numpy_helper.from_array(widened, scales.name))


def _drop_limit(graph: onnx.GraphProto, node: onnx.NodeProto, range_: Range) -> bool:
    """Take out the Relu or Clip behind a layer, in place, if integers from 0 on can stand for it.

    Returns whether it also has an upper end, which they must end at.
    """
    result = _result(graph, node)
    limit = next(other for other in graph.node if result in other.output)
    low, high = 0.0, np.inf
    if limit.op_type == "Clip":
        bounds = [_initializer(graph, name) for name in limit.input[1:]]
        if len(bounds) != 2 or any(bound is None for bound in bounds):
            return False
        low, high = (float(bound) for bound in bounds if bound is not None)
    elif limit.op_type != "Relu":
        return False
    if not low <= 0.0 <= high or not _reaches(range_, low, high):
        return False
    graph.node.remove(limit)
    node.output[0] = result
    return bool(limit.op_type == "Clip")


def _reaches(range_: Range, low: float, high: float) -> bool:
    """Say whether the integers of both bounds are the ends of a range, or beyond them."""
    least = np.rint(low / range_.scale) + range_.zero
    most = np.rint(high / range_.scale) + range_.zero
    return bool(least <= 0 and most >= range_.top)


def _has_known_bias(graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
    return len(node.input) < 3 or _initializer(graph, node.input[2]) is not None


def _quantize_bias(
    graph: onnx.GraphProto, node: onnx.NodeProto, ranges: Mapping[str, Range]
) -> None:
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


def put_pairs(
    model: onnx.ModelProto, ranges: Mapping[str, Range], ended: set[str], kept: set[str]
) -> None:
    """Quantize each of these activations; whoever reads it reads what is left of it.

    Those in `ended` keep no value beyond their range. `kept` are the weights in integers.
    """
    graph = model.graph
    produced = {output: node for node in graph.node for output in node.output}
    apart = {name for name in ranges if _leaves_floats(produced, name, kept)}
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name in ranges:
                node.input[position] = f"{name}.dequantized"
    nodes: list[onnx.NodeProto] = []

    def add(name: str) -> None:
        value = _apart(graph, nodes, name) if name in apart else name
        nodes.extend(_pair(graph, name, value, ranges[name], name in ended))

    for name in ranges:
        if name not in produced:
            add(name)
    for node in graph.node:
        nodes.append(node)
        for name in node.output:
            if name in ranges:
                add(name)
    set_nodes(graph, nodes)


def _leaves_floats(produced: Mapping[str, onnx.NodeProto], name: str, kept: set[str]) -> bool:
    """Say whether a value is the result of a layer whose weights are floats."""
    node = produced.get(name)
    if node is not None and node.op_type in LIMITING:
        node = produced.get(node.input[0])
    return node is not None and node.op_type in WEIGHTED and node.input[1] not in kept


def _apart(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], name: str) -> str:
    """Keep a value apart from its rounding by a maximum that changes nothing; return its name.

    WORKAROUND(onnxruntime 1.32): it rounds the weights of a layer between such pairs to 8 bits,
    whatever they are.
    """
    if not any(tensor.name == LEAST for tensor in graph.initializer):
        least = np.array(np.finfo(np.float32).min, np.float32)
        graph.initializer.append(numpy_helper.from_array(least, LEAST))
    nodes.append(helper.make_node("Max", [name, LEAST], [f"{name}.apart"]))
    return f"{name}.apart"


def _pair(
    graph: onnx.GraphProto, name: str, value: str, range_: Range, ended: bool
) -> list[onnx.NodeProto]:
    scale = numpy_helper.from_array(np.array(range_.scale, np.float32), f"{name}.scale")
    zero = numpy_helper.from_array(np.array(range_.zero, np.uint8), f"{name}.zero")
    graph.initializer.extend([scale, zero])
    sides, between = [scale.name, zero.name], f"{name}.quantized"
    nodes = [helper.make_node("QuantizeLinear", [value, *sides], [between])]
    if ended and range_.top < LARGEST:
        top = numpy_helper.from_array(np.array(range_.top, np.uint8), f"{name}.top")
        graph.initializer.append(top)
        nodes.append(helper.make_node("Clip", [between, "", top.name], [f"{name}.ended"]))
        between = f"{name}.ended"
    output = f"{name}.dequantized"
    return [*nodes, helper.make_node("DequantizeLinear", [between, *sides], [output])]


def _weight_scales(graph: onnx.GraphProto, node: onnx.NodeProto) -> npt.NDArray[np.float32]:
    dequantize = next(made for made in graph.node if node.input[1] in made.output)
    scales = _initializer(graph, dequantize.input[1])
    assert scales is not None
    return scales.astype(np.float32)


def _initializer(graph: onnx.GraphProto, name: str) -> npt.NDArray[np.float32] | None:
    found = next((tensor for tensor in graph.initializer if tensor.name == name), None)
    return None if found is None else numpy_helper.to_array(found)
