"""The linear algebra that low-rank methods share. All of it is deterministic.

Matrices are taken apart in float64. Only where few vectors of a wide matrix are wanted are they
searched for in float32, and what is found is taken apart in float64.
"""

import math

import torch
from torch import Tensor, nn

from featherweight.engine.jobs import Check, unchecked

COLUMNS_AT_ONCE = 4096
# From this side on, and up to this share of it, a search is several times faster.
WIDE, FEW = 1024, 0.25
SEED, PRODUCTS, DEGREE, MOST_GROWTH = 20260101, 30, 8, 1e4


def leading_vectors(matrix: Tensor, rank: int, check: Check = unchecked) -> Tensor:
    """Return the `rank` leading left singular vectors of a matrix m×n as m×rank float64.

    They are the eigenvectors of its Gram matrix, m×m, so a long n costs no memory. Few vectors of
    a wide matrix hold their energy to about 1e-4 of it.
    """
    side = matrix.shape[0]
    if side >= WIDE and rank <= FEW * side:
        return _searched(matrix, rank, check)
    gram = torch.zeros(side, side, dtype=torch.float64)
    for start in range(0, matrix.shape[1], COLUMNS_AT_ONCE):
        check()
        wide = matrix[:, start : start + COLUMNS_AT_ONCE].double()
        gram += wide @ wide.T
    check()
    vectors: Tensor = torch.linalg.eigh(gram).eigenvectors
    return vectors[:, -rank:].flip(1)


def _searched(matrix: Tensor, rank: int, check: Check) -> Tensor:
    """Return leading vectors by subspace iteration (Zhou and Saad 2006, with Chebyshev filters)."""
    gram = _float32_gram(matrix, check)
    generator = torch.Generator().manual_seed(SEED)
    wanted = min(len(gram), rank + max(32, rank // 4))
    basis = torch.randn(len(gram), wanted, generator=generator)
    left = PRODUCTS
    while left > 0:
        basis = torch.linalg.qr(gram @ basis).Q
        check()
        values = torch.linalg.eigvalsh(basis.T @ (gram @ basis))
        degree = min(_degree(float(values[0]), float(values[-1])), left)
        left -= degree + 2
        if degree > 1:
            basis = _filtered(gram, basis, float(values[0]), degree)
    basis = torch.linalg.qr(basis.double()).Q
    check()
    rows = basis.T @ matrix.double()
    vectors = torch.linalg.eigh(rows @ rows.T).eigenvectors
    result: Tensor = basis @ vectors[:, -rank:].flip(1)
    return result


def _degree(least: float, largest: float) -> int:
    """Return the degree whose filter grows no direction so much that float32 loses the others."""
    if least <= 0:
        return 1
    growth = math.acosh(max(2 * largest / least - 1, 1.0))
    return max(1, min(DEGREE, int(math.log(MOST_GROWTH) / max(growth, 1e-9))))


def _filtered(gram: Tensor, basis: Tensor, cut: float, degree: int) -> Tensor:
    """Return a Chebyshev polynomial of the matrix on a basis, small between nothing and `cut`."""
    before, basis = basis, gram @ basis * (2 / cut) - basis
    for _ in range(degree - 1):
        before, basis = basis, (gram @ basis * (2 / cut) - basis) * 2 - before
    return basis


def _float32_gram(matrix: Tensor, check: Check) -> Tensor:
    """Return matrix · matrixᵀ, of which only one triangle is computed."""
    side = len(matrix)
    # A scale of one keeps squares of small numbers from underflow.
    scaled = matrix.float() / matrix.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
    gram = torch.zeros(side, side)
    for start in range(0, side, WIDE // 2):
        check()
        end = min(start + WIDE // 2, side)
        gram[start:end, :end] = scaled[start:end] @ scaled[:end].T
        gram[:start, start:end] = gram[start:end, :start].T
    return gram


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
