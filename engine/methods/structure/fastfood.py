"""A linear layer of Hadamard matrices with learned diagonals between them."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from featherweight.engine.evidence import Evidence
from featherweight.engine.fastfood_layers import FastfoodLinear
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.diagonal_fitting import fit_diagonals, target
from featherweight.engine.methods.nearest import Metric, NearestMethod
from featherweight.engine.methods.output_fitting import patches_of, seen_by
from featherweight.engine.options import Retraining, number

MOST_TERMS = 64


class Fastfood(NearestMethod, frozen=True, kw_only=True):
    """Adaptive Fastfood (Yang et al. 2015, Deep Fried Convnets, arXiv 1412.7149).

    The weight becomes S·H·G·Π·H·B: learned diagonals S, G and B, the Hadamard matrix H of the next
    power of two above the inputs, and an order of places Π that costs nothing. Where there are more
    outputs than that, such blocks stand below each other; `terms` of the whole are added up. The
    diagonals come from the trained weight: by turns each takes the least squares that the others
    leave, by a few steps of conjugate gradients. By outputs, inputs count as much as they vary
    together on the data, and the bias takes up the mean of what is lost.
    """

    name: ClassVar[str] = "fastfood"
    title: ClassVar[str] = "Fastfood"
    label: ClassVar[str] = "Fastfood {}"
    advice: ClassVar[str] = (
        "Holds three diagonals in the place of a matrix: by far the smallest of all structures. "
        "Needs retraining: before it almost nothing of the layer is left. More terms hold more. "
        "One term is faster on layers of 1024 channels or more."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file and speed"
    strength: ClassVar[str] = "terms"
    retrain: ClassVar[Retraining] = "needed"

    terms: Annotated[
        int,
        number(
            "Terms",
            "How many such products are added up; no layer takes more than make it smaller.",
            1,
            MOST_TERMS,
        ),
    ] = 1
    metric: Metric = "weights"

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer cannot become such products; empty if it can."""
        if not isinstance(layer, nn.Linear):
            return "Fastfood takes linear layers."
        if _most(layer) < 1:
            return "The layer is too small: three diagonals would hold more weights than it has."
        return ""

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return the layer of diagonals on the meta device."""
        assert isinstance(layer, nn.Linear)
        terms, bias = min(self.terms, _most(layer)), layer.bias is not None
        with torch.device("meta"):
            made = FastfoodLinear(layer.in_features, layer.out_features, terms, bias=bias)
        return nn.Sequential(made).to(layer.weight.dtype)

    def informed(
        self, layer: nn.Module, evidence: Mapping[str, Evidence], check: Check = unchecked
    ) -> nn.Sequential:
        """Return the layer of diagonals, by the metric if it was measured."""
        assert isinstance(layer, nn.Linear)
        chain = self.skeleton(layer)
        made = chain[0]
        assert isinstance(made, FastfoodLinear)
        weight = layer.weight.detach()
        found = patches_of(evidence) if self.metric == "outputs" else []
        seen = seen_by(found, layer.bias)
        tensors = fit_diagonals(made, target(made, weight, seen[0] if seen else None), check)
        for name, value in tensors.items():
            setattr(made, name, nn.Parameter(value.to(layer.weight.dtype)))
        if isinstance(layer.bias, Tensor):
            bias = layer.bias.detach().clone()
            if found:
                mean = found[0].mean.float()
                bias += (weight.float() @ mean - made.computed(tensors, mean)).to(bias.dtype)
            made.bias = nn.Parameter(bias)
        return chain.train(layer.training)


def _most(layer: nn.Linear) -> int:
    """Return the most terms that hold fewer weights than the layer."""
    with torch.device("meta"):
        one = FastfoodLinear(layer.in_features, layer.out_features, bias=False)
    each = sum(value.numel() for value in one.parameters())
    return (layer.weight.numel() - 1) // each
