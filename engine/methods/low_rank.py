"""The linear algebra that low-rank methods share. All of it is deterministic, in float64."""

import torch
from torch import Tensor, nn

from featherweight.engine.jobs import Check, unchecked

COLUMNS_AT_ONCE = 4096


def leading_vectors(matrix: Tensor, rank: int, check: Check = unchecked) -> Tensor:
    """Return the `rank` leading left singular vectors of a matrix m×n as m×rank float64.

    They are the eigenvectors of its Gram matrix, m×m, so a long n costs no memory.
    """
    side = matrix.shape[0]
    gram = torch.zeros(side, side, dtype=torch.float64)
    for start in range(0, matrix.shape[1], COLUMNS_AT_ONCE):
        check()
        wide = matrix[:, start : start + COLUMNS_AT_ONCE].double()
        gram += wide @ wide.T
    check()
    vectors: Tensor = torch.linalg.eigh(gram).eigenvectors
    return vectors[:, -rank:].flip(1)


def factors(matrix: Tensor, rank: int, check: Check = unchecked) -> tuple[Tensor, Tensor]:
    """Return the best approximation of a matrix m×n of a rank as m×rank times rank×n, float64.

    U·√S and √S·Vᵀ: both carry the same share of every singular value.
    """
    if matrix.shape[0] > matrix.shape[1]:
        right, left = factors(matrix.T, rank, check)
        return left.T, right.T
    vectors = leading_vectors(matrix, rank, check)
    rows = vectors.T @ matrix.double()
    roots = torch.linalg.vector_norm(rows, dim=1).sqrt()
    # A direction without energy has nothing to scale, and must not divide by zero.
    scale = torch.where(roots > 0, roots, torch.ones_like(roots))
    return vectors * roots, rows / scale[:, None]


def assign(part: nn.Module, values: Tensor, bias: Tensor | None = None) -> None:
    """Give a layer of a skeleton its numbers, in its own shapes and dtype."""
    like = part.get_parameter("weight")
    part.register_parameter("weight", nn.Parameter(values.to(like.dtype).reshape(like.shape)))
    if bias is not None:
        part.register_parameter("bias", nn.Parameter(bias.detach().clone()))
