"""Element-wise ONNX operators, comparisons and reductions, on tensors and on known numbers."""

import operator as python
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor
from torch.nn import functional

from featherweight.engine.reading.onnx_import.values import (
    Call,
    UnsupportedError,
    Value,
    is_host,
    known,
    number,
    numbers,
    operand,
    operator,
    tensor,
)

# Half and double precision are opened as float32.
DTYPES: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float32,
    TensorProto.BFLOAT16: torch.float32,
    TensorProto.DOUBLE: torch.float32,
    TensorProto.UINT8: torch.uint8,
    TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.BOOL: torch.bool,
}
Two = Callable[[Any, Any], Any]


def _binary(name: str, on_numbers: Two, on_tensors: Two) -> None:
    def run(_: Call, one: Value, other: Value) -> Value:
        result: Value
        if is_host(one, other):
            result = known(on_numbers(one, other))
        else:
            result = on_tensors(operand(one, other), operand(other, one))
        return result

    operator(name)(run)


def _divided(one: Any, other: Any) -> Any:
    if all(np.asarray(value).dtype.kind in "iub" or _whole(value) for value in (one, other)):
        return one // other
    return one / other


def _whole(value: Any) -> bool:
    array = np.asarray(value)
    return array.dtype == object and not any(isinstance(part, float) for part in array.flat)


def _divided_tensors(one: Any, other: Any) -> Any:
    whole = [
        not value.is_floating_point() if isinstance(value, Tensor) else isinstance(value, int)
        for value in (one, other)
    ]
    return torch.div(one, other, rounding_mode="trunc" if all(whole) else None)


def _power(one: Any, other: Any) -> Any:
    if isinstance(one, Tensor) and not isinstance(other, Tensor) and other == 2:
        return one * one
    return torch.pow(one, other)


def _both(compute: Callable[[Tensor, Tensor], Tensor]) -> Two:
    return lambda one, other: compute(torch.as_tensor(one), torch.as_tensor(other))


BINARY: list[tuple[str, Two, Two]] = [
    ("Add", python.add, python.add),
    ("Sub", python.sub, python.sub),
    ("Mul", python.mul, python.mul),
    ("Div", _divided, _divided_tensors),
    ("Pow", np.power, _power),
    ("Equal", np.equal, python.eq),
    ("Greater", np.greater, python.gt),
    ("GreaterOrEqual", np.greater_equal, python.ge),
    ("Less", np.less, python.lt),
    ("LessOrEqual", np.less_equal, python.le),
    ("And", np.logical_and, _both(torch.logical_and)),
    ("Or", np.logical_or, _both(torch.logical_or)),
    ("Xor", np.logical_xor, _both(torch.logical_xor)),
]
for _name, _numbers, _tensors in BINARY:
    _binary(_name, _numbers, _tensors)


@operator("Mod")
def _mod(call: Call, one: Value, other: Value) -> Value:
    if is_host(one, other):
        exact: Any = np.fmod if call.get("fmod", 0) else np.mod
        return known(exact(one, other))
    compute = torch.fmod if call.get("fmod", 0) else torch.remainder
    result: Tensor = compute(tensor(one), operand(other, one))
    return result


@operator("Min", "Max", "Sum", "Mean")
def _many(call: Call, *values: Value) -> Any:
    steps: dict[str, tuple[Two, Two]] = {
        "Min": (np.minimum, torch.minimum),
        "Max": (np.maximum, torch.maximum),
        "Sum": (python.add, python.add),
        "Mean": (python.add, python.add),
    }
    hosted = is_host(*values)
    step = steps[call.op][0 if hosted else 1]
    made: Any = [value if hosted else tensor(value) for value in values]
    result = made[0]
    for value in made[1:]:
        result = step(result, value)
    result = result / len(made) if call.op == "Mean" else result
    return known(result) if hosted else result


def _unary(name: str, on_tensors: Callable[[Tensor], Tensor], on_numbers: Any = None) -> None:
    def run(_: Call, value: Value) -> Value:
        if on_numbers is not None and not isinstance(value, Tensor):
            return known(on_numbers(value))
        return on_tensors(tensor(value))

    operator(name)(run)


