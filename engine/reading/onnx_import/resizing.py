"""ONNX Resize and Upsample: by torch's own resizing where it is the same, else axis by axis."""

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
    numbers,
    operator,
    tensor,
)

PLACES = (
    *("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"),
    *("align_corners", "asymmetric"),
)
LINEAR = {("linear", 3): "linear", ("linear", 4): "bilinear", ("linear", 5): "trilinear"}


@operator("Resize", "Upsample")
def _resize(call: Call, value: Value, *inputs: Value) -> Value:
    data = tensor(value)
    scales, sizes = _target(call, inputs, data.ndim)
    place = call.get("coordinate_transformation_mode", "half_pixel")
    old = call.op == "Upsample" or call.version < 11
    place = "asymmetric" if old else place
    mode = call.get("mode", "nearest")
    stretched = call.get("keep_aspect_ratio_policy", "stretch") == "stretch"
    if call.get("antialias", 0) or call.get("exclude_outside", 0) or not stretched:
        raise UnsupportedError("antialias or choice of what is outside is not read")
    if place not in PLACES or mode not in ("nearest", "linear", "cubic"):
        raise UnsupportedError(f"{mode} resizing by {place} is not read")
    size: Any = None if sizes is None else sizes[2:]
    factor = None if sizes is not None else scales[2:]
    spatial = all(s == 1 for s in scales[:2]) if sizes is None else sizes[1] == data.shape[1]
    rounding = "floor" if old else call.get("nearest_mode", "round_prefer_floor")
    kind = _own_kind(mode, place, rounding, factor, data.ndim)
    if kind and spatial:
        corners = place == "align_corners" if "linear" in kind or kind == "bicubic" else None
        return functional.interpolate(data, size, factor, kind, align_corners=corners)
    for axis in range(1, data.ndim):
        data = _along(data, axis, (scales, sizes), (mode, place, rounding), call)
    return data


def _target(
    call: Call, inputs: tuple[Value, ...], rank: int
) -> tuple[list[float], list[Any] | None]:
    if call.op == "Upsample" or call.version < 11:
        return call.setting("scales", inputs, 0), None
    at = 1 if call.version >= 11 else 0
    sizes = numbers(inputs[at + 1]) if len(inputs) > 2 and inputs[at + 1] is not None else None
    scales = [] if sizes else numbers(inputs[at])
    axes = call.get("axes")
    if axes:
        if sizes:
            raise UnsupportedError("choice of axes by sizes is not read")
        chosen = dict(zip((axis % rank for axis in axes), scales, strict=True))
        scales = [chosen.get(axis, 1.0) for axis in range(rank)]
    return scales, sizes or None


def _own_kind(mode: str, place: str, rounding: str, factor: Any, rank: int) -> str:
    """Return what torch calls the same resizing, empty where it has none."""
    half = place in ("half_pixel", "pytorch_half_pixel")
    if mode == "nearest":
        whole = factor is not None and all(one >= 1 and one % 1 == 0 for one in factor)
        if place == "asymmetric" and rounding == "floor":
            return "nearest"
        if half and rounding == "round_prefer_floor":
            return "nearest" if whole else "nearest-exact"
        return ""
    if mode == "cubic":
        return "bicubic" if rank == 4 and (half or place == "align_corners") else ""
    return LINEAR.get((mode, rank), "") if half or place == "align_corners" else ""


def _along(
    data: Tensor,
    axis: int,
    target: tuple[list[float], list[Any] | None],
    manner: tuple[str, str, str],
    call: Call,
) -> Tensor:
    """Resize one axis: every output is a weighted sum of the inputs at one to four places."""
    scales, sizes = target
    mode, place, rounding = manner
    count = int(data.shape[axis])
    wanted = int(np.floor(count * scales[axis])) if sizes is None else int(sizes[axis])
    factor = scales[axis] if sizes is None else wanted / count
    if wanted == count and factor == 1:
        return data
    # In single precision, as runtimes compute it: it decides what is nearest.
    at = np.arange(wanted, dtype=np.float32)
    places = _places(at, np.float32(factor), count, wanted, place)
    if mode == "nearest":
        return data.index_select(axis, _index(_rounded(places, rounding), count))
    low = np.floor(places)
    shares = _shares(places - low, mode, call.get("cubic_coeff_a", -0.75))
    shape = [1] * data.ndim
    shape[axis] = -1
    result: Any = 0
    for step, share in shares.items():
        part = data.index_select(axis, _index(low + step, count))
        result = result + part * torch.from_numpy(share.astype(np.float32)).reshape(shape)
    resized: Tensor = result
    return resized


def _places(at: Host, factor: Any, count: int, wanted: int, place: str) -> Host:
    if place == "asymmetric":
        return np.asarray(at / factor)
    if place == "align_corners":
        return np.asarray(at * (count - 1) / max(wanted - 1, 1))
    if place == "pytorch_half_pixel" and wanted == 1:
        return np.zeros(1)
    shift = np.float32(0)
    if place == "half_pixel_symmetric":
        shift = np.float32(count / 2) * (1 - wanted / (factor * count))
    half = np.float32(0.5)
    return np.asarray(shift + (at + half) / factor - half)


def _rounded(places: Host, rounding: str) -> Host:
    match rounding:
        case "floor":
            return np.floor(places)
        case "ceil":
            return np.ceil(places)
        case "round_prefer_ceil":
            return np.floor(places + 0.5)
    return np.ceil(places - 0.5)


def _index(places: Host, count: int) -> Tensor:
    return torch.from_numpy(np.clip(places, 0, count - 1).astype(np.int64))


def _shares(part: Host, mode: str, a: float) -> dict[int, Host]:
    if mode == "linear":
        return {0: 1 - part, 1: part}

    def near(x: Host) -> Host:
        return np.asarray(((a + 2) * x - (a + 3)) * x * x + 1)

    def far(x: Host) -> Host:
        return np.asarray(((a * x - 5 * a) * x + 8 * a) * x - 4 * a)

    return {-1: far(part + 1), 0: near(part), 1: near(1 - part), 2: far(2 - part)}
