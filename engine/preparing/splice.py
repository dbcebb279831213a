"""Weights pruned while they train, which come back when they grow large.

Guo, Yao, Chen: Dynamic Network Surgery for Efficient DNNs (2016), arXiv 1608.04493. A weight goes
below 0.9 times a threshold and comes back above 1.1 times; the gradients of the masked network move
all weights. The threshold is the magnitude beyond which so many lie as are due by now.
"""

import torch
from torch import Tensor, nn

from featherweight.engine.methods.masks import largest
from featherweight.engine.network import Network
from featherweight.engine.preparing.ground import Ground
from featherweight.engine.preparing.leading import Lead, Memory
from featherweight.engine.preparing.weight_leads import (
    EVERY,
    WeightLead,
    no_sparsity,
    thinned,
)
from featherweight.engine.weight_forms import CompactLayer, FloatForm, TrainableForm, WeightForm

GOES, COMES = 0.9, 1.1


class SplicedForm(TrainableForm):
    """A float32 weight, the parameter that it is given, under the mask of a memory.

    Gradients reach what is masked too.
    """

    def __init__(self, weight: nn.Parameter, memory: Memory) -> None:
        super().__init__(tuple(weight.shape))
        self.values, self.memory = weight, memory

    def forward(self) -> Tensor:
        """Return the weight, float32."""
        return self.values - self.values.detach() * ~self.memory.stays

    def settled(self) -> FloatForm:
        """Return the weight as plain floats."""
        return FloatForm(self().detach())


class SplicedLead(WeightLead):
    """A weight whose mask follows the density that is due."""

    def ranked(self) -> Tensor:
        """Return the weight over what the threshold is multiplied with where it is, or is not."""
        return self.weight / torch.where(self.memory.stays, GOES, COMES)

    @torch.no_grad()
    def ready(self, step: int, wanted: float) -> None:
        """Let small weights go, and large ones come back."""
        if step % EVERY == 0:
            kept = min(max(round(wanted * self.weights), 1), self.weights)
            self.memory.stays.copy_(largest(self.ranked().abs(), kept))

    def density(self) -> float:
        """Return the share of weights that are not masked."""
        return int(self.memory.stays.count_nonzero()) / self.weights


def leads(ground: Ground, network: Network) -> list[Lead]:
    """Return the leads of the weights that take part, their masks put on the network.

    Raises UserError where there are none.
    """
    found: list[Lead] = []
    forms: dict[str, dict[str, WeightForm]] = {}
    for each in thinned(ground, network):
        lead = SplicedLead(each.weight, each.sparsity)
        forms.setdefault(each.layer, {})[each.tensor] = SplicedForm(each.weight, lead.memory)
        found.append(lead)
    for name, held in forms.items():
        network.replace(name, CompactLayer(network.layer(name), held))
    if not found:
        raise no_sparsity()
    return found
