"""Change the columns of a weight one by one, and let later columns make up for the error.

Hassibi, Stork: Second Order Derivatives for Network Pruning, Optimal Brain Surgeon (1993), in the
fixed order, blocks and with the Cholesky factor of Frantar et al.: GPTQ (2023).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from featherweight.engine.evidence import InputMoments
from featherweight.engine.jobs import Check, unchecked

RETRIES = 8
# Columns whose errors reach each other at once; the rest of the weight gets theirs together.
COLUMNS_AT_ONCE = 128
# Share of the mean of the moments' diagonal, as in the paper.
DAMPING = 0.01

# Gives what a column, (rows,), becomes; told are its values, its group and its place in the group.
Change = Callable[[Tensor, int, int], Tensor]
# Called before a block of columns changes; told are its values, (columns, rows), its pivots U_kk,
# its group and its places in the group.
Ready = Callable[[Tensor, Tensor, int, list[int]], None]


@torch.no_grad()
def inverse_root(moments: Tensor, damping: float) -> Tensor:
    """Return the upper triangular U with UᵀU = (H + λI)⁻¹, float32 (width, width).

    H are the moments E[x xᵀ], finite, float32 (width, width), and λ is `damping` times the mean of
    their diagonal. Row k of U / U_kk is what one unit of error in column k asks of later columns.
    Where rounding leaves H + λI without a root, λ grows until there is one.
    """
    # The Cholesky factor from the last column to the first is upper: H = R Rᵀ, so that U = R⁻¹.
    backwards = moments.flip(0, 1).double()
    diagonal = backwards.diagonal()
    scale = float(diagonal.mean())
    if not scale > 0.0:
        return torch.eye(len(moments))
    measured = diagonal.clone()
    for attempt in range(RETRIES):
        diagonal.copy_(measured + damping * scale * 10.0**attempt)
        lower, failed = torch.linalg.cholesky_ex(backwards)
        if not failed:
            break
    else:
        return torch.eye(len(moments)) / math.sqrt(scale)
    root = lower.flip(0, 1)
    del lower
    identity = torch.eye(len(root), dtype=root.dtype)
    inverse: Tensor = torch.linalg.solve_triangular(root, identity, upper=True)
    return inverse.float()


class Feedback:
    """Changes columns of weights that have these moments; their roots are found once.

    Columns of the matrix view go from the largest input to the smallest, so that small ones are
    left to mend what large ones did. Where moments are not finite no error is passed on.
    """

    def __init__(self, moments: InputMoments, check: Check = unchecked) -> None:
        self._moments = moments
        self._parts: list[tuple[int, list[int], Tensor]] = []
        for group, columns, block in moments.parts():
            check()
            order = block.diagonal().argsort(descending=True, stable=True)
            finite = bool(block.isfinite().all())
            ordered = block[order][:, order] if finite else torch.zeros_like(block)
            places = (order + columns.start).tolist()
            self._parts.append((group, places, inverse_root(ordered, DAMPING)))

    @torch.no_grad()
    def saliency(self, weight: Tensor) -> Tensor:
        """Return the harm of zeroing each weight alone when its column's turn comes: w² / U_kk²."""
        matrix = self._moments.matrix(weight).square()
        for group, places, root in self._parts:
            matrix[group][:, places] /= root.diagonal().square()
        return self._moments.weight(matrix, weight.shape)

    @torch.no_grad()
    def changed(
        self, weight: Tensor, change: Change, check: Check = unchecked, ready: Ready | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the weight with all columns changed, and the harm to each output: (outputs,).

        The harm is the output's mean squared error, dampening included.
        """
        matrix = self._moments.matrix(weight).clone()
        harm = torch.zeros(matrix.shape[:2])
        for group, places, root in self._parts:
            # One row for each column: its elements then lie side by side.
            lines = matrix[group].T[places]
            told = _block_of_group(ready, group) if ready else None
            harm[group] += _pass_on(lines, root, places, _of_group(change, group), check, told)
            matrix[group].T[places] = lines
        return self._moments.weight(matrix, weight.shape), harm.flatten()


def _of_group(change: Change, group: int) -> Callable[[Tensor, int], Tensor]:
    return lambda values, place: change(values, group, place)


def _block_of_group(ready: Ready, group: int) -> Callable[[Tensor, Tensor, list[int]], None]:
    return lambda values, pivots, places: ready(values, pivots, group, places)


def _pass_on(
    lines: Tensor,
    root: Tensor,
    places: list[int],
    change: Callable[[Tensor, int], Tensor],
    check: Check,
    ready: Callable[[Tensor, Tensor, list[int]], None] | None,
) -> Tensor:
    harm = torch.zeros(lines.shape[1])
    for start in range(0, len(lines), COLUMNS_AT_ONCE):
        check()
        part = lines[start : start + COLUMNS_AT_ONCE]
        stop = start + len(part)
        near = root[start:stop, start:stop]
        errors = torch.empty_like(part)
        if ready:
            ready(part, near.diagonal(), places[start:stop])
        for at, place in enumerate(places[start:stop]):
            changed = change(part[at], place)
            errors[at] = (part[at] - changed) / near[at, at]
            part[at] = changed
            part[at + 1 :].addr_(near[at, at + 1 :], errors[at], alpha=-1)
        lines[stop:].addmm_(root[start:stop, stop:].T, errors, alpha=-1)
        harm += errors.square().sum(0)
    return harm
