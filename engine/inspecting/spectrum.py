"""The singular values of a weight."""

import numpy as np
import torch
from torch import Tensor

from featherweight.engine.weight_forms import Array

EXACT_SIDE = 2048
PRECISE_SIDE = 1024
BLOCK = 16
STEPS = 12
CONVERGED = 0.02


def singular_values(matrix: Tensor) -> tuple[float, ...]:
    """Return all singular values of a matrix (outputs by the rest), largest first.

    Up to a smaller side of 1024 they are exact to about 1e-8 of the largest one, up to 2048 to
    about 1e-3. A larger matrix would take many seconds; there the leading ones are exact to a few
    percent, and the rest are drawn from the estimated density (see `_estimated`), which keeps the
    share of energy of the first r values true to about one percent for every r.
    """
    side = min(matrix.shape)
    short = matrix.detach() if matrix.shape[0] == side else matrix.detach().T
    if side > EXACT_SIDE:
        return tuple(np.sqrt(_estimated(short.float())).tolist())
    short = short.double() if side <= PRECISE_SIDE else short.float()
    values = torch.linalg.eigvalsh(short @ short.T).clamp(min=0).sqrt().flip(0)
    return tuple(values.tolist())


def _estimated(short: Tensor) -> Array:
    """Return the squared singular values of a matrix n×m by block Lanczos quadrature.

    The Krylov space of a random block gives nodes, which are squared values, and weights, which are
    the part of all n values near each node (Golub and Meurant 2010). Leading nodes that have
    converged stand for themselves; the others are read as the quantiles of the rest, scaled to the
    energy that the matrix has beside the leading ones.
    """
    nodes, weights, residuals = _quadrature(short)
    leading = _settled(nodes, weights * short.shape[0], residuals)
    count = short.shape[0] - leading
    tail = np.zeros(count)
    if leading < len(nodes):
        share = weights[leading:] / weights[leading:].sum() * count
        tail = np.interp(np.arange(count) + 0.5, np.cumsum(share) - share / 2, nodes[leading:])
    energy = float(torch.linalg.vector_norm(short, dim=1).double().square().sum())
    left = max(energy - float(nodes[:leading].sum()), 0.0)
    tail *= left / tail.sum() if tail.sum() > 0 else 0.0
    return np.asarray(np.minimum.accumulate(np.concatenate([nodes[:leading], tail])))


def _settled(nodes: Array, counts: Array, residuals: Array) -> int:
    """Return how many leading nodes are one value each: converged, and not a crowd of equals."""
    single = np.cumsum(counts) <= 2 * np.arange(1, len(nodes) + 1) + 4
    alone = np.append((residuals <= CONVERGED * nodes) & single, False)
    return int(np.argmin(alone))


def _quadrature(short: Tensor) -> tuple[Array, Array, Array]:
    """Return nodes from the largest, their weights, and how far each is from an eigenvalue."""
    generator = torch.Generator().manual_seed(0)
    block = torch.linalg.qr(torch.randn(short.shape[0], BLOCK, generator=generator)).Q
    basis = block
    projected = torch.zeros(BLOCK * STEPS, BLOCK * STEPS)
    for step in range(STEPS):
        image = short @ (block.T @ short).T
        known = basis.T @ image
        image = image - basis @ known
        projected[: len(known), step * BLOCK : (step + 1) * BLOCK] = known
        if step == STEPS - 1 or image.norm() <= 1e-5 * known.norm():
            break
        block = torch.linalg.qr(image).Q
        # Rounding leaves traces of the basis, which would count values twice.
        block = torch.linalg.qr(block - basis @ (basis.T @ block)).Q
        basis = torch.cat([basis, block], dim=1)
    size = basis.shape[1]
    nodes, vectors = torch.linalg.eigh(projected[:size, :size].double(), UPLO="U")
    weights = vectors[:BLOCK].square().mean(0)
    residuals = torch.linalg.vector_norm(image.double() @ vectors[-BLOCK:], dim=0)
    found = (nodes.clamp(min=0), weights, residuals)
    nodes, weights, residuals = (value.flip(0).numpy() for value in found)
    return nodes, weights, residuals
