"""ONNX operators of neural networks that hold no weights: pooling, norms, resizing, attention."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from featherweight.engine.reading.onnx_import.values import (
    Call,
    UnsupportedError,
    Value,
    operand,
    operator,
    tensor,
)

MAX_POOLS = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)
AVERAGE_POOLS: tuple[Any, ...] = (
    functional.avg_pool1d,
    functional.avg_pool2d,
    functional.avg_pool3d,
)
CONVOLUTIONS = (functional.conv1d, functional.conv2d, functional.conv3d)


def pads_of(call: Call, sizes: list[int], kernel: list[int]) -> tuple[list[int], list[int]]:
    """Return the padding before and after every spatial axis; `sizes` are those of the input."""
    count = len(kernel)
    stride = call.get("strides") or [1] * count
    dilation = call.get("dilations") or [1] * count
    mode = call.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID"):
        given = (call.get("pads") if mode == "NOTSET" else None) or [0] * 2 * count
        return given[:count], given[count:]
    before, after = [], []
    for size, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        small, large = total // 2, total - total // 2
        before.append(small if mode == "SAME_UPPER" else large)
        after.append(large if mode == "SAME_UPPER" else small)
    return before, after


def flat_pads(before: list[int], after: list[int]) -> list[int]:
    """Return padding in the order of torch: the last axis first."""
    pairs = reversed(list(zip(before, after, strict=True)))
    return [size for pair in pairs for size in pair]


@operator("Conv")
def _convolution(call: Call, value: Value, weight: Value, bias: Value = None) -> Value:
    data, kernel = tensor(value), tensor(weight)
    before, after = pads_of(call, list(data.shape[2:]), list(kernel.shape[2:]))
    padded = functional.pad(data, flat_pads(before, after)) if any(before + after) else data
    count = kernel.ndim - 2
    return CONVOLUTIONS[count - 1](
        padded,
        kernel,
        None if bias is None else tensor(bias),
        call.get("strides") or [1] * count,
        0,
        call.get("dilations") or [1] * count,
        call.get("group", 1),
    )


@operator("MaxPool")
def _max_pool(call: Call, value: Value) -> Value:
    data, kernel = tensor(value), call["kernel_shape"]
    count = len(kernel)
    if call.outputs > 1 or call.get("storage_order", 0):
        raise UnsupportedError("indices are not read")
    before, after = pads_of(call, list(data.shape[2:]), kernel)
    uneven = before != after or any(2 * p > k for p, k in zip(before, kernel, strict=True))
    if uneven:
        data = functional.pad(data, flat_pads(before, after), value=-torch.inf)
    result: Tensor = MAX_POOLS[count - 1](
        data,
        kernel,
        call.get("strides") or [1] * count,
        0 if uneven else before,
        call.get("dilations") or [1] * count,
        bool(call.get("ceil_mode", 0)),
    )
    return result


@operator("AveragePool")
def _average_pool(call: Call, value: Value) -> Value:
    data, kernel = tensor(value), call["kernel_shape"]
    count = len(kernel)
    if any(size > 1 for size in call.get("dilations", [])):
        raise UnsupportedError("dilation is not read")
    before, after = pads_of(call, list(data.shape[2:]), kernel)
    stride = call.get("strides") or [1] * count
    pool, ceil = AVERAGE_POOLS[count - 1], bool(call.get("ceil_mode", 0))
    inside = bool(call.get("count_include_pad", 0))
    even = before == after
    flat = flat_pads(before, after)
    padded = data if even else functional.pad(data, flat)
    pooled: Tensor = pool(padded, kernel, stride, before if even else 0, ceil, inside)
    if even or inside:
        return pooled
    ones = functional.pad(torch.ones_like(data[:1, :1]), flat)
    shares: Tensor = pool(ones, kernel, stride, 0, ceil, inside)
    return pooled / shares


@operator("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(call: Call, value: Value) -> Value:
    data = tensor(value)
    axes = list(range(2, data.ndim))
    return data.mean(axes, True) if call.op == "GlobalAveragePool" else data.amax(axes, True)


@operator("LpPool", "GlobalLpPool")
def _length_pool(call: Call, value: Value) -> Value:
    data, power = tensor(value), call.get("p", 2)
    powers = data.abs() ** power
    if call.op == "GlobalLpPool":
        total: Tensor = powers.sum(list(range(2, data.ndim)), True) ** (1 / power)
        return total
    kernel = call["kernel_shape"]
    count = len(kernel)
    if any(size > 1 for size in call.get("dilations", [])) or call.get("ceil_mode", 0):
        raise UnsupportedError("dilation or rounding up is not read")
    padded = functional.pad(powers, flat_pads(*pads_of(call, list(data.shape[2:]), kernel)))
    means = AVERAGE_POOLS[count - 1](padded, kernel, call.get("strides") or [1] * count)
    lengths: Tensor = (means * math.prod(kernel)) ** (1 / power)
    return lengths


def _hardmax(data: Tensor, axis: int) -> Tensor:
    places = data.argmax(axis, keepdim=True)
    return torch.zeros_like(data).scatter(axis, places, torch.ones_like(data))


SOFTMAXES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "Softmax": functional.softmax,
    "LogSoftmax": functional.log_softmax,
    "Hardmax": _hardmax,
}


@operator(*SOFTMAXES)
def _softmax(call: Call, value: Value) -> Value:
    data = tensor(value)
    compute = SOFTMAXES[call.op]
    if call.version >= 13:
        return compute(data, call.get("axis", -1))
    axis = call.get("axis", 1) % data.ndim
    if axis == data.ndim - 1:
        return compute(data, axis)
    return compute(data.flatten(axis), -1).reshape(data.shape)


@operator("LeakyRelu", "Elu", "Celu", "ThresholdedRelu", "Selu", "Gelu", "HardSigmoid", "Swish")
def _activation(call: Call, value: Value) -> Value:
    data = tensor(value)
    defaults = {"LeakyRelu": 0.01, "HardSigmoid": 0.2}
    alpha = call.get("alpha", defaults.get(call.op, 1.0))
    match call.op:
        case "LeakyRelu":
            return functional.leaky_relu(data, alpha)
        case "Elu":
            return functional.elu(data, alpha)
        case "Celu":
            return functional.celu(data, alpha)
        case "ThresholdedRelu":
            return functional.threshold(data, alpha, 0.0)
        case "Selu":
            return functional.selu(data)
        case "Gelu":
            return functional.gelu(data, approximate=call.get("approximate", "none"))
        case "Swish":
            return functional.silu(data) if alpha == 1 else data * torch.sigmoid(alpha * data)
    beta = call.get("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return functional.hardsigmoid(data)
    return torch.clamp(alpha * data + beta, 0, 1)


@operator("PRelu")
def _prelu(_: Call, value: Value, slope: Value) -> Value:
    data = tensor(value)
    return torch.where(data >= 0, data, data * operand(slope, data))


@operator("BatchNormalization")
def _element_norm(call: Call, value: Value, *statistics: Value) -> Value:
    """Normalize every element by its own numbers: what old versions call not spatial."""
    scale, shift, mean, variance = (tensor(one) for one in statistics)
    deviation = (variance + call.get("epsilon", 1e-5)).sqrt()
    result: Tensor = (tensor(value) - mean) * scale / deviation + shift
    return result


@operator("InstanceNormalization")
def _instance_norm(call: Call, value: Value, scale: Value, bias: Value) -> Value:
    epsilon = call.get("epsilon", 1e-5)
    return functional.instance_norm(
        tensor(value), weight=tensor(scale), bias=tensor(bias), eps=epsilon
    )


@operator("GroupNormalization")
def _group_norm(call: Call, value: Value, scale: Value, bias: Value) -> Value:
    data, groups = tensor(value), call["num_groups"]
    weight, shift = tensor(scale), tensor(bias)
    if call.version < 21:
        each = data.shape[1] // groups
        weight, shift = weight.repeat_interleave(each), shift.repeat_interleave(each)
    return functional.group_norm(data, groups, weight, shift, call.get("epsilon", 1e-5))


@operator("LayerNormalization")
def _layer_norm(call: Call, value: Value, scale: Value, bias: Value = None) -> Value:
    data, weight = tensor(value), tensor(scale)
    if call.outputs > 1:
        raise UnsupportedError("mean and deviation are not read")
    shape = list(data.shape[call.get("axis", -1) % data.ndim :])
    shift = None if bias is None else tensor(bias).reshape(shape)
    return functional.layer_norm(
        data, shape, weight.expand(shape), shift, call.get("epsilon", 1e-5)
    )


@operator("RMSNormalization")
def _rms_norm(call: Call, value: Value, scale: Value) -> Value:
    data = tensor(value)
    shape = list(data.shape[call.get("axis", -1) % data.ndim :])
    return functional.rms_norm(data, shape, tensor(scale), call.get("epsilon", 1e-5))


@operator("MatMul")
def _matmul(_: Call, one: Value, other: Value) -> Value:
    return torch.matmul(tensor(one), tensor(other))


@operator("Gemm")
def _gemm(call: Call, one: Value, other: Value, bias: Value = None) -> Value:
    left, right = tensor(one), tensor(other)
    left = left.t() if call.get("transA", 0) else left
    right = right.t() if call.get("transB", 0) else right
    result = torch.matmul(left, right)
    result = result * call.get("alpha", 1.0) if call.get("alpha", 1.0) != 1 else result
    if bias is None:
        return result
    shift = tensor(bias)
    return result + (shift * call.get("beta", 1.0) if call.get("beta", 1.0) != 1 else shift)


@operator("LpNormalization")
def _unit(call: Call, value: Value) -> Value:
    data, axis = tensor(value), call.get("axis", -1)
    power = call.get("p", 2)
    length = data.abs().sum(axis, True) if power == 1 else (data * data).sum(axis, True).sqrt()
    return data / length


@operator("MeanVarianceNormalization")
def _mean_variance(call: Call, value: Value) -> Value:
    data, axes = tensor(value), call.get("axes", [0, 2, 3])
    centred = data - data.mean(axes, True)
    return centred / ((centred * centred).mean(axes, True).sqrt() + 1e-9)


@operator("GridSample")
def _grid_sample(call: Call, value: Value, grid: Value) -> Value:
    mode = call.get("mode", "linear").removeprefix("bi")
    return functional.grid_sample(
        tensor(value),
        tensor(grid),
        {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode),
        call.get("padding_mode", "zeros"),
        bool(call.get("align_corners", 0)),
    )


@operator("Attention")
def _attention(call: Call, query: Value, key: Value, value: Value, *rest: Value) -> Value:
    if call.outputs > 1 or any(part is not None for part in rest[1:]):
        raise UnsupportedError("past keys and values are not read")
    if call.get("softcap", 0.0):
        raise UnsupportedError("soft cap is not read")
    mask = tensor(rest[0]) if rest and rest[0] is not None else None
    queries, keys, values = tensor(query), tensor(key), tensor(value)
    flat = queries.ndim == 3
    if flat:
        heads, others = call["q_num_heads"], call["kv_num_heads"]
        queries = _by_head(queries, heads)
        keys, values = _by_head(keys, others), _by_head(values, others)
    scale = call.get("scale")
    causal = bool(call.get("is_causal", 0))
    result = functional.scaled_dot_product_attention(
        queries,
        keys,
        values,
        mask,
        0.0,
        causal,
        scale=scale,
        enable_gqa=queries.shape[1] != keys.shape[1],
    )
    return result.transpose(1, 2).flatten(2) if flat else result


@operator("RotaryEmbedding")
def _rotary(call: Call, value: Value, cos: Value, sin: Value, places: Value = None) -> Value:
    """Turn pairs of features by angles that depend on the position; tables are made by then."""
    data, flat = tensor(value), tensor(value).ndim == 3
    data = data if not flat else _by_head(data, call["num_heads"])
    tables = [tensor(one) for one in (cos, sin)]
    if places is not None:
        indices = tensor(places).long()
        tables = [_rows(one, indices) for one in tables]
    c, s = (one.unsqueeze(1) for one in tables)
    width = call.get("rotary_embedding_dim", 0) or data.shape[-1]
    turned, rest = data[..., :width], data[..., width:]
    near = bool(call.get("interleaved", 0))
    one, two = (turned[..., ::2], turned[..., 1::2]) if near else turned.chunk(2, -1)
    parts = (one * c - two * s, one * s + two * c)
    joined = torch.stack(parts, -1).flatten(-2) if near else torch.cat(parts, -1)
    result = torch.cat([joined, rest], -1)
    return result.transpose(1, 2).flatten(2) if flat else result


def _rows(table: Tensor, indices: Tensor) -> Tensor:
    return table.index_select(0, indices.reshape(-1)).reshape(*indices.shape, table.shape[-1])


@operator("ScoresOfMask")
def _scores_of_mask(call: Call, value: Value) -> Value:
    """Turn ones and zeros for positions to see and to hide into what is added to the scores."""
    mask = tensor(value)
    if mask.ndim not in (2, 3) or (mask.ndim == 2 and mask.shape[1] == 1):
        raise UnsupportedError("mask by lengths is not read")
    scores: Tensor = (1.0 - mask.to(torch.float32)) * call["hidden"]
    return scores[:, None, None] if mask.ndim == 2 else scores[:, None]


def _by_head(data: Tensor, heads: int) -> Tensor:
    batch, steps, width = data.shape
    return data.reshape(batch, steps, heads, width // heads).transpose(1, 2)


@operator("LRN")
def _local_response(call: Call, value: Value) -> Value:
    alpha, beta, bias = call.get("alpha", 1e-4), call.get("beta", 0.75), call.get("bias", 1.0)
    return functional.local_response_norm(tensor(value), call["size"], alpha, beta, bias)
