"""Weights led to zero by proximal steps of their sum of magnitudes, λ Σ |w|.

Tibshirani: Regression Shrinkage and Selection via the Lasso (1996); the steps as in Parikh, Boyd:
Proximal Algorithms (2014): w ← sign(w)·max(|w| - ηλ, 0), which gives exact zeros. Weights that
would stay by now are spared, as `weight_leads` says.
"""

import torch

from featherweight.engine.network import Network
from featherweight.engine.preparing.ground import Ground
from featherweight.engine.preparing.leading import Lead
from featherweight.engine.preparing.weight_leads import WeightLead, weight_leads


class LassoLead(WeightLead):
    """Every weight that is not spared loses the same magnitude, down to zero."""

    @torch.no_grad()
    def shrink(self, amount: float) -> None:
        """Take the same from every magnitude that is not spared."""
        size = self.weight.abs().sub_(amount * self.border).clamp_min_(0.0)
        led = size.copysign_(self.weight)
        self.weight.copy_(torch.where(self.memory.stays, self.weight, led))


def leads(ground: Ground, network: Network) -> list[Lead]:
    """Return the leads of the weights that take part. Raises UserError where there are none."""
    return weight_leads(ground, network, LassoLead)
