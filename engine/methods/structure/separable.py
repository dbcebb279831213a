"""Two convolutions in the place of one: the columns of the kernel, then its rows."""

from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.low_rank import assign, factors
from featherweight.engine.methods.method import FactorMethod
from featherweight.engine.options import number
from featherweight.engine.ranks import rounded_rank, svd_rank


class Separable(FactorMethod, frozen=True, kw_only=True):
    """Separable filters (Jaderberg et al. 2014, arXiv 1405.3866; Tai et al. 2016, 1511.06067).

    A convolution C → N with a kernel of h×w becomes h×1 C → r and 1×w r → N, each with its part of
    stride, padding and dilation; the bias stays. The kernel seen as a matrix of C·h by N·w is cut
    to the rank r, the largest multiple of `multiple` at which both hold at most `keep` of the
    weights. No other two such convolutions of that width are nearer to the original in the sum of
    squares. Groups are split one by one.
    """

    name: ClassVar[str] = "separable"
    title: ClassVar[str] = "Low rank (separable)"
    label: ClassVar[str] = "Separable {}"
    advice: ClassVar[str] = (
        "Splits a convolution into one along the height and one along the width. About as near as "
        "Tucker at the same size; needs recovery when it keeps less than about half."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file and speed"
    strength: ClassVar[str] = "keep"

    keep: Annotated[
        float, number("Keep", "Share of the layer's weights that the factors may hold.", 0.01, 1.0)
    ] = 0.5
    multiple: Annotated[
        int,
        number("Multiple of", "Ranks beyond it are rounded down to it; 8 runs fastest.", 1, 64),
    ] = 8

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the kernel cannot be split in two; empty if it can."""
        if not isinstance(layer, nn.Conv2d):
            return "Separable filters take convolutions of two dimensions."
        if min(layer.kernel_size) == 1:
            return "Its kernel is 1 high or 1 wide, so there is nothing to separate."
        outputs, inputs, height, width = _sizes(layer)
        if inputs == 1 and layer.groups > 1:
            return "Each of its groups has one channel: two passes would take longer than one."
        if outputs * width * inputs * height <= outputs * width + inputs * height:
            return "The layer is too small: two factors would hold more weights than it has."
        return ""

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return both convolutions on the meta device."""
        assert isinstance(layer, nn.Conv2d)
        outputs, inputs, height, width = _sizes(layer)
        rank = svd_rank(self.keep, outputs * width, inputs * height)
        rank = rounded_rank(rank, self.multiple) * layer.groups
        down, across = layer.stride
        above, beside = (
            (layer.padding, layer.padding)
            if isinstance(layer.padding, str)
            else ((layer.padding[0], 0), (0, layer.padding[1]))
        )
        with torch.device("meta"):
            first = nn.Conv2d(
                layer.in_channels,
                rank,
                (height, 1),
                stride=(down, 1),
                padding=above,
                dilation=(layer.dilation[0], 1),
                groups=layer.groups,
                bias=False,
                padding_mode=layer.padding_mode,
            )
            second = nn.Conv2d(
                rank,
                layer.out_channels,
                (1, width),
                stride=(1, across),
                padding=beside,
                dilation=(1, layer.dilation[1]),
                groups=layer.groups,
                bias=layer.bias is not None,
                padding_mode=layer.padding_mode,
            )
        return nn.Sequential(first, second).to(layer.weight.dtype)

    def rewritten(self, layer: nn.Module, check: Check = unchecked) -> nn.Sequential:
        """Return both convolutions with the best weights of their rank."""
        assert isinstance(layer, nn.Conv2d)
        chain = self.skeleton(layer)
        rank = chain[0].get_parameter("weight").shape[0] // layer.groups
        pairs = [
            _split(kernel, rank, check) for kernel in layer.weight.detach().chunk(layer.groups)
        ]
        assign(chain[0], torch.cat([columns for columns, _ in pairs]))
        assign(chain[1], torch.cat([rows for _, rows in pairs]), layer.bias)
        return chain.train(layer.training)


def _split(kernel: Tensor, rank: int, check: Check) -> tuple[Tensor, Tensor]:
    """Return the nearest kernels rank×C×h×1 and N×rank×1×w of one N×C×h×w, float64."""
    outputs, inputs, height, width = kernel.shape
    matrix = kernel.permute(1, 2, 0, 3).reshape(inputs * height, outputs * width)
    columns, rows = factors(matrix, rank, check)
    return (
        columns.T.reshape(rank, inputs, height, 1),
        rows.reshape(rank, outputs, 1, width).transpose(0, 1),
    )


def _sizes(layer: nn.Conv2d) -> tuple[int, int, int, int]:
    """Return the outputs and inputs of one group, and the height and width of the kernel."""
    height, width = layer.kernel_size
    return layer.out_channels // layer.groups, layer.in_channels // layer.groups, height, width
