"""Change the columns of a weight one by one, and let later columns make up for the error.

Hassibi, Stork: Second Order Derivatives for Network Pruning, Optimal Brain Surgeon (1993), in the
fixed order and with the Cholesky factor of Frantar et al.: GPTQ (2023).
"""

import torch
from torch import Tensor

RETRIES = 8


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
        return torch.eye(len(moments)) / scale**0.5
    root = lower.flip(0, 1)
    del lower
    identity = torch.eye(len(root), dtype=root.dtype)
    inverse: Tensor = torch.linalg.solve_triangular(root, identity, upper=True)
    return inverse.float()
