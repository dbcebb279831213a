"""A layer in groups of channels that are chosen for it."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from featherweight.engine.compact_layers import GroupedLinear
from featherweight.engine.copying_layers import ChosenChannels
from featherweight.engine.evidence import Convolution, Evidence
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.channel_blocks import Blocks, best_blocks
from featherweight.engine.methods.low_rank import assign
from featherweight.engine.methods.nearest import Metric, NearestMethod
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

MOST_GROUPS = 64


class Grouped(NearestMethod, frozen=True, kw_only=True):
    """Grouped layers with chosen channels (Zhang et al. 2018, ShuffleNet, arXiv 1707.01083).

    Inputs and outputs fall into as many blocks each, and what the weight holds between a block of
    outputs and its own block of inputs stays. Which channels make a block is chosen so that most of
    the sum of squares stays, as in Huang et al. 2018 (CondenseNet, arXiv 1711.09224) but for whole
    blocks. The layer becomes its inputs in another order, a layer in groups, and the outputs put
    back. By outputs, a kernel counts as much as its output varies on the data, and each block is
    the best there is for its inputs, with a bias that takes up the mean of what is lost. Groups
    that a convolution has already are split one by one.
    """

    name: ClassVar[str] = "grouped"
    title: ClassVar[str] = "Grouped channels"
    label: ClassVar[str] = "Groups {}"
    advice: ClassVar[str] = (
        "Lets each group of outputs see one group of inputs alone, chosen so that most stays. "
        "Trained layers have no such groups, so most of the rest is lost: retrain afterwards. "
        "Fast on convolutions with 3×3 kernels and at least 64 channels; linear layers of 1024 run "
        "faster for one sample at a time."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file and speed"
    strength: ClassVar[str] = "groups"
    retrain: ClassVar[Retraining] = "needed"

    groups: Annotated[
        int,
        number(
            "Groups",
            "The weights become that many times fewer. A layer whose channels cannot be shared out "
            "to so many takes a number near to it.",
            2,
            MOST_GROUPS,
        ),
    ] = 4
    metric: Metric = "weights"

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the channels fall into no groups; empty if they do."""
        if isinstance(layer, nn.modules.conv._ConvTransposeNd):
            return "Groups take no transposed convolutions."
        if not isinstance(layer, nn.Linear | Convolution):
            return "Groups are for linear layers and convolutions."
        inputs, outputs = layer.weight.shape[1], len(layer.weight) // _before(layer)
        if inputs == 1 and _before(layer) > 1:
            return "Each of its groups has one channel already."
        shared = math.gcd(inputs, outputs)
        if all(shared % one for one in range(2, MOST_GROUPS + 1)):
            return f"Its {inputs} inputs and {outputs} outputs fall into no equal groups."
        return ""

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return the layer in groups, between two orders of channels, on the meta device."""
        weight, bias = layer.get_parameter("weight"), layer.bias is not None
        count = self._count(layer) * _before(layer)
        with torch.device("meta"):
            if isinstance(layer, nn.Linear):
                inputs, outputs, spatial = layer.in_features, layer.out_features, 0
                middle: nn.Module = GroupedLinear(inputs, outputs, count, bias)
            else:
                assert isinstance(layer, Convolution)
                inputs, outputs = layer.in_channels, layer.out_channels
                spatial = len(layer.kernel_size)
                middle = _convolution(layer, count)
            before = ChosenChannels(inputs, inputs, spatial)
            after = ChosenChannels(outputs, outputs, spatial)
            return nn.Sequential(before, middle, after).to(weight.dtype)

    @torch.no_grad()
    def informed(
        self, layer: nn.Module, evidence: Mapping[str, Evidence], check: Check = unchecked
    ) -> nn.Sequential:
        """Return the layer in groups, by the metric if it was measured."""
        chain, count, groups = self.skeleton(layer), self._count(layer), _before(layer)
        weight = layer.get_parameter("weight").detach()
        kernels = weight.double().reshape(len(weight), weight.shape[1], -1).chunk(groups)
        bias = layer.bias if isinstance(layer.bias, Tensor) else None
        found = patches_of(evidence) if self.metric == "outputs" else []
        seen = seen_by(found, bias)
        fits: list[Tensor] = []
        chosen: list[Blocks] = []
        for group, kernel in enumerate(kernels):
            patches = seen[group] if found else None
            chosen.append(best_blocks(_energies(kernel, patches), count, check))
            fits.append(_fitted(kernel, chosen[-1], patches, check))
        if found:
            bias = mended_bias(bias, kernels, [fit.flatten(1) for fit in fits], found)
        outputs = _joined([blocks.outputs for blocks in chosen])
        inputs = _joined([blocks.inputs for blocks in chosen])
        held = [
            fit[rows][:, columns]
            for fit, blocks in zip(fits, chosen, strict=True)
            for rows, columns in zip(blocks.outputs, blocks.inputs, strict=True)
        ]
        assign(chain[1], torch.cat(held), None if bias is None else bias.detach()[outputs])
        _put(chain[0], inputs)
        _put(chain[2], torch.argsort(outputs))
        return chain.train(layer.training)

    def _count(self, layer: nn.Module) -> int:
        """Return how many blocks each group of the layer becomes."""
        outputs, inputs = layer.get_parameter("weight").shape[:2]
        shared = math.gcd(outputs // _before(layer), inputs)
        fitting = [one for one in range(2, MOST_GROUPS + 1) if shared % one == 0]
        return max((one for one in fitting if one <= self.groups), default=min(fitting))


def _before(layer: nn.Module) -> int:
    return layer.groups if isinstance(layer, Convolution) else 1


def _convolution(layer: Any, groups: int) -> nn.Module:
    made: nn.Module = type(layer)(**{**settings_of(layer), "groups": groups})
    return made


def _energies(kernel: Tensor, patches: Patches | None) -> Tensor:
    """Return what each output, N, gets of each input, C: the square of the kernel or its power."""
    if patches is None:
        return kernel.square().sum(2)
    channels, taps = by_taps(*kernel.shape[1:])
    parts = [
        ((kernel[:, channel] @ part.blocks[0]) * kernel[:, channel]).sum(1)
        for channel, part in enumerate(patches.alone(taps, channels))
    ]
    return torch.stack(parts, 1).clamp_min(0)


def _fitted(kernel: Tensor, blocks: Blocks, patches: Patches | None, check: Check) -> Tensor:
    """Return the kernel, N×C×taps, with zeros outside of the blocks."""
    made = torch.zeros_like(kernel)
    columns = torch.arange(kernel[0].numel()).reshape(kernel.shape[1:])
    for outputs, inputs in zip(blocks.outputs, blocks.inputs, strict=True):
        check()
        fit = kernel[outputs][:, inputs]
        if patches is not None:
            basis = torch.zeros(columns.numel(), fit[0].numel(), dtype=torch.float64)
            basis[columns[inputs].flatten(), torch.arange(fit[0].numel())] = 1.0
            whole = kernel[outputs].flatten(1)
            best, _ = refitted(whole, fit.flatten(1), basis, patches, check)
            fit = best.reshape(fit.shape)
        made[outputs[:, None], inputs] = fit
    return made


def _joined(blocks: list[Tensor]) -> Tensor:
    """Return the channels of the blocks of all groups in one row."""
    parts = [part.numel() * group + part.flatten() for group, part in enumerate(blocks)]
    return torch.cat(parts)


def _put(layer: nn.Module, sources: Tensor) -> None:
    layer.register_buffer("sources", sources.to(layer.get_buffer("sources").dtype))
