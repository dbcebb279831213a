"""Integer operators of quantized ONNX files as the float ones that they stand for.

Weights are unpacked; activations keep the rounding that the file gives them.
"""

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto

from featherweight.engine.reading.onnx_import.channels_last import between_turns
from featherweight.engine.reading.onnx_import.rewriting import Rewriting, rewrites
from featherweight.engine.reading.onnx_import.values import Host, UnsupportedError

Nodes = Iterator[NodeProto]

# Operators of ONNX Runtime on integers: the float operator, and how many tensors come first.
ELEMENTWISE = {
    "QLinearAdd": ("Add", 2),
    "QLinearMul": ("Mul", 2),
    "QLinearSigmoid": ("Sigmoid", 1),
    "QLinearLeakyRelu": ("LeakyRelu", 1),
    "QLinearSoftmax": ("Softmax", 1),
    "QLinearAveragePool": ("AveragePool", 1),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", 1),
}
QUANTIZED_ATTRIBUTES = ("channels_last", "opset")


@rewrites("QLinearConv")
def _quantized_convolution(node: NodeProto, to: Rewriting) -> Nodes:
    x, x_scale, x_zero, w, w_scale, w_zero, scale, zero, *bias = node.input
    data, weight, result = (to.name(node, hint) for hint in ("data", "weight", "result"))
    yield to.node("DequantizeLinear", (x, x_scale, x_zero), data)
    yield to.node("DequantizeLinear", (w, w_scale, w_zero), weight, axis=0)
    inputs = [data, weight]
    if bias and bias[0]:
        step = to.known(x_scale) * to.known(w_scale)
        inputs.append(to.constant(node, "bias", to.known(bias[0]) * step))
    yield to.like(node, "Conv", inputs, result)
    yield to.node("QuantizeLinear", (result, scale, zero), node.output[0])


@rewrites("QLinearMatMul")
def _quantized_product(node: NodeProto, to: Rewriting) -> Nodes:
    a, a_scale, a_zero, b, b_scale, b_zero, scale, zero = node.input[:8]
    left, right, result = (to.name(node, hint) for hint in ("left", "right", "result"))
    yield to.node("DequantizeLinear", (a, a_scale, a_zero), left, axis=0)
    yield to.node("DequantizeLinear", (b, b_scale, b_zero), right, axis=1)
    yield to.node("MatMul", (left, right), result)
    yield to.node("QuantizeLinear", (result, scale, zero), node.output[0])


@rewrites("QGemm", domain="com.microsoft")
def _quantized_gemm(node: NodeProto, to: Rewriting) -> Nodes:
    a, a_scale, a_zero, b, b_scale, b_zero, bias, *output = [*node.input, "", ""][:9]
    left, right, result = (to.name(node, hint) for hint in ("left", "right", "result"))
    yield to.node("DequantizeLinear", (a, a_scale, a_zero), left)
    turned = int(to.attributes(node).get("transB", 0))
    yield to.node("DequantizeLinear", (b, b_scale, b_zero), right, axis=0 if turned else 1)
    inputs = [left, right]
    if bias:
        step = to.known(a_scale) * to.known(b_scale)
        inputs.append(to.constant(node, "bias", to.known(bias) * step))
    final = result if output[0] else node.output[0]
    yield to.like(node, "Gemm", inputs, final)
    if output[0]:
        yield to.node("QuantizeLinear", (result, *output), node.output[0])


@rewrites(*ELEMENTWISE, domain="com.microsoft")
def _quantized_elementwise(node: NodeProto, to: Rewriting) -> Nodes:
    kind, count = ELEMENTWISE[node.op_type]
    if to.attributes(node).get("channels_last", 0):
        yield from between_turns(node, to, (node.op_type, node.domain))
        return
    inputs = []
    for at in range(count):
        inputs.append(to.name(node, f"input{at}"))
        yield to.node("DequantizeLinear", node.input[3 * at : 3 * at + 3], inputs[-1])
    result = to.name(node, "result")
    yield to.like(node, kind, inputs, result, without=QUANTIZED_ATTRIBUTES)
    scale = node.input[3 * count : 3 * count + 2]
    yield to.node("QuantizeLinear", (result, *scale), node.output[0])


@rewrites("QLinearConcat", domain="com.microsoft")
def _quantized_concatenation(node: NodeProto, to: Rewriting) -> Nodes:
    inputs = []
    for at in range(2, len(node.input), 3):
        inputs.append(to.name(node, f"input{at}"))
        yield to.node("DequantizeLinear", node.input[at : at + 3], inputs[-1])
    result = to.name(node, "result")
    yield to.like(node, "Concat", inputs, result)
    yield to.node("QuantizeLinear", (result, *node.input[:2]), node.output[0])


