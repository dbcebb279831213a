"""Weights of layers with a sparsity, led to zero one by one."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from featherweight.engine.errors import UserError
from featherweight.engine.methods.method import FactorMethod, SparsityMethod, stored_weights
from featherweight.engine.network import Network
from featherweight.engine.preparing.ground import Ground
from featherweight.engine.preparing.leading import Lead

# Which weights are spared is looked up every so many steps.
EVERY = 4
# Of the largest magnitude: what a weight that is zero already may at most become at once.
LEAST = 1e-3
NO_SPARSITY = UserError(
    "No layer takes part in the preparation: none has a sparsity that zeroes some of its weights.",
    "Give a layer a sparsity, choose a way for channels, or take the preparation out.",
)


class WeightLead(Lead):
    """A weight tensor of which a sparsity keeps so many; by magnitude it chooses which.

    Those that would stay are spared, as in Yun et al.: Trimming the L1 Regularizer (2019): a
    penalty on all would make the network small before it makes it sparse. `border` is the largest
    magnitude that would go of the weight as it was, or the least that makes a difference.
    """

    def __init__(self, weight: Tensor, sparsity: SparsityMethod) -> None:
        count = weight.numel()
        kept = sparsity.kept(count)
        super().__init__(tuple(weight.shape), count, kept / count)
        self.weight, self.sparsity = weight, sparsity
        sizes = weight.detach().abs().flatten()
        least = float(sizes.max()) * LEAST
        self.border = max(float(sizes.kthvalue(count - kept).values), least)

    def ranked(self) -> Tensor:
        """Return what the sparsity chooses by, of the weight's shape."""
        return self.weight

    @torch.no_grad()
    def ready(self, step: int, wanted: float) -> None:  # noqa: ARG002
        """Look every few steps which weights would stay now."""
        if step % EVERY == 0:
            self.memory.stays.copy_(self.sparsity.mask(self.ranked()))

    @torch.no_grad()
    def choose(self) -> None:
        """Keep what the sparsity keeps by magnitude, and zero the rest."""
        self.memory.stays.copy_(self.sparsity.mask(self.ranked()))
        self.hold()

    @torch.no_grad()
    def hold(self) -> None:
        """Zero what was chosen to go."""
        self.weight.mul_(self.memory.stays)

    @torch.no_grad()
    def density(self) -> float:
        """Return the share of weights that are not exactly zero."""
        return int(self.weight.count_nonzero()) / self.weights


def thinned(ground: Ground, network: Network) -> Iterator[tuple[str, nn.Module, SparsityMethod]]:
    """Give the layers of a copy of the ground's network whose sparsity zeroes some weights.

    Not those that become factors first: other weights will be zeroed there.
    """
    for name, methods in ground.chosen.items():
        if methods.sparsity is None or isinstance(methods.structure, FactorMethod):
            continue
        layer = network.layer(name)
        if any(_loses(layer.get_parameter(one), methods.sparsity) for one in stored_weights(layer)):
            yield name, layer, methods.sparsity


def thinned_weights(layer: nn.Module, sparsity: SparsityMethod) -> dict[str, nn.Parameter]:
    """Return the tensors of a layer that lose weights, by name."""
    tensors = {name: layer.get_parameter(name) for name in stored_weights(layer)}
    return {name: value for name, value in tensors.items() if _loses(value, sparsity)}


def weight_leads(ground: Ground, network: Network, kind: type[WeightLead]) -> list[Lead]:
    """Return a lead of a kind for every weight tensor that takes part, at least one.

    Raises UserError where there is none.
    """
    found: list[Lead] = [
        kind(weight, sparsity)
        for _, layer, sparsity in thinned(ground, network)
        for weight in thinned_weights(layer, sparsity).values()
    ]
    if not found:
        raise NO_SPARSITY
    return found


def _loses(weight: Tensor, sparsity: SparsityMethod) -> bool:
    return sparsity.kept(weight.numel()) < weight.numel()
