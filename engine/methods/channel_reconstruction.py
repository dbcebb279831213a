"""What the layers that read channels lose together with each of them: the score of ThiNet.

Luo et al. 2017 (arXiv 1707.06342). A reader with weights A of inputs x loses Σ A_p x_p over the
channels p that go. Greedily the one goes that adds least to E‖Σ A_p x_p‖², in which two channels
may cancel each other; what stays makes up for them only afterwards.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from featherweight.engine.evidence import Found
from featherweight.engine.inspecting.channel_ids import IntArray
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.channel_readers import Reader
from featherweight.engine.methods.channel_scores import Scores
from featherweight.engine.methods.channel_surgery import spread

# How many channels go between two looks at whether to stop.
STRIDE = 64


@torch.no_grad()
def reconstruction_order(
    readers: Sequence[Reader], found: Found, atoms: IntArray, check: Check = unchecked
) -> Scores | None:
    """Return for each atom when it goes, 0.0 for the first; None where no reader was measured."""
    products = _products(readers, found, atoms, check)
    if products is None:
        return None
    cost = products.diagonal().clone()
    scores = np.empty(len(atoms))
    for step in range(len(atoms)):
        if step % STRIDE == 0:
            check()
        first = int(cost.argmin())
        scores[first] = step
        cost += 2 * products[first]
        cost[first] = torch.inf
    return scores


def _products(
    readers: Sequence[Reader], found: Found, atoms: IntArray, check: Check
) -> Tensor | None:
    """Return E[(A_p x_p)·(A_q x_q)] of all atoms, of each reader as a share of its outputs."""
    total = torch.zeros(len(atoms), len(atoms), dtype=torch.float64)
    measured = False
    for reader in readers:
        moments = reader.measured(found)
        if moments is None:
            continue
        measured = True
        power = moments.power(reader.layer.get_parameter("weight").detach())
        matrix = reader.matrix.double()
        for group, columns, block in spread(moments, reader.layer.bias is not None):
            check()
            weights = matrix[group][:, columns]
            each = (weights.T @ weights) * block
            places = np.searchsorted(atoms, reader.atoms[group, columns])
            inside = np.isin(reader.atoms[group, columns], atoms)
            kept, rows = torch.from_numpy(np.flatnonzero(inside)), torch.from_numpy(places[inside])
            gathered = torch.zeros(len(atoms), len(kept), dtype=torch.float64)
            gathered.index_add_(0, rows, each[kept][:, kept])
            total.index_add_(1, rows, gathered / max(power, 1e-30))
    return total if measured else None