UNARY: list[tuple[str, Callable[[Tensor], Tensor], Any]] = [
    ("Neg", torch.neg, np.negative),
    ("Abs", torch.abs, np.abs),
    ("Sqrt", torch.sqrt, np.sqrt),
    ("Floor", torch.floor, np.floor),
    ("Ceil", torch.ceil, np.ceil),
    ("Round", torch.round, np.round),
    ("Sign", torch.sign, np.sign),
    ("Not", torch.logical_not, np.logical_not),
    ("Reciprocal", torch.reciprocal, np.reciprocal),
    ("Exp", torch.exp, np.exp),
    ("Log", torch.log, np.log),
    ("Erf", torch.erf, None),
    ("Sin", torch.sin, None),
    ("Tan", torch.tan, None),
    ("Asin", torch.asin, None),
    ("Acos", torch.acos, None),
    ("Atan", torch.atan, None),
    ("Sinh", torch.sinh, None),
    ("Cosh", torch.cosh, None),
    ("Asinh", torch.asinh, None),
    ("Acosh", torch.acosh, None),
    ("Atanh", torch.atanh, None),
    ("IsNaN", torch.isnan, np.isnan),
    ("Cos", torch.cos, None),
    ("Tanh", torch.tanh, None),
    ("Sigmoid", torch.sigmoid, None),
    ("Relu", functional.relu, None),
    ("Softplus", functional.softplus, None),
    ("Softsign", functional.softsign, None),
    ("Mish", functional.mish, None),
    ("HardSwish", functional.hardswish, None),
]
for _name, _compute, _maybe in UNARY:
    _unary(_name, _compute, _maybe)


@operator("Identity")
def _identity(_: Call, value: Value) -> Value:
    return value


@operator("Dropout")
def _dropout(call: Call, value: Value, *_: Value) -> Value | tuple[Value, ...]:
    """Keep all. The mask that some ask for tells what is kept, in old versions nothing at all."""
    if call.outputs == 1:
        return value
    data = tensor(value)
    mask = torch.ones_like if call.version >= 12 else torch.zeros_like
    return data, mask(data, dtype=torch.bool if call.version >= 10 else data.dtype)


@operator("Cast")
def _cast(call: Call, value: Value) -> Value:
    return _converted(value, call["to"])


@operator("CastLike")
def _cast_like(_: Call, value: Value, like: Value) -> Value:
    dtype = tensor(like).dtype
    if isinstance(value, Tensor):
        return value.to(dtype)
    kinds = {held: name for name, held in DTYPES.items() if name != TensorProto.DOUBLE}
    return _converted(value, kinds[dtype])


def _converted(value: Value, kind: int) -> Value:
    if kind not in DTYPES:
        raise UnsupportedError(f"target type {TensorProto.DataType.Name(kind)} is not read")
    dtype = DTYPES[kind]
    if isinstance(value, Tensor) or value is None:
        return tensor(value).to(dtype)
    if value.dtype == object:
        free = any(isinstance(part, torch.SymInt) for part in value.flat)
        return value if free else value.astype(str(dtype).removeprefix("torch."))
    return value.astype(str(dtype).removeprefix("torch."))


@operator("Where")
def _where(_: Call, condition: Value, one: Value, other: Value) -> Value:
    if is_host(condition, one, other):
        return np.where(*(np.asarray(value) for value in (condition, one, other)))
    return torch.where(tensor(condition), tensor(one), tensor(other))


@operator("Clip")
def _clip(call: Call, value: Value, *bounds: Value) -> Value:
    low, high = (call.setting(name, bounds, at) for at, name in enumerate(("min", "max")))
    if not isinstance(value, Tensor):
        return known(np.clip(np.asarray(value), low, high))
    if (low, high) == (0.0, 6.0):
        return functional.relu6(value)
    return torch.clamp(value, low, high)


def _reduce_square(x: Tensor, axes: list[int], keepdim: bool) -> Tensor:
    return (x * x).sum(axes, keepdim)


REDUCTIONS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "ReduceMean": lambda x, axes, keepdim: x.mean(axes, keepdim),
    "ReduceSum": lambda x, axes, keepdim: x.sum(axes, keepdim),
    "ReduceMax": lambda x, axes, keepdim: x.amax(axes, keepdim),
    "ReduceMin": lambda x, axes, keepdim: x.amin(axes, keepdim),
    "ReduceL1": lambda x, axes, keepdim: x.abs().sum(axes, keepdim),
    "ReduceL2": lambda x, axes, keepdim: _reduce_square(x, axes, keepdim).sqrt(),
    "ReduceSumSquare": _reduce_square,
    "ReduceLogSum": lambda x, axes, keepdim: x.sum(axes, keepdim).log(),
    "ReduceLogSumExp": lambda x, axes, keepdim: x.logsumexp(axes, keepdim),
}
KNOWN_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceProd": np.prod,
    "ReduceSum": np.sum,
    "ReduceMax": np.max,
    "ReduceMin": np.min,
    "ReduceMean": np.mean,
}


@operator(*REDUCTIONS, "ReduceProd")
def _reduce(call: Call, value: Value, *inputs: Value) -> Value:
    axes = call.setting("axes", inputs, 0)
    keep = bool(call.get("keepdims", 1))
    if not axes and call.get("noop_with_empty_axes", 0):
        return value
    if not isinstance(value, Tensor) and call.op in KNOWN_REDUCTIONS:
        axis = tuple(axes) if axes else None
        return known(KNOWN_REDUCTIONS[call.op](value, axis=axis, keepdims=keep))
    data = tensor(value)
    axes = axes or list(range(data.ndim))
    if call.op != "ReduceProd":
        return REDUCTIONS[call.op](data, axes, keep)
    for axis in sorted((axis % data.ndim for axis in axes), reverse=True):
        data = data.prod(axis, keepdim=keep)
    return data


