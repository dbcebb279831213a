"""Filters of about one direction: one kernel is stored and computed, biases stay their own."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from torch import nn

from featherweight.engine.evidence import Evidence
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.copied_channels import copied, copying_skeleton, filters_lock
from featherweight.engine.methods.nearest import Metric, NearestMethod
from featherweight.engine.methods.output_fitting import patches_of
from featherweight.engine.methods.shared_directions import shared_directions
from featherweight.engine.options import Retraining, number
from featherweight.engine.ranks import rounded_rank


class MultiBias(NearestMethod, frozen=True, kw_only=True):
    """Filters that differ in bias and length alone (Li et al. 2016, arXiv 1604.00676).

    N filters become K = ⌊keep·N⌋ kernels, rounded down to `multiple`: w ≈ a·k with a not negative,
    k the leading singular vector of the filters that share it. A layer of the kernels runs, and its
    outputs are copied with their factors and biases. Groups are treated one by one. By outputs,
    filters are as near as their outputs are on the data.
    """

    name: ClassVar[str] = "multi_bias"
    title: ClassVar[str] = "Shared filters (multi-bias)"
    label: ClassVar[str] = "Share {}"
    advice: ClassVar[str] = (
        "Computes one of several filters of about the same direction and gives each its own factor "
        "and bias. Trained filters seldom point the same way, so it needs retraining."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file and speed"
    strength: ClassVar[str] = "keep"
    retrain: ClassVar[Retraining] = "needed"

    keep: Annotated[
        float, number("Keep", "Share of the layer's filters that stay kernels.", 0.01, 1.0)
    ] = 0.5
    metric: Metric = "weights"
    multiple: Annotated[
        int,
        number("Multiple of", "More kernels are rounded down to it; 8 run fastest.", 1, 64),
    ] = 8

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer has no filters that could share a kernel; empty if it has."""
        return filters_lock(layer)

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return the layer of fewer kernels and their copies on the meta device."""
        groups = getattr(layer, "groups", 1)
        filters = len(layer.get_parameter("weight")) // groups
        kernels = max(1, int(self.keep * filters + 1e-9))
        return copying_skeleton(layer, rounded_rank(kernels, self.multiple))

    def informed(
        self, layer: nn.Module, evidence: Mapping[str, Evidence], check: Check = unchecked
    ) -> nn.Sequential:
        """Return the nearest kernels and their copies, by the metric if it was measured."""
        found = patches_of(evidence) if self.metric == "outputs" else []
        return copied(layer, self.skeleton(layer), shared_directions, found, check)
