"""Two block-diagonal layers in the place of one linear layer or convolution."""

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.low_rank import assign, factors
from featherweight.engine.methods.method import FactorMethod
from featherweight.engine.methods.transformed import settings_of
from featherweight.engine.options import Retraining, number
from featherweight.engine.structured_layers import MonarchLinear

MOST_BLOCKS = 128


class Monarch(FactorMethod, frozen=True, kw_only=True):
    """Monarch matrices (Dao et al. 2022, arXiv 2204.00595), rectangular and of any rank.

    Inputs and outputs fall into blocks, as many as divide the channels evenly and at most `blocks`
    of them. The weight between a block of inputs and one of outputs becomes a product of rank r,
    the best of its rank by singular values. So the layer becomes two block-diagonal ones with the
    channels transposed between them. r is the largest at which both hold at most `keep` of the
    weights; where even 1 is too much the blocks become fewer. A convolution keeps its kernel in the
    first of both; the bias stays.
    """

    name: ClassVar[str] = "monarch"
    title: ClassVar[str] = "Monarch"
    label: ClassVar[str] = "Monarch {}"
    advice: ClassVar[str] = (
        "Two block-diagonal layers that mix all channels and can have full rank. Needs retraining: "
        "before it, low rank is as near or nearer. Fast on linear layers of 1024 channels or more."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file and speed"
    strength: ClassVar[str] = "keep"
    retrain: ClassVar[Retraining] = "needed"

    keep: Annotated[
        float, number("Keep", "Share of the layer's weights that the blocks may hold.", 0.01, 1.0)
    ] = 0.25
    blocks: Annotated[
        int,
        number("Blocks", "Most blocks of inputs and of outputs; 8 run fastest.", 2, MOST_BLOCKS),
    ] = 8

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer cannot be made of blocks; empty if it can."""
        if isinstance(layer, nn.modules.conv._ConvTransposeNd):
            return "Monarch takes no transposed convolutions."
        if not isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
            return "Monarch takes linear layers and convolutions."
        if isinstance(layer, nn.modules.conv._ConvNd) and layer.groups > 1:
            return "Monarch takes no convolutions in groups."
        outputs, inputs, taps = _sizes(layer)
        if max(_divisor(outputs, MOST_BLOCKS), _divisor(inputs, MOST_BLOCKS)) == 1:
            return f"Its {inputs} inputs and {outputs} outputs cannot be shared out evenly."
        if _held(outputs, inputs * taps, _divisor(outputs, 2), _divisor(inputs, 2)) >= (
            outputs * inputs * taps
        ):
            return "The layer is too small: its blocks would hold more weights than it has."
        return ""

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return the blocks on the meta device."""
        weight = layer.get_parameter("weight")
        in_blocks, out_blocks, rank = self._plan(*_sizes(layer))
        bias = layer.bias is not None
        with torch.device("meta"):
            if isinstance(layer, nn.Linear):
                sizes = layer.in_features, layer.out_features, in_blocks, out_blocks
                return nn.Sequential(MonarchLinear(*sizes, rank, bias)).to(weight.dtype)
            return _convolutions(layer, in_blocks, out_blocks, rank).to(weight.dtype)

    def rewritten(self, layer: nn.Module, check: Check = unchecked) -> nn.Sequential:
        """Return the blocks with the best weights of their rank."""
        chain = self.skeleton(layer)
        weight = layer.get_parameter("weight").detach()
        in_blocks, out_blocks, rank = self._plan(*_sizes(layer))
        pairs = [
            [factors(block.flatten(1), rank, check) for block in row.chunk(in_blocks, 1)]
            for row in weight.chunk(out_blocks)
        ]
        first = torch.cat([row[place][1] for place in range(in_blocks) for row in pairs])
        second = torch.cat(
            [torch.stack([left for left, _ in row], 1) for row in pairs]
        )  # N×blocks×rank
        bias = layer.bias if isinstance(layer.bias, Tensor) else None
        if isinstance(chain[0], MonarchLinear):
            _assign_linear(chain[0], first, second, bias)
        else:
            assign(chain[0], first)
            # A shuffle gives the channels of one rank side by side.
            assign(chain[2], second.transpose(1, 2), bias)
        return chain.train(layer.training)

    def _plan(self, outputs: int, inputs: int, taps: int) -> tuple[int, int, int]:
        """Return how many blocks of inputs and of outputs there are, and the rank."""
        for most in range(self.blocks, 1, -1):
            out_blocks, in_blocks = _divisor(outputs, most), _divisor(inputs, most)
            alone = _held(outputs, inputs * taps, out_blocks, in_blocks)
            rank = math.floor(self.keep * outputs * inputs * taps / alone)
            if rank >= 1:
                return in_blocks, out_blocks, rank
        return _divisor(inputs, 2), _divisor(outputs, 2), 1


def _held(outputs: int, columns: int, out_blocks: int, in_blocks: int) -> int:
    """Return the weights of both matrices at rank 1."""
    return outputs * in_blocks + columns * out_blocks


def _divisor(count: int, most: int) -> int:
    return max(number for number in range(1, most + 1) if count % number == 0)


def _sizes(layer: nn.Module) -> tuple[int, int, int]:
    """Return the outputs, the inputs and the taps of the kernel."""
    outputs, inputs, *kernel = layer.get_parameter("weight").shape
    return outputs, inputs, math.prod(kernel)


def _convolutions(layer: Any, in_blocks: int, out_blocks: int, rank: int) -> nn.Sequential:
    """Return the convolutions in groups, with the layer's stride and padding on the first."""
    kind, inner = type(layer), in_blocks * out_blocks * rank
    changed = {"out_channels": inner, "groups": in_blocks, "bias": False}
    first = kind(**{**settings_of(layer), **changed})
    bias = layer.bias is not None
    second = kind(inner, layer.out_channels, 1, groups=out_blocks, bias=bias)
    return nn.Sequential(first, nn.ChannelShuffle(in_blocks), second)


def _assign_linear(
    layer: MonarchLinear, first: Tensor, second: Tensor, bias: Tensor | None
) -> None:
    layer.first = nn.Parameter(first.to(layer.first.dtype))
    layer.second = nn.Parameter(second.flatten(1).to(layer.second.dtype))
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