@operator("ArgMax", "ArgMin")
def _arg(call: Call, value: Value) -> Value:
    if call.get("select_last_index", 0):
        raise UnsupportedError("choice of the last index is not read")
    compute = torch.argmax if call.op == "ArgMax" else torch.argmin
    result: Tensor = compute(tensor(value), call.get("axis", 0), bool(call.get("keepdims", 1)))
    return result


@operator("CumSum")
def _cumulative_sum(call: Call, value: Value, axis: Value) -> Value:
    data, along = tensor(value), number(axis)
    data = data.flip(along) if call.get("reverse", 0) else data
    total = torch.cumsum(data, along)
    total = total - data if call.get("exclusive", 0) else total
    return total.flip(along) if call.get("reverse", 0) else total


@operator("TopK")
def _top(call: Call, value: Value, count: Value = None) -> tuple[Value, ...]:
    largest, ordered = bool(call.get("largest", 1)), bool(call.get("sorted", 1))
    kept = call["k"] if count is None else number(count)
    return tuple(torch.topk(tensor(value), kept, call.get("axis", -1), largest, ordered))


@operator("QuantizeLinear")
def _quantize(call: Call, value: Value, scale: Value, zero: Value = None) -> Value:
    data = tensor(value)
    dtype = torch.uint8 if zero is None else tensor(zero).dtype
    if dtype.is_floating_point or call.get("block_size", 0):
        raise UnsupportedError("rounding to blocks or to floats is not read")
    limits = torch.iinfo(dtype)
    step, shift = _along(scale, data, call), _along(zero, data, call)
    return _rounded(data / step, shift, limits.min, limits.max)


def _rounded(steps: Tensor, shift: Any, low: int, high: int) -> Tensor:
    """Round to whole numbers in forward only, so that gradients reach what is in front of it."""
    return torch.clamp(steps + (torch.round(steps) - steps).detach() + shift, low, high)


@operator("DynamicQuantizeLinear")
def _quantize_dynamically(_: Call, value: Value) -> tuple[Value, ...]:
    data = tensor(value)
    still = data.detach()
    low, high = still.amin().clamp(max=0.0), still.amax().clamp(min=0.0)
    # Where all is zero any scale does.
    step = torch.clamp((high - low) / 255, min=torch.finfo(torch.float32).tiny)
    shift = torch.clamp(torch.round(-low / step), 0, 255)
    return _rounded(data / step, shift, 0, 255), step, shift


@operator("DequantizeLinear")
def _dequantize(call: Call, value: Value, scale: Value, zero: Value = None) -> Value:
    data = tensor(value).to(torch.float32)
    block = call.get("block_size", 0)
    if block:
        axis = call.get("axis", 1)
        step = tensor(scale).to(torch.float32).repeat_interleave(block, axis)
        step = step.narrow(axis, 0, data.shape[axis])
        shift = 0 if zero is None else tensor(zero).to(torch.float32)
        if isinstance(shift, Tensor):
            shift = shift.repeat_interleave(block, axis).narrow(axis, 0, data.shape[axis])
        return (data - shift) * step
    scaled: Tensor = (data - _along(zero, data, call)) * _along(scale, data, call)
    return scaled


def _along(value: Value, data: Tensor, call: Call) -> Any:
    """Shape a scale or a zero point, of one number or of one per channel, to fit the data."""
    if value is None:
        return 0
    if not isinstance(value, Tensor) and value.size == 1:
        return float(number(value))
    shape = [1] * data.ndim
    shape[call.get("axis", 1)] = -1
    return tensor(value).to(torch.float32).reshape(shape)


@operator("Constant")
def _constant(call: Call) -> Value:
    for name, dtype in (("value_int", np.int64), ("value_float", np.float32)):
        if name in call.attributes:
            return np.array(call[name], dtype=dtype)
    for name, dtype in (("value_ints", np.int64), ("value_floats", np.float32)):
        if name in call.attributes:
            return np.array(call[name], dtype=dtype)
    return np.asarray(call["value"])


@operator("Einsum")
def _einsum(call: Call, *values: Value) -> Value:
    result: Tensor = torch.einsum(call["equation"], *[tensor(value) for value in values])
    return result


@operator("OneHot")
def _one_hot(call: Call, indices: Value, depth: Value, values: Value) -> Value:
    off, on = numbers(values)
    axis = call.get("axis", -1)
    hot: Tensor = functional.one_hot(tensor(indices).long(), number(depth)).to(torch.float32)
    hot = hot * (on - off) + off
    return hot if axis in (-1, hot.ndim - 1) else hot.movedim(-1, axis)
