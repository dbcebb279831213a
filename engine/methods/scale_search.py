"""The scale of least squared error for weights that become whole multiples of it."""

import torch
from torch import Tensor

from featherweight.engine.jobs import Check, unchecked

CLIPPING = tuple(0.93**step for step in range(36))
PATIENCE = 6
POLISHES = 2
ELEMENTS_AT_ONCE = 1 << 16


def nearest(weight: Tensor, scales: Tensor, largest: int) -> Tensor:
    """Return the nearest multiples of the scales, as floats in [-largest, largest]."""
    return (weight / scales).round().clamp(-largest, largest)


@torch.no_grad()
def searched_scales(rows: Tensor, largest: int, check: Check = unchecked) -> Tensor:
    """Return for every row the scale of the least squared error among clippings of its peak.

    `rows` is float32 (count, n); the result is float32 (count,), positive. Of very long rows
    evenly spread elements stand for all. Each best scale is then fitted to the integers it gives.
    """
    # So many rows at once that they stay in the cache while all clippings are tried.
    together = max(ELEMENTS_AT_ONCE // max(rows.shape[1], 1), 1)
    pieces = rows.split(together)
    return torch.cat([_clipped(piece, largest, check) for piece in pieces]).reshape(-1)


def _clipped(rows: Tensor, largest: int, check: Check) -> Tensor:
    peaks = rows.abs().amax(dim=1, keepdim=True)
    sample = rows[:, :: max(rows.shape[1] // ELEMENTS_AT_ONCE, 1)]
    scales = _positive(peaks / largest)
    errors = _squared_errors(sample, scales, largest)
    stale = 0
    for factor in CLIPPING[1:]:
        check()
        candidates = _positive(peaks * (factor / largest))
        improved = _keep_better(sample, candidates, largest, scales, errors)
        stale = 0 if improved else stale + 1
        if stale == PATIENCE:
            break
    errors = _squared_errors(rows, scales, largest)
    for _ in range(POLISHES):
        check()
        levels = nearest(rows, scales, largest)
        overlap = (levels * rows).sum(dim=1, keepdim=True, dtype=torch.float64)
        energy = levels.square().sum(dim=1, keepdim=True, dtype=torch.float64)
        fitted = (overlap / energy.clamp_min(1.0)).float()
        _keep_better(rows, _positive(fitted), largest, scales, errors)
    return scales


def _keep_better(
    rows: Tensor, candidates: Tensor, largest: int, scales: Tensor, errors: Tensor
) -> bool:
    found = _squared_errors(rows, candidates, largest)
    better = found < errors
    scales[better], errors[better] = candidates[better], found[better]
    return bool(better.any())


def _positive(scales: Tensor) -> Tensor:
    smallest = torch.finfo(torch.float32).tiny
    return torch.where(scales > smallest, scales, 1.0)


def _squared_errors(rows: Tensor, scales: Tensor, largest: int) -> Tensor:
    difference = nearest(rows, scales, largest) * scales - rows
    return difference.square().sum(dim=1, keepdim=True, dtype=torch.float64)
