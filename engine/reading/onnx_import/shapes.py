"""ONNX operators that move, cut and count elements, on tensors and on known numbers."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from featherweight.engine.reading.onnx_import.values import (
    Call,
    Host,
    UnsupportedError,
    Value,
    host,
    is_host,
    known,
    number,
    numbers,
    operator,
    tensor,
)

# Larger fills are no part of any network; a damaged file may ask for them.
LARGEST_FILL = 1 << 28


@operator("Shape")
def _shape(call: Call, value: Value) -> Value:
    sizes = list(value.shape) if value is not None else []
    return host(sizes[slice(call.get("start", 0), call.get("end"))])


@operator("Size")
def _count(_: Call, value: Value) -> Value:
    return host([tensor(value).numel()]).reshape(())


@operator("Reshape")
def _reshape(call: Call, value: Value, shape: Value = None) -> Value:
    wanted = call["shape"] if shape is None else numbers(shape)
    if not isinstance(value, Tensor):
        return np.asarray(value).reshape(wanted)
    if not call.get("allowzero", 0):
        wanted = [value.shape[at] if size == 0 else size for at, size in enumerate(wanted)]
    if call.batch and wanted:
        wanted = _freed(wanted, value, call)
    return value.reshape(wanted)


def _freed(wanted: list[Any], value: Tensor, call: Call) -> list[Any]:
    """Let the size that the batch makes larger follow the data."""
    if -1 in wanted:
        return [value.shape[0], *wanted[1:]] if call.leading and wanted[0] == 1 else wanted
    # Recurrent layers have steps in front of the batch; else it is first, alone or with heads.
    steps = isinstance(value.shape[0], int) and wanted[0] == value.shape[0] and 1 in wanted[1:]
    free = wanted.index(1, 1) if steps and wanted[0] != 1 else 0
    return [*wanted[:free], -1, *wanted[free + 1 :]]


@operator("Flatten")
def _flatten(call: Call, value: Value) -> Value:
    data = tensor(value)
    axis = call.get("axis", 1)
    if axis == 1:
        return data.flatten(1) if data.ndim > 1 else data.unsqueeze(1)
    head = data.shape[:axis] if axis else ()
    rows = 1
    for size in head:
        rows = rows * size
    return data.reshape(rows, -1)


@operator("Transpose")
def _transpose(call: Call, value: Value) -> Value:
    if not isinstance(value, Tensor):
        return np.transpose(np.asarray(value), call.get("perm"))
    order = call.get("perm") or list(reversed(range(value.ndim)))
    return value.permute(order)


@operator("SwapLastAxes")
def _swap_last_axes(_: Call, value: Value) -> Value:
    return tensor(value).transpose(-1, -2)


@operator("FirstChannels")
def _first_channels(call: Call, value: Value) -> Value:
    """Leave out the channels behind the first `count`, which is 0 where none are left out."""
    data, count = tensor(value), call["count"]
    return data.narrow(1, 0, count) if 0 < count < data.shape[1] else data


@operator("PositionsLike")
def _positions_like(_: Call, tokens: Value) -> Value:
    return torch.arange(tensor(tokens).shape[1]).unsqueeze(0)


@operator("Squeeze")
def _squeeze(call: Call, value: Value, axes: Value = None) -> Value:
    wanted = call.setting("axes", (axes,), 0)
    if not isinstance(value, Tensor):
        return np.squeeze(np.asarray(value), None if wanted is None else tuple(wanted))
    if wanted is None:
        wanted = [axis for axis, size in enumerate(value.shape) if size == 1]
    return value.squeeze(wanted[0]) if len(wanted) == 1 else value.squeeze(tuple(wanted))


@operator("Unsqueeze")
def _unsqueeze(call: Call, value: Value, axes: Value = None) -> Value:
    wanted = call.setting("axes", (axes,), 0)
    if isinstance(wanted, int):
        wanted = [wanted]
    if not isinstance(value, Tensor):
        return np.expand_dims(np.asarray(value), tuple(wanted))
    rank = value.ndim + len(wanted)
    for axis in sorted(axis % rank for axis in wanted):
        value = value.unsqueeze(axis)
    return value


@operator("Concat")
def _concat(call: Call, *values: Value) -> Value:
    axis = call.get("axis", 1)
    if is_host(*values):
        return np.concatenate([np.asarray(value) for value in values], axis)
    parts = [tensor(value) for value in values]
    parts = [part for part in parts if part.ndim > 1 or part.shape[0] != 0]
    if call.batch and axis % parts[0].ndim:
        # A token for one sample beside a batch that was made free.
        rows = next((part.shape[0] for part in parts if part.shape[0] != call.batch), call.batch)
        parts = [
            part.expand(rows, *part.shape[1:]) if part.shape[0] == call.batch else part
            for part in parts
        ]
    return torch.cat(parts, axis)


@operator("Split")
def _split(call: Call, value: Value, sizes: Value = None) -> tuple[Value, ...]:
    axis = call.get("axis", 0)
    wanted = call.setting("split", (sizes,), 0)
    data = value if isinstance(value, Tensor) else np.asarray(value)
    if wanted is None:
        each = -(-data.shape[axis] // call.outputs)
        wanted = [each] * (call.outputs - 1) + [data.shape[axis] - each * (call.outputs - 1)]
    if isinstance(data, Tensor):
        return tuple(torch.split(data, wanted, axis))
    return tuple(np.split(data, np.cumsum(wanted)[:-1], axis))


@operator("Slice")
def _slice(call: Call, value: Value, *inputs: Value) -> Value:
    starts, ends = call.setting("starts", inputs, 0), call.setting("ends", inputs, 1)
    axes = call.setting("axes", inputs, 2) or list(range(len(starts)))
    steps = call.setting("steps", inputs, 3) or [1] * len(starts)
    data: Any = value if isinstance(value, Tensor) else np.asarray(value)
    if not all(isinstance(bound, int) for bound in (*starts, *ends)):
        # It follows a size of the input, which NumPy would take for fixed.
        data = tensor(value)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        at = axis % data.ndim
        if isinstance(data, Tensor) and step < 0:
            if step != -1 or not (start == -1 or start >= data.shape[at] - 1) or end > -(2**31):
                raise UnsupportedError(f"step {step} is not read")
            data = data.flip(at)
        elif isinstance(data, Tensor):
            # Python's own slices would fix an end that follows the length of the input.
            data = torch.ops.aten.slice.Tensor(data, at, start, end, step)
        else:
            cut = slice(start, None if step < 0 and end < -data.shape[at] else end, step)
            data = data[(slice(None),) * at + (cut,)]
    result: Value = data
    return result


@operator("Gather")
def _gather(call: Call, value: Value, indices: Value) -> Value:
    axis = call.get("axis", 0)
    if not isinstance(value, Tensor) and not isinstance(indices, Tensor):
        return known(np.take(np.asarray(value), np.asarray(indices).astype(np.int64), axis))
    data = tensor(value)
    if isinstance(indices, Tensor) or indices is None:
        return _picked(data, tensor(indices).long(), axis)
    if indices.ndim == 0:
        return data.select(axis, number(indices))
    if indices.dtype != object:
        indices = np.where(indices < 0, indices + data.shape[axis], indices)
    return _picked(data, tensor(indices), axis)


def _picked(data: Tensor, indices: Tensor, axis: int) -> Tensor:
    axis %= data.ndim
    if indices.ndim == 1:
        return data.index_select(axis, indices)
    shape = (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])
    return data.index_select(axis, indices.reshape(-1)).reshape(shape)


@operator("GatherElements")
def _gather_elements(call: Call, value: Value, indices: Value) -> Value:
    return torch.gather(tensor(value), call.get("axis", 0), tensor(indices).long())


@operator("GatherND")
def _gather_places(call: Call, value: Value, indices: Value) -> Value:
    if call.get("batch_dims", 0):
        raise UnsupportedError("batch of indices is not read")
    data, places = tensor(value), tensor(indices).long()
    return data[tuple(places.unbind(-1))]


@operator("ScatterElements", "Scatter")
def _scatter_elements(call: Call, value: Value, indices: Value, updates: Value) -> Value:
    if call.get("reduction", "none") != "none":
        raise UnsupportedError("reduction is not read")
    return tensor(value).scatter(call.get("axis", 0), tensor(indices).long(), tensor(updates))


@operator("ScatterND")
def _scatter_places(call: Call, value: Value, indices: Value, updates: Value) -> Value:
    if call.get("reduction", "none") != "none":
        raise UnsupportedError("reduction is not read")
    places = tuple(tensor(indices).long().unbind(-1))
    return tensor(value).index_put(places, tensor(updates))


@operator("Expand")
def _expand(_: Call, value: Value, shape: Value) -> Value:
    wanted = numbers(shape)
    if not isinstance(value, Tensor):
        data = np.asarray(value)
        if all(isinstance(size, int) for size in wanted):
            _check_fill(wanted)
            return np.broadcast_to(data, np.broadcast_shapes(data.shape, tuple(wanted)))
        value = tensor(data)
    extra = len(wanted) - value.ndim
    wanted = [1] * -extra + wanted
    sizes = [1] * extra + list(value.shape)
    target = [
        size if isinstance(want, int) and want == 1 else want
        for want, size in zip(wanted, sizes, strict=True)
    ]
    return value.expand(target)


@operator("Tile")
def _tile(_: Call, value: Value, repeats: Value) -> Value:
    if is_host(value):
        _check_fill([*numbers(repeats), *np.asarray(value).shape])
        return np.tile(np.asarray(value), numbers(repeats))
    return tensor(value).repeat(numbers(repeats))


@operator("ConstantOfShape")
def _constant_of_shape(call: Call, shape: Value) -> Value:
    fill: Host = np.asarray(call.get("value", np.zeros(1, dtype=np.float32)))
    wanted = numbers(shape)
    if all(isinstance(size, int) for size in wanted):
        _check_fill(wanted)
        return np.full(wanted, fill.reshape(()), dtype=fill.dtype)
    return torch.full(wanted, number(fill))


def _check_fill(sizes: list[int]) -> None:
    count = 1
    for size in sizes:
        count *= max(int(size), 1)
    if count > LARGEST_FILL:
        raise UnsupportedError(f"result would have {count} elements")


@operator("Range")
def _range(_: Call, start: Value, limit: Value, step: Value) -> Value:
    first, last, by = number(start), number(limit), number(step)
    if all(isinstance(value, int | float) for value in (first, last, by)):
        _check_fill([int(abs((last - first) / by)) + 1])
        return np.arange(first, last, by)
    return torch.arange(first, last, by)


@operator("Trilu")
def _triangle(call: Call, value: Value, diagonal: Value = None) -> Value:
    at = 0 if diagonal is None else number(diagonal)
    upper = call.get("upper", 1)
    if not isinstance(value, Tensor):
        data = np.asarray(value)
        return np.triu(data, at) if upper else np.tril(data, at)
    return torch.triu(value, at) if upper else torch.tril(value, at)


@operator("Pad")
def _pad(call: Call, value: Value, *inputs: Value) -> Value:
    data = tensor(value)
    pads = call.setting("pads", inputs, 0)
    fill = inputs[1] if len(inputs) > 1 else None
    axes = numbers(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else None
    axes = [axis % data.ndim for axis in axes] if axes is not None else list(range(data.ndim))
    pairs = {axis: (pads[at], pads[at + len(axes)]) for at, axis in enumerate(axes)}
    flat: list[int] = []
    padded = [axis for axis, pair in pairs.items() if any(pair)]
    for axis in reversed(range(min(padded, default=data.ndim), data.ndim)):
        flat += pairs.get(axis, (0, 0))
    if not flat:
        return data
    mode = call.get("mode", "constant")
    if mode == "constant":
        filling = float(number(fill)) if fill is not None else call.get("value", 0.0)
        return functional.pad(data, flat, "constant", filling)
    return functional.pad(data, flat, {"edge": "replicate", "wrap": "circular"}.get(mode, mode))


@operator("DepthToSpace")
def _depth_to_space(call: Call, value: Value) -> Value:
    data, block = tensor(value), call["blocksize"]
    if call.get("mode", "DCR") == "CRD":
        return functional.pixel_shuffle(data, block)
    n, c, h, w = data.shape
    cut = data.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return cut.reshape(n, c // block**2, h * block, w * block)


@operator("SpaceToDepth")
def _space_to_depth(call: Call, value: Value) -> Value:
    data, block = tensor(value), call["blocksize"]
    n, c, h, w = data.shape
    cut = data.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return cut.reshape(n, c * block**2, h // block, w // block)
