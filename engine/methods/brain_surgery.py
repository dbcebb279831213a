"""Weights zeroed one by one, and the weights beside them changed to make up for it.

Hassibi, Stork: Second Order Derivatives for Network Pruning: Optimal Brain Surgeon (1993), for
every layer on its own: the squared error of its outputs is to stay small.
"""

import torch
from torch import Tensor

from featherweight.engine.evidence import InputMoments
from featherweight.engine.jobs import Check
from featherweight.engine.methods.error_feedback import DAMPING, Change, Feedback, inverse_root
from featherweight.engine.methods.masks import largest

# Rows × columns³: about as many multiplications, half a minute on one core.
MOST_WORK = 1 << 38
ELEMENTS_AT_ONCE = 1 << 22


def surgery_fits(weight: Tensor, moments: InputMoments) -> bool:
    """Say whether the exact order of removals can be found in reasonable time."""
    rows = weight.numel() // sum(block.shape[-1] for block in moments.blocks)
    return sum(rows * block.shape[-1] ** 3 for block in moments.blocks) <= MOST_WORK


@torch.no_grad()
def swept(weight: Tensor, moments: InputMoments, kept: int, check: Check) -> tuple[Tensor, Tensor]:
    """Return the weight with all but `kept` zeroed, column by column, and its mask.

    Frantar, Alistarh: SparseGPT (2023). How many of a block of columns stay is told by the whole
    weight as it was; which ones, by the values when the sweep comes to the block.
    """
    feedback = Feedback(moments, check)
    plan = moments.matrix(largest(feedback.saliency(weight), kept)).clone()

    def choose(values: Tensor, pivots: Tensor, group: int, places: list[int]) -> None:
        count = int(plan[group][:, places].sum())
        plan[group][:, places] = largest((values / pivots[:, None]).square(), count).T

    swept_weight, _ = feedback.changed(weight, _zeroing(plan), check, choose)
    return swept_weight, moments.weight(plan, weight.shape)


@torch.no_grad()
def mended(weight: Tensor, moments: InputMoments, mask: Tensor, check: Check) -> Tensor:
    """Return the weight swept under a mask that is chosen already, bool of its shape."""
    return Feedback(moments, check).changed(weight, _zeroing(moments.matrix(mask)), check)[0]


@torch.no_grad()
def dissected(
    weight: Tensor, moments: InputMoments, kept: int, check: Check
) -> tuple[Tensor, Tensor]:
    """Return the weight with all but `kept` zeroed, always the least harmful next, and its mask.

    Frantar, Singh, Alistarh: Optimal Brain Compression (2022). Rows share the inverse moments; each
    finds its own order of removals, the orders are merged by their harm, and what stays of a row is
    then the least-squares solution.
    """
    matrix = moments.matrix(weight).clone()
    harm, orders = torch.empty_like(matrix), torch.empty(matrix.shape, dtype=torch.int64)
    for group, columns, block in moments.parts():
        root = inverse_root(block, DAMPING)
        found = _removals(matrix[group][:, columns], root.T @ root, check)
        # A removal can only follow those before it, so that it counts at least as much as they do.
        harm[group][:, columns] = found[0].cummax(1).values
        orders[group][:, columns] = found[1] + columns.start
    gone = largest(-harm, matrix.numel() - kept)
    mask = torch.ones(matrix.shape, dtype=torch.bool).scatter_(2, orders, ~gone)
    for group, columns, block in moments.parts():
        damped = block.double()
        damped.diagonal().add_(DAMPING * damped.diagonal().mean())
        for row, stays in zip(matrix[group][:, columns], mask[group][:, columns], strict=True):
            check()
            if not stays.all():
                wanted = (damped @ row.double())[stays]
                solved = torch.linalg.solve_ex(damped[stays][:, stays], wanted)[0]
                row[stays] = solved.float() if bool(solved.isfinite().all()) else row[stays]
                row[~stays] = 0.0
    return moments.weight(matrix, weight.shape), moments.weight(mask, weight.shape)


def _zeroing(stays: Tensor) -> Change:
    return lambda values, group, place: values * stays[group][:, place]


def _removals(matrix: Tensor, inverse: Tensor, check: Check) -> tuple[Tensor, Tensor]:
    """Return the harm of each removal and its column, (rows, columns), in each row's own order."""
    together = max(1, ELEMENTS_AT_ONCE // inverse.numel())
    parts = [_removals_at_once(part, inverse, check) for part in matrix.split(together)]
    harms, orders = zip(*parts, strict=True)
    return torch.cat(harms), torch.cat(orders)


def _removals_at_once(matrix: Tensor, inverse: Tensor, check: Check) -> tuple[Tensor, Tensor]:
    values, inverses = matrix.clone(), inverse.repeat(len(matrix), 1, 1)
    harm, order = torch.empty_like(matrix), torch.empty(matrix.shape, dtype=torch.int64)
    gone, rows = torch.zeros(matrix.shape, dtype=torch.bool), torch.arange(len(matrix))
    smallest = float(inverse.diagonal().min()) * 1e-6
    for step in range(matrix.shape[1]):
        check()
        pivots = inverses.diagonal(dim1=1, dim2=2).clamp(min=smallest)
        scores = (values.square() / pivots).masked_fill(gone, torch.inf)
        harm[:, step], order[:, step] = scores.min(1)
        at = order[:, step]
        scaled = inverses[rows, at] / pivots[rows, at][:, None]
        values -= scaled * values[rows, at][:, None]
        inverses.baddbmm_(inverses[rows, at][:, :, None], scaled[:, None], alpha=-1)
        gone[rows, at] = True
    return harm, order