@rewrites("ConvInteger", "MatMulInteger")
def _integer_product(node: NodeProto, to: Rewriting) -> Nodes:
    """Take the scaling behind it along: then it is the layer that was quantized."""
    x, w, x_zero, w_zero = [*node.input, "", ""][:4]
    axis = 0 if node.op_type == "ConvInteger" else 1
    kind = node.op_type.removesuffix("Integer")
    scaled = to.scaled(node)
    one = to.constant(node, "one", np.float32(1))
    data, weight = to.name(node, "data"), to.name(node, "weight")
    x_scale, w_scale, output = scaled or (one, one, node.output[0])
    yield to.node("DequantizeLinear", (x, x_scale, x_zero), data)
    yield to.node("DequantizeLinear", (w, w_scale, w_zero), weight, axis=axis)
    yield to.like(node, kind, (data, weight), output)


@rewrites("DynamicQuantizeMatMul", "MatMulIntegerToFloat", domain="com.microsoft")
def _dynamic_product(node: NodeProto, to: Rewriting) -> Nodes:
    data, weight = to.name(node, "data"), to.name(node, "weight")
    if node.op_type == "DynamicQuantizeMatMul":
        x, w, w_scale, w_zero, bias = [*node.input, "", ""][:5]
        parts = tuple(to.name(node, hint) for hint in ("integers", "scale", "zero"))
        yield to.node("DynamicQuantizeLinear", (x,), *parts)
        yield to.node("DequantizeLinear", parts, data)
    else:
        x, w, x_scale, w_scale, x_zero, w_zero, bias = [*node.input, "", "", ""][:7]
        yield to.node("DequantizeLinear", (x, x_scale, x_zero), data)
    yield to.node("DequantizeLinear", (w, w_scale, w_zero), weight, axis=1)
    product = to.name(node, "product") if bias else node.output[0]
    yield to.node("MatMul", (data, weight), product)
    if bias:
        yield to.node("Add", (product, bias), node.output[0])


@rewrites("DynamicQuantizeLSTM", domain="com.microsoft")
def _dynamic_lstm(node: NodeProto, to: Rewriting) -> Nodes:
    x, w, r, *rest = [*node.input, *[""] * 12][:12]
    scales = rest[5:9]
    weights = []
    for name, scale, zero, hint in ((w, *scales[:2], "W"), (r, *scales[2:], "R")):
        integers = to.known(name).astype(np.float32)
        step, shift = to.known(scale), to.known(zero).astype(np.float32)
        around = (len(step), 1, -1) if step.ndim else ()
        floats = (integers - shift.reshape(around)) * step.reshape(around)
        weights.append(to.constant(node, hint, floats.transpose(0, 2, 1)))
        to.file.unpacked += 1
    yield to.like(node, "LSTM", (x, *weights, *rest[:5]), *node.output)


@rewrites("MatMulNBits", domain="com.microsoft")
def _packed_product(node: NodeProto, to: Rewriting) -> Nodes:
    settings = to.attributes(node)
    bits, block = settings.get("bits", 4), settings["block_size"]
    rows, columns = settings["N"], settings["K"]
    packed, scales = to.known(node.input[1]), to.known(node.input[2])
    if bits not in (2, 4, 8):
        raise UnsupportedError(f"width of {bits} bits is not read")
    blocks = -(-columns // block)
    values = _unpacked(packed.reshape(rows, -1), bits)[:, : blocks * block]
    zeros = np.full((rows, blocks), 1 << (bits - 1), np.float32)
    if len(node.input) > 3 and node.input[3]:
        given = to.known(node.input[3])
        whole = given.dtype == np.uint8
        zeros = _unpacked(given.reshape(rows, -1), bits) if whole else given.reshape(rows, -1)
    if len(node.input) > 4 and node.input[4]:
        raise UnsupportedError("order of groups is not read")
    step, shift = (
        np.repeat(part.reshape(rows, -1)[:, :blocks], block, 1) for part in (scales, zeros)
    )
    floats = ((values - shift) * step)[:, :columns].astype(np.float32)
    weight = to.constant(node, "weight", floats.T, of=node.input[1])
    to.file.unpacked += 1
    bias = node.input[5] if len(node.input) > 5 else ""
    product = to.name(node, "product") if bias else node.output[0]
    yield to.node("MatMul", (node.input[0], weight), product)
    if bias:
        yield to.node("Add", (product, bias), node.output[0])


def _unpacked(packed: Host, bits: int) -> Host:
    """Return the small numbers in bytes, the lowest bits first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    values = (packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    floats: Host = values.reshape(len(packed), -1).astype(np.float32)
    return floats
