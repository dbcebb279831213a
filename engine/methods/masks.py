"""Masks of scores: exactly so many stay, in all, in every row, or in every few neighbours."""

import numpy as np
import torch
from torch import Tensor


def largest(scores: Tensor, kept: int) -> Tensor:
    """Return a bool tensor of the scores' shape, True at the `kept` largest.

    Among equal scores those earlier in the tensor stay. What is not a number counts as large, so
    that as many stay as promised.
    """
    values = np.nan_to_num(_flat(scores), nan=np.inf, posinf=np.inf)
    mask = np.full(values.size, kept > 0)
    if 0 < kept < values.size:
        bound = np.partition(values, values.size - kept)[values.size - kept]
        mask = values > bound
        ties = np.flatnonzero(values == bound)
        mask[ties[: kept - np.count_nonzero(mask)]] = True
    return torch.from_numpy(mask).reshape(scores.shape)


def largest_of_rows(scores: Tensor, kept: int) -> Tensor:
    """Return a bool tensor of the scores' shape, (rows, columns), True at `kept` scores in all.

    Every row keeps its largest, as many as any other; what is left over goes to the rows whose
    next score is largest.
    """
    order = scores.nan_to_num(nan=torch.inf).argsort(dim=1, descending=True, stable=True)
    every, rest = divmod(kept, len(scores))
    mask = torch.zeros(scores.shape, dtype=torch.bool)
    mask.scatter_(1, order[:, :every], value=True)
    if rest:
        following = order[:, every]
        rows = largest(scores.gather(1, following[:, None])[:, 0], rest)
        mask[rows, following[rows]] = True
    return mask


def largest_of_neighbours(scores: Tensor, kept: int, size: int) -> Tensor:
    """Return a bool tensor of the scores' shape, True at `kept` of every `size` neighbours.

    Neighbours follow each other in the tensor; the last ones may be fewer. Of equal scores the
    earlier stay.
    """
    flat = scores.reshape(-1).nan_to_num(nan=torch.inf)
    padding = -len(flat) % size
    padded = torch.cat([flat, flat.new_full((padding,), -torch.inf)]).reshape(-1, size)
    order = padded.argsort(dim=1, descending=True, stable=True)
    mask = torch.zeros(padded.shape, dtype=torch.bool)
    mask.scatter_(1, order[:, :kept], value=True)
    return mask.reshape(-1)[: len(flat)].reshape(scores.shape)


def _flat(scores: Tensor) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    flat: np.ndarray[tuple[int], np.dtype[np.float32]] = scores.detach().reshape(-1).numpy()
    return flat
