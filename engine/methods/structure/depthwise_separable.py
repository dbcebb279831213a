"""A convolution of each channel alone and a 1×1 one, in the place of one convolution."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from featherweight.engine.evidence import Evidence
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.low_rank import assign, factors
from featherweight.engine.methods.nearest import Metric, NearestMethod
from featherweight.engine.methods.output_factors import output_factors
from featherweight.engine.methods.output_fitting import (
    Patches,
    by_taps,
    mended_bias,
    patches_of,
    refitted,
    seen_by,
)
from featherweight.engine.methods.transformed import settings_of
from featherweight.engine.options import Retraining, number


class DepthwiseSeparable(NearestMethod, frozen=True, kw_only=True):
    """Depthwise separable form of a trained kernel (Guo et al. 2018, arXiv 1808.05517).

    A convolution C → N becomes a depthwise one C → C·T with the stride, and 1×1 C·T → N with the
    bias. For each input channel the N kernels on it, seen as a matrix of N by taps, are cut to the
    rank T, which is the nearest such pair in the sum of squares. T is `multiplier`, but never so
    large that nothing would be saved. By outputs, taps count as much as they vary together on the
    data, and the 1×1 convolution is the best there is behind the depthwise one, with a bias that
    takes up the mean of what is lost. Groups are split one by one.
    """

    name: ClassVar[str] = "depthwise_separable"
    title: ClassVar[str] = "Depthwise separable"
    label: ClassVar[str] = "Depthwise {}"
    advice: ClassVar[str] = (
        "A convolution of each channel alone, then a 1×1 one, as in MobileNet. Very small, fast on "
        "wide layers, and far from the original: retrain afterwards."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file and speed"
    strength: ClassVar[str] = "multiplier"
    retrain: ClassVar[Retraining] = "needed"

    multiplier: Annotated[
        int,
        number(
            "Multiplier",
            "Kernels for each input channel: more are nearer, 1 is by far the fastest. "
            "No layer takes more than make it smaller.",
            1,
            3,
        ),
    ] = 1
    metric: Metric = "weights"

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the kernel cannot be split in two; empty if it can."""
        if not isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return "Depthwise separable takes convolutions."
        if all(size == 1 for size in layer.kernel_size):
            return "A kernel of 1 is the 1×1 convolution already; SVD takes it."
        if layer.groups == layer.in_channels > 1:
            return "The layer is depthwise already."
        if _most(layer) < 1:
            return "The layer is too small: both convolutions would hold more weights than it has."
        return ""

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return both convolutions on the meta device."""
        assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        width = layer.in_channels * min(self.multiplier, _most(layer))
        kind: Any = type(layer)
        with torch.device("meta"):
            changed = {"out_channels": width, "groups": layer.in_channels, "bias": False}
            depthwise = kind(**{**settings_of(layer), **changed})
            pointwise = kind(
                width, layer.out_channels, 1, groups=layer.groups, bias=layer.bias is not None
            )
        return nn.Sequential(depthwise, pointwise).to(layer.weight.dtype)

    @torch.no_grad()
    def informed(
        self, layer: nn.Module, evidence: Mapping[str, Evidence], check: Check = unchecked
    ) -> nn.Sequential:
        """Return both convolutions, by the metric if it was measured."""
        assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        chain = self.skeleton(layer)
        count = chain[0].get_parameter("weight").shape[0] // layer.in_channels
        kernels = layer.weight.detach().flatten(2).chunk(layer.groups)
        bias = layer.bias if isinstance(layer.bias, Tensor) else None
        found = patches_of(evidence) if self.metric == "outputs" else []
        if found:
            pairs = [
                _split_by_outputs(kernel, count, patches, check)
                for kernel, patches in zip(kernels, seen_by(found, bias), strict=True)
            ]
            made = [across @ _spread(alone, count).T for alone, across in pairs]
            bias = mended_bias(bias, kernels, made, found)
        else:
            pairs = [_split(kernel, count, check) for kernel in kernels]
        assign(chain[0], torch.cat([alone for alone, _ in pairs]))
        assign(chain[1], torch.cat([across for _, across in pairs]), bias)
        return chain.train(layer.training)


def _split(kernel: Tensor, count: int, check: Check) -> tuple[Tensor, Tensor]:
    """Return kernels (C·count)×taps and weights N×(C·count) nearest to N×C×taps, float64."""
    pairs = [factors(kernel[:, channel], count, check) for channel in range(kernel.shape[1])]
    return torch.cat([alone for _, alone in pairs]), torch.cat([across for across, _ in pairs], 1)


def _split_by_outputs(
    kernel: Tensor, count: int, patches: Patches, check: Check
) -> tuple[Tensor, Tensor]:
    """Return such kernels and weights with near outputs; the weights are the best for the kernels.

    Channels are first seen one by one, and then, for the weights, all together.
    """
    channels, taps = by_taps(*kernel.shape[1:])
    pairs = [
        output_factors(kernel[:, channel], part.blocks, count, check)
        for channel, part in enumerate(patches.alone(taps, channels))
    ]
    alone = torch.cat([alone for _, alone in pairs])
    across = torch.cat([across for across, _ in pairs], 1)
    fitted, _ = refitted(kernel.flatten(1), across, _spread(alone, count), patches, check)
    return alone, fitted


def _spread(alone: Tensor, count: int) -> Tensor:
    """Return the matrix, C·taps by C·count, that the kernels of single channels are on patches."""
    made: Tensor = torch.block_diag(*(kernels.T for kernels in alone.split(count)))
    return made


def _most(layer: nn.Module) -> int:
    """Return the largest multiplier that leaves fewer weights: T·(taps + N) < N·taps a channel."""
    assert isinstance(layer, nn.modules.conv._ConvNd)
    outputs, taps = layer.out_channels // layer.groups, math.prod(layer.kernel_size)
    return (outputs * taps - 1) // (outputs + taps)
