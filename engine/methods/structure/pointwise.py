"""A 1×1 convolution in the place of one with a larger kernel."""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from featherweight.engine.evidence import Convolution, Evidence
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.centre_taps import (
    centre_of,
    centre_taps,
    centred_skeleton,
)
from featherweight.engine.methods.low_rank import assign
from featherweight.engine.methods.nearest import Metric, NearestMethod
from featherweight.engine.methods.output_fitting import (
    mended_bias,
    patches_of,
    refitted,
    seen_by,
)
from featherweight.engine.options import Retraining, words


class Pointwise(NearestMethod, frozen=True, kw_only=True):
    """1×1 filters in the place of larger ones (Iandola et al. 2016, SqueezeNet, arXiv 1602.07360).

    The convolution becomes 1×1 with the same stride and the same size of the output. By weights it
    takes the centre of the kernel, which is the nearest where neighbours in the input have nothing
    to do with each other, or the sum of all taps, which is right where they are all alike. By
    outputs it is W·M·P·(Pᵀ·M·P)⁻¹ for the moments M of the kernel's patches, of which P takes the
    centre: no other 1×1 convolution gives nearer outputs on the data. The bias takes up the mean
    of what is lost. Groups stay.
    """

    name: ClassVar[str] = "pointwise"
    title: ClassVar[str] = "1×1 filters"
    label: ClassVar[str] = "1×1"
    advice: ClassVar[str] = (
        "Makes a 3×3 convolution 1×1: a ninth of the weights, and 5 to 7 times as fast. It sees no "
        "neighbours any more, so take it for few layers, nearest in outputs, and retrain."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file and speed"
    strength: ClassVar[str] = ""
    retrain: ClassVar[Retraining] = "needed"

    metric: Metric = "weights"
    taps: Annotated[
        Literal["centre", "sum"],
        words("Taps", "What is taken of the weights: the centre of the kernel, or its sum."),
    ] = "centre"

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the kernel cannot become 1×1; empty if it can."""
        if isinstance(layer, nn.modules.conv._ConvTransposeNd):
            return "1×1 filters take no transposed convolutions."
        if not isinstance(layer, Convolution):
            return "1×1 filters are for convolutions."
        if math.prod(layer.kernel_size) == 1:
            return "Its kernel is 1×1 already."
        return ""

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return the 1×1 convolution on the meta device, behind the places that it needs."""
        assert isinstance(layer, Convolution)
        return centred_skeleton(layer)

    @torch.no_grad()
    def informed(
        self, layer: nn.Module, evidence: Mapping[str, Evidence], check: Check = unchecked
    ) -> nn.Sequential:
        """Return the 1×1 convolution, by the metric if it was measured."""
        assert isinstance(layer, Convolution)
        chain = self.skeleton(layer)
        weight = layer.weight.detach().flatten(2).double()
        made = weight.sum(2) if self.taps == "sum" else weight[:, :, centre_of(layer)]
        bias = layer.bias if isinstance(layer.bias, Tensor) else None
        found = patches_of(evidence) if self.metric == "outputs" else []
        if found:
            kernels, basis = weight.flatten(1).chunk(layer.groups), centre_taps(layer)
            fits = [
                refitted(kernel, start, basis, patches, check)[0]
                for kernel, start, patches in zip(
                    kernels, made.chunk(layer.groups), seen_by(found, bias), strict=True
                )
            ]
            bias = mended_bias(bias, kernels, [fit @ basis.T for fit in fits], found)
            made = torch.cat(fits)
        assign(chain[-1], made, bias)
        return chain.train(layer.training)
