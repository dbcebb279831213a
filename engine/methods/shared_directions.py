"""Filters grouped by direction: those of one group are about one kernel times a positive factor."""

import numpy as np
import torch
from torch import Tensor

from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.copied_channels import Copies, nearest_factors, shared_loss

MOST_ROUNDS = 10


def shared_directions(gram: Tensor, count: int, check: Check = unchecked) -> Copies:
    """Return N filters in `count` groups that lose little energy in one kernel each.

    `gram` has their inner products, N×N float64. The two groups that lose least together become
    one until `count` are left; then each filter goes to the kernel that it loses least in, kernels
    are made anew, and so on.
    """
    kernels = _merged(gram, count, check)
    signs = torch.ones(len(gram), dtype=torch.float64)
    for _ in range(MOST_ROUNDS):
        mix, factors = nearest_factors(gram, Copies(kernels, signs), count, check)
        pulled = gram @ mix
        lengths = (mix * pulled).sum(0)
        gains = pulled.clamp_min(0).square() / torch.where(lengths > 0, lengths, 1.0)
        moved = gains.argmax(1)
        better = gains.gather(1, moved[:, None]) > gains.gather(1, kernels[:, None]) * (1 + 1e-9)
        moved = torch.where(better[:, 0] & ~_anchors(kernels, factors, count), moved, kernels)
        if torch.equal(moved, kernels):
            break
        kernels = moved
    return Copies(kernels, signs)


def _anchors(kernels: Tensor, factors: Tensor, count: int) -> Tensor:
    """Return one filter of each group, as a mask, that stays so that no group is left empty."""
    anchors = torch.zeros(len(kernels), dtype=torch.bool)
    order = torch.argsort(factors, stable=True)
    last = torch.zeros(count, dtype=torch.int64)
    for place in order.tolist():
        last[kernels[place]] = place
    anchors[last] = True
    return anchors


def _merged(gram: Tensor, count: int, check: Check) -> Tensor:
    """Return the group of each filter after merging the two nearest again and again, from 0 on."""
    inner = gram.clone()
    labels = np.arange(len(gram))
    gone = torch.zeros(len(gram), dtype=torch.bool)

    def losses(place: int) -> Tensor:
        energies = inner.diagonal()
        lost = shared_loss(energies[place], energies, inner[place])
        lost[place] = torch.inf
        return lost.masked_fill(gone, torch.inf)

    least = torch.full((len(gram),), torch.inf, dtype=torch.float64)
    nearest = torch.zeros(len(gram), dtype=torch.int64)

    def look(place: int) -> None:
        least[place], nearest[place] = losses(place).min(0)

    for place in range(len(gram)):
        check()
        look(place)
    for _ in range(len(gram) - count):
        check()
        into = int(least.argmin())
        other = int(nearest[into])
        _join(inner, into, other)
        labels[labels == other] = into
        gone[other] = True
        least[other] = torch.inf
        look(into)
        lost = losses(into)
        stale = ((nearest == into) | (nearest == other)) & ~gone
        stale[into] = False
        for place in stale.nonzero().flatten().tolist():
            look(place)
        closer = (lost < least) & ~gone
        least[closer], nearest[closer] = lost[closer], into
    return torch.from_numpy(np.unique(labels, return_inverse=True)[1].astype(np.int64))


def _join(inner: Tensor, into: int, other: int) -> None:
    """Let one row and column stand for the best kernel of two, as long as what it holds of them."""
    pair = torch.tensor([into, other])
    among = inner[pair][:, pair]
    vector = torch.linalg.eigh(among).eigenvectors[:, -1].abs()
    if not among[0, 1] > 0:
        # The longer stands for both: the other one gets the factor 0.
        vector = torch.eye(2, dtype=torch.float64)[among.diagonal().argmax()]
    inner[into] = vector @ inner[pair]
    inner[:, into] = inner[:, pair] @ vector
