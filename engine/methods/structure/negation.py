"""Filters in opposite pairs: one kernel of each pair is stored and computed."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from featherweight.engine.evidence import Evidence
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.copied_channels import (
    Copies,
    copied,
    copying_skeleton,
    filters_lock,
    shared_loss,
)
from featherweight.engine.methods.nearest import Metric, NearestMethod
from featherweight.engine.methods.output_fitting import patches_of
from featherweight.engine.methods.pairing import cheapest_pairs
from featherweight.engine.options import number


class Negation(NearestMethod, frozen=True, kw_only=True):
    """Filters that are about each other's negative (Shang et al. 2016, CReLU, arXiv 1603.05201).

    Of N filters the ⌊share·N/2⌋ pairs are taken that lose least: w ≈ a·k and v ≈ -b·k with a and b
    not negative, k the leading singular vector of both. A layer of the kernels k and of the filters
    without a pair runs, and its outputs are copied with their factors and biases. Groups are paired
    one by one. By outputs, a pair counts as its outputs do on the data.
    """

    name: ClassVar[str] = "negation"
    title: ClassVar[str] = "Opposite filters (CReLU)"
    label: ClassVar[str] = "Negate {}"
    advice: ClassVar[str] = (
        "Computes one of two filters that are opposite to each other. Networks that were not "
        "trained for it have few such filters, so a large share needs retraining."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file and speed"
    strength: ClassVar[str] = "share"

    share: Annotated[
        float, number("Paired share", "Share of the filters that become pairs.", 0.01, 1.0)
    ] = 0.5
    metric: Metric = "weights"

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer has no filters to pair; empty if it has."""
        return filters_lock(layer)

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return the layer of fewer kernels and their copies on the meta device."""
        groups = getattr(layer, "groups", 1)
        filters = len(layer.get_parameter("weight")) // groups
        pairs = max(1, int(self.share * filters / 2 + 1e-9))
        return copying_skeleton(layer, filters - pairs)

    def informed(
        self, layer: nn.Module, evidence: Mapping[str, Evidence], check: Check = unchecked
    ) -> nn.Sequential:
        """Return the nearest kernels and their copies, by the metric if it was measured."""
        found = patches_of(evidence) if self.metric == "outputs" else []
        return copied(layer, self.skeleton(layer), _paired, found, check)


def _paired(gram: Tensor, kernels: int, check: Check) -> Copies:
    """Match the filters that lose least; kernels stand in the order of their first filters."""
    energies = gram.diagonal()
    costs = shared_loss(energies[:, None], energies, -gram).numpy()
    first, second = map(torch.from_numpy, cheapest_pairs(costs, len(gram) - kernels, check))
    signs = torch.ones(len(gram), dtype=torch.float64)
    signs[second] = -1.0
    alone = torch.ones(len(gram), dtype=torch.bool)
    alone[second] = False
    places = torch.cumsum(alone, 0) - 1
    places[second] = places[first]
    return Copies(places, signs)
