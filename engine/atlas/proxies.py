"""Proxies for the harm that a changed weight does, from what data says of the layer.

FIT: Zandonati et al.: FIT: A Metric for Model Sensitivity (2023, arXiv 2210.08502).
"""

import math

import torch
from torch import Tensor

from featherweight.engine.evidence import Gradients, InputMoments


def expected_rise(weight: Tensor, changed: Tensor, gradients: Gradients) -> float:
    """Return E[g]·(Ŵ - W) + ½ Σ F·(Ŵ - W)², by which the loss of a sample is expected to rise.

    `weight` and `changed` are W and Ŵ, float32 of one shape; F = E[g²] is the empirical Fisher
    diagonal. Where the mean gradient E[g] is not told, its term is left out: it is zero where the
    loss is at its minimum. Below zero where the change is one that training would make. Rises of
    layers add up to that of a network in which all of them change.
    """
    # A large layer takes a gigabyte at every step that is not in place.
    difference = changed - weight
    first = 0.0
    if gradients.mean is not None:
        first = float((gradients.mean * difference).sum(dtype=torch.float64))
    weighted = difference.square_().mul_(gradients.squares)
    return first + 0.5 * float(weighted.sum(dtype=torch.float64))


def relative_output_error(weight: Tensor, changed: Tensor, moments: InputMoments) -> float:
    """Return E‖(W - Ŵ)x‖² / E‖W x‖² over the inputs x of a layer; biases have no part in it.

    `weight` and `changed` are float32 of one shape. Infinite where a layer that gives zeros is
    changed. Not comparable between layers: it does not say what the network makes of the error.
    """
    error, power = moments.power(weight - changed), moments.power(weight)
    if not error:
        return 0.0
    return error / power if power else math.inf
