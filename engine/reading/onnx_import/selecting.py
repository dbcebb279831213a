"""ONNX operators whose results are as many as the numbers in the input decide.

A network with them has no graph of fixed shapes; it runs, and its layers can be compressed.
"""

import torch
from torch import Tensor

from featherweight.engine.reading.onnx_import.values import Call, Value, number, operator, tensor

# Of the boxes of one sample: seconds of work, and more than detectors that are in use.
MOST_COMPARISONS = 1 << 31


@operator("NonZero")
def _places(_: Call, value: Value) -> Value:
    return torch.nonzero(tensor(value)).t()


@operator("Compress")
def _compress(call: Call, value: Value, chosen: Value) -> Value:
    data, axis = tensor(value), call.get("axis")
    if axis is None:
        data, axis = data.reshape(-1), 0
    return data.index_select(axis, torch.nonzero(tensor(chosen))[:, 0])


@operator("NonMaxSuppression")
def _best_boxes(
    call: Call,
    boxes: Value,
    scores: Value,
    most: Value = None,
    overlap: Value = None,
    least: Value = None,
) -> Value:
    """Return the batch, the class and the place of every box that no better one overlaps."""
    corners, values = _corners(tensor(boxes), bool(call.get("center_point_box", 0))), tensor(scores)
    count = 0 if most is None else int(number(most))
    limit = 0.0 if overlap is None else float(number(overlap))
    comparisons = values.shape[1] * min(count, corners.shape[1]) * corners.shape[1]
    if comparisons > MOST_COMPARISONS:
        raise RuntimeError(f"it would compare boxes {comparisons} times")
    found: list[Tensor] = [torch.zeros((0, 3), dtype=torch.int64)]
    for batch, classes in enumerate(values):
        for kind, each in enumerate(classes):
            order = torch.argsort(each, descending=True, stable=True)
            if least is not None:
                order = order[each[order] > float(number(least))]
            kept = _kept(corners[batch], order, count, limit)
            found += [torch.tensor([[batch, kind, place]]) for place in kept]
    return torch.cat(found)


def _corners(boxes: Tensor, centred: bool) -> Tensor:
    """Return the lower and the upper corner of every box."""
    first, second = boxes.split(2, -1)
    if centred:
        first, second = first - second / 2, first + second / 2
    return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], -1)


def _kept(corners: Tensor, order: Tensor, count: int, limit: float) -> list[int]:
    kept: list[int] = []
    while order.numel() and len(kept) < count:
        best, order = order[0], order[1:]
        kept.append(int(best))
        order = order[_overlaps(corners[best], corners[order]) <= limit]
    return kept


def _overlaps(one: Tensor, others: Tensor) -> Tensor:
    """Return the share of the area of both boxes together that both cover."""
    low, high = torch.maximum(one[:2], others[:, :2]), torch.minimum(one[2:], others[:, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = (one[2:] - one[:2]).prod(-1) + (others[:, 2:] - others[:, :2]).prod(-1)
    return torch.where(shared > 0, shared / (areas - shared), shared)
