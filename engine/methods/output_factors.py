"""The matrix of a low rank whose outputs are the nearest, by the moments of the inputs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from featherweight.engine.jobs import Check, unchecked

# Directions that no input takes count so much of the mean one: then they still have an order.
UNSEEN = 1e-6
LEAST = 1e-30


def output_factors(
    matrix: Tensor, moments: Sequence[Tensor], rank: int, check: Check = unchecked
) -> tuple[Tensor, Tensor]:
    """Return the approximation of W, m×n, as m×rank times rank×n, with the least E‖Wx - Ŵx‖².

    `moments` are E[x xᵀ] of consecutive columns. With S Sᵀ of them all the answer is the truncated
    W·S times the inverse of S (Wang et al. 2024, SVD-LLM, arXiv 2403.07378). On the side of the
    outputs that is U Uᵀ W, for U the leading eigenvectors of W E[x xᵀ] Wᵀ: no inverse is needed.
    """
    wide = matrix.double()
    check()
    if wide.shape[0] <= wide.shape[1]:
        gram, start = torch.zeros(len(wide), len(wide), dtype=torch.float64), 0
        for part in _regular(moments, wide.shape[1]):
            check()
            columns = wide[:, start : start + len(part)]
            gram += columns @ part @ columns.T
            start += len(part)
        vectors = _leading(gram, rank)
        return balanced(vectors, vectors.T @ wide)
    root, inverse = whitening(torch.block_diag(*moments))
    check()
    image = wide @ root
    vectors = _leading(image.T @ image, rank)
    return balanced(image @ vectors, vectors.T @ inverse)


def whitening(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Return S with S Sᵀ = E[x xᵀ], and its inverse, where every direction is taken a little."""
    level = _level([moments], len(moments))
    values, basis = torch.linalg.eigh(moments.double())
    # Rounding of the moments may have made the least of them negative.
    roots = (values + level).clamp_min(level).sqrt()
    return basis * roots, (basis / roots).T


def balanced(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Scale each pair of a column and a row so that both are equally long."""
    columns = torch.linalg.vector_norm(left, dim=0)
    rows = torch.linalg.vector_norm(right, dim=1)
    scale = torch.where((rows > 0) & (columns > 0), (rows / columns).sqrt(), 1.0)
    return left * scale, right / scale[:, None]


def _regular(moments: Sequence[Tensor], columns: int) -> list[Tensor]:
    """Return the moments, float64, of inputs that take every direction at least a little."""
    level = _level(moments, columns)
    return [part.double() + level * torch.eye(len(part)) for part in moments]


def _level(moments: Sequence[Tensor], columns: int) -> float:
    return max(UNSEEN * sum(float(part.diagonal().sum()) for part in moments) / columns, LEAST)


def _leading(gram: Tensor, rank: int) -> Tensor:
    """Return the eigenvectors of the largest values, the largest first."""
    vectors: Tensor = torch.linalg.eigh(gram).eigenvectors
    return vectors[:, -rank:].flip(1)
