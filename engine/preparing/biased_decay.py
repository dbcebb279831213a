"""Weights led to zero by a decay that spares large ones: λ Σ w²/(w² + b²).

Hanson, Pratt: Comparing Biases for Minimal Network Construction with Back-Propagation (1988). The
scale b is the border, the largest magnitude that would go of the weights as they were: below it
weights decay by a share that hardly depends on them, far above it next to nothing. Weights that
would stay by now are spared, as `weight_leads` says.
"""

import torch
from torch import Tensor

from featherweight.engine.methods.method import SparsityMethod
from featherweight.engine.network import Network
from featherweight.engine.preparing.ground import Ground
from featherweight.engine.preparing.leading import Lead
from featherweight.engine.preparing.weight_leads import WeightLead, weight_leads

# With amounts of 1 in all, a small weight decays by e⁻⁸.
DECAY = 8.0
# Smaller than this share of the border is about zero.
NEAR = 0.01


class DecayLead(WeightLead):
    """Every weight that is not spared decays by a share that falls with its magnitude."""

    def __init__(self, weight: Tensor, sparsity: SparsityMethod) -> None:
        super().__init__(weight, sparsity)
        self.near = NEAR * self.border

    @torch.no_grad()
    def shrink(self, amount: float) -> None:
        """Let weights decay, in a step that is implicit, so that no strength overshoots."""
        scaled = (self.weight / self.border).square_()
        factor = 1 / (1 + amount * DECAY / (1 + scaled).square_())
        self.weight.mul_(factor.masked_fill_(self.memory.stays, 1.0))

    @torch.no_grad()
    def density(self) -> float:
        """Return the share of weights that are above a hundredth of the border."""
        return int((self.weight.abs() > self.near).sum()) / self.weights


def leads(ground: Ground, network: Network) -> list[Lead]:
    """Return the leads of the weights that take part. Raises UserError where there are none."""
    return weight_leads(ground, network, DecayLead)
