"""Weights of layers with a sparsity, led to zero one by one."""

from dataclasses import dataclass

import msgspec
import torch
from torch import Tensor, nn

from featherweight.engine.errors import UserError
from featherweight.engine.methods.budgets import ShareMethod
from featherweight.engine.methods.method import FactorMethod, SparsityMethod, stored_weights
from featherweight.engine.network import Network
from featherweight.engine.preparing.ground import Ground
from featherweight.engine.preparing.leading import Lead

# Which weights are spared is looked up every so many steps.
EVERY = 4
# Of the largest magnitude: what a weight that is zero already may at most become at once.
LEAST = 1e-3


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


@dataclass(frozen=True)
class Thinned:
    """A tensor of a layer in the copy that trains, and what zeroes some of its weights."""

    layer: str
    tensor: str
    weight: nn.Parameter
    sparsity: SparsityMethod


def thinned(ground: Ground, network: Network) -> list[Thinned]:
    """Return the tensors of a copy of the ground's network that will lose weights to a sparsity.

    Not those of layers that become factors first: other weights will be zeroed there.
    """
    return [
        Thinned(name, tensor, weight, sparsity)
        for name, methods in ground.chosen.items()
        if methods.sparsity and not isinstance(methods.structure, FactorMethod)
        for tensor in stored_weights(network.layer(name))
        for weight in [network.layer(name).get_parameter(tensor)]
        for sparsity in [_on_all(methods.sparsity, weight.numel(), ground.left(f"{name}.{tensor}"))]
        if sparsity.kept(weight.numel()) < weight.numel()
    ]


def weight_leads(ground: Ground, network: Network, kind: type[WeightLead]) -> list[Lead]:
    """Return a lead of a kind for every weight tensor that takes part, at least one.

    Raises UserError where there is none.
    """
    found: list[Lead] = [kind(each.weight, each.sparsity) for each in thinned(ground, network)]
    if not found:
        raise no_sparsity()
    return found


def no_sparsity() -> UserError:
    """Return why no weight takes part."""
    return UserError(
        "No layer takes part in the preparation: none has a sparsity that zeroes some of its "
        "weights.",
        "Give a layer a sparsity, choose a way for channels, or take the preparation out.",
    )


def _on_all(sparsity: SparsityMethod, count: int, left: float) -> SparsityMethod:
    """Return what keeps as many of all weights as the sparsity keeps of the share left."""
    if left == 1.0 or not isinstance(sparsity, ShareMethod):
        return sparsity
    # Half a weight more is far from the whole numbers on both sides, whatever floats lose.
    gone = (count - sparsity.kept(round(count * left)) + 0.5) / count
    return msgspec.structs.replace(sparsity, sparsity=gone, budget="layer")
