"""Weights of all layers zeroed one by one, and those of all layers changed to make up for it.

Hassibi, Stork: Second Order Derivatives for Network Pruning: Optimal Brain Surgeon (1993).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from featherweight.engine.errors import UserError
from featherweight.engine.evidence import NOTHING, Collect
from featherweight.engine.jobs import Check
from featherweight.engine.network import Network

# The inverse of the curvature has their square.
MOST_WEIGHTS = 5000
# How often the curvature is measured anew: far removals leave what it was measured at.
ROUNDS = 16
# Share of the mean of the curvature's diagonal.
DAMPING = 1e-4
LEAST = 1e-300


@torch.no_grad()
def operate(network: Network, kept: Mapping[str, int], collect: Collect, check: Check) -> None:
    """Zero all but so many weights of each layer, in place; nothing where nothing is measured.

    Each removal takes the weight whose loss the others, of all these layers, make up for best, of
    the layers that have more left than they keep. Biases stay. Raises UserError where the layers
    have more than 5,000 weights together.
    """
    weights = {name: network.layer(name).get_parameter("weight") for name in sorted(kept)}
    total = sum(map(Tensor.numel, weights.values()))
    if total > MOST_WEIGHTS:
        message = f"Layers {', '.join(weights)} have {total} weights: too many for one surgery."
        raise UserError(message, f"Choose obs for the larger ones, up to {MOST_WEIGHTS} are left.")
    values = torch.cat([weight.flatten() for weight in weights.values()]).double()
    sizes = [weight.numel() for weight in weights.values()]
    owner = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    left = torch.tensor([weights[name].numel() - kept[name] for name in weights])
    gone = torch.zeros(total, dtype=torch.bool)
    for step in range(ROUNDS):
        found = collect(network, dict.fromkeys(weights, frozenset({"jacobian"})))
        rows = [found.get(name, {}).get("weight", NOTHING).jacobian for name in weights]
        measured = [part for part in rows if part is not None and bool(part.isfinite().all())]
        if len(measured) < len(weights):
            return
        amount = -(-int(left.sum()) // (ROUNDS - step))
        _remove(values, gone, torch.cat(measured, 1).double(), (owner, left, amount), check)
        for weight, part in zip(weights.values(), values.split(sizes), strict=True):
            weight.copy_(part.reshape(weight.shape))


def _remove(
    values: Tensor, gone: Tensor, rows: Tensor, plan: tuple[Tensor, Tensor, int], check: Check
) -> None:
    """Remove an amount of weights, in place: `owner` is each one's layer, `left` to go in each."""
    owner, left, amount = plan
    stays = (~gone).nonzero().flatten()
    inverse = damped_inverse(rows[:, stays])
    alive, pivots = values[stays], inverse.diagonal().clone()
    # What each removal takes from the inverse is the square of one of these: only they are kept.
    taken = torch.zeros(amount, len(stays), dtype=torch.float64)
    for step in range(amount):
        check()
        shut = gone[stays] | (left[owner[stays]] == 0)
        scores = alive.square() / pivots.clamp_min(LEAST)
        at = int(scores.masked_fill(shut, torch.inf).argmin())
        column = inverse[at] - taken[:step, at] @ taken[:step]
        pivot = column[at].clamp_min(LEAST)
        alive -= alive[at] / pivot * column
        taken[step] = column / pivot.sqrt()
        pivots -= taken[step].square()
        gone[stays[at]], left[owner[stays[at]]] = True, left[owner[stays[at]]] - 1
        alive[gone[stays]] = 0.0
    values[stays] = alive


def damped_inverse(rows: Tensor) -> Tensor:
    """Return (JᵀJ + αI)⁻¹ of rows J, float64, where α is small beside the mean of the diagonal."""
    curvature = rows.T @ rows
    level = max(DAMPING * float(curvature.diagonal().mean()), 1e-30)
    eye = torch.eye(len(curvature), dtype=curvature.dtype)
    return torch.cholesky_inverse(torch.linalg.cholesky(curvature + level * eye))
