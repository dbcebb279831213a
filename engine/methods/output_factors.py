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
    level = UNSEEN * sum(float(part.diagonal().sum()) for part in moments) / wide.shape[1]
    seen = [part.double() + max(level, LEAST) * torch.eye(len(part)) for part in moments]
    check()
    if wide.shape[0] <= wide.shape[1]:
        gram, start = torch.zeros(len(wide), len(wide), dtype=torch.float64), 0
        for part in seen:
            check()
            columns = wide[:, start : start + len(part)]
            gram += columns @ part @ columns.T
            start += len(part)
        vectors = _leading(gram, rank)
        return _balanced(vectors, vectors.T @ wide)
    values, basis = torch.linalg.eigh(torch.block_diag(*seen))
    roots = values.clamp(min=max(level, LEAST)).sqrt()
    check()
    image = wide @ (basis * roots)
    vectors = _leading(image.T @ image, rank)
    return _balanced(image @ vectors, vectors.T @ (basis / roots).T)


def _leading(gram: Tensor, rank: int) -> Tensor:
    """Return the eigenvectors of the largest values, the largest first."""
    vectors: Tensor = torch.linalg.eigh(gram).eigenvectors
    return vectors[:, -rank:].flip(1)


def _balanced(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Scale each pair of a column and a row so that both are equally long."""
    columns = torch.linalg.vector_norm(left, dim=0)
    rows = torch.linalg.vector_norm(right, dim=1)
    scale = torch.where((rows > 0) & (columns > 0), (rows / columns).sqrt(), 1.0)
    return left * scale, right / scale[:, None]
