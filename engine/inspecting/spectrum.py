"""The singular values of a weight."""

import torch
from torch import Tensor

EXACT_SIDE = 1024
LARGEST_PRODUCT = 1e12


def singular_values(matrix: Tensor) -> tuple[float, ...]:
    """Return all singular values of a matrix (outputs by the rest), largest first.

    Up to a smaller side of 1024 they are exact to about 1e-8 of the largest one. Beyond they are
    computed in float32, where those below about 1e-3 of the largest one are only roughly known.
    A matrix that would take minutes (smaller side squared times larger over 1e12) has none.
    """
    side, rest = sorted(matrix.shape)
    if side * side * rest > LARGEST_PRODUCT:
        return ()
    short = matrix.detach() if matrix.shape[0] == side else matrix.detach().T
    short = short.double() if side <= EXACT_SIDE else short.float()
    values = torch.linalg.eigvalsh(short @ short.T).clamp(min=0).sqrt().flip(0)
    return tuple(values.tolist())
