"""Two convolutions in the place of one: the columns of the kernel, then its rows."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from featherweight.engine.evidence import Evidence, Need
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.inner_norms import (
    InnerNorms,
    chained,
    factors_and_norms,
    start_norms,
)
from featherweight.engine.methods.low_rank import assign, factors
from featherweight.engine.methods.nearest import Metric, NearestMethod
from featherweight.engine.methods.output_factors import output_factors
from featherweight.engine.methods.output_fitting import (
    Patches,
    by_taps,
    mended_bias,
    on_every_tap,
    patches_of,
    refitted,
    seen_by,
)
from featherweight.engine.options import number
from featherweight.engine.ranks import rounded_rank, svd_rank


class Separable(NearestMethod, frozen=True, kw_only=True):
    """Separable filters (Jaderberg et al. 2014, arXiv 1405.3866; Tai et al. 2016, 1511.06067).

    A convolution C → N with a kernel of h×w becomes h×1 C → r and 1×w r → N, each with its part of
    stride, padding and dilation; the bias stays. The kernel seen as a matrix of C·h by N·w is cut
    to the rank r, the largest multiple of `multiple` at which both hold at most `keep` of the
    weights. No other two such convolutions of that width are nearer to the original in the sum of
    squares. By outputs, the C·h inputs of the first count as much as they vary together on the
    data, and the second is the best there is behind it, with a bias that takes up the mean of what
    is lost. Groups are split one by one.
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
    metric: Metric = "weights"
    batch_norm: InnerNorms = False
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

    def needs(self) -> frozenset[Need]:
        """Return what the metric and the batch norm ask of the data."""
        asks = self.metric == "outputs" or self.batch_norm
        return frozenset({"moments"}) if asks else frozenset()

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
            return chained((first, second), self.batch_norm).to(layer.weight.dtype)

    @torch.no_grad()
    def informed(
        self, layer: nn.Module, evidence: Mapping[str, Evidence], check: Check = unchecked
    ) -> nn.Sequential:
        """Return both convolutions, by the metric if it was measured."""
        assert isinstance(layer, nn.Conv2d)
        chain = self.skeleton(layer)
        (first, second), norms = factors_and_norms(chain)
        rank = first.get_parameter("weight").shape[0] // layer.groups
        kernels = layer.weight.detach().chunk(layer.groups)
        bias = layer.bias if isinstance(layer.bias, Tensor) else None
        found = patches_of(evidence)
        if found and self.metric == "outputs":
            pairs = [
                _split_by_outputs(kernel, rank, patches, check)
                for kernel, patches in zip(kernels, seen_by(found, bias), strict=True)
            ]
            bias = mended_bias(bias, kernels, [_matrix(*pair) for pair in pairs], found)
        else:
            pairs = [_split(kernel, rank, check) for kernel in kernels]
        assign(first, torch.cat([columns for columns, _ in pairs]))
        assign(second, torch.cat([rows for _, rows in pairs]), bias)
        start_norms(norms, [_statistics(pairs, found)] if norms and found else ())
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


def _split_by_outputs(
    kernel: Tensor, rank: int, patches: Patches, check: Check
) -> tuple[Tensor, Tensor]:
    """Return such kernels with near outputs on patches; the second is the best for the first."""
    outputs, inputs, height, width = kernel.shape
    block = patches.together(*by_taps(inputs * height, width)).blocks[0]
    matrix = kernel.permute(0, 3, 1, 2).reshape(outputs * width, inputs * height)
    rows, columns = output_factors(matrix, [block], rank, check)
    made = rows.reshape(outputs, width, rank).transpose(1, 2).reshape(outputs, rank * width)
    fitted, _ = refitted(kernel.flatten(1), made, on_every_tap(columns, width), patches, check)
    return columns.reshape(rank, inputs, height, 1), fitted.reshape(outputs, rank, 1, width)


def _matrix(columns: Tensor, rows: Tensor) -> Tensor:
    """Return the kernel of a pair as outputs by the columns of patches."""
    return rows.flatten(1) @ on_every_tap(columns.flatten(1), rows.shape[-1]).T


def _statistics(
    pairs: Sequence[tuple[Tensor, Tensor]], found: Sequence[Patches]
) -> tuple[Tensor, Tensor]:
    """Return the mean and variance of the channels between both."""
    each = []
    for (columns, rows), patches in zip(pairs, found, strict=True):
        flat = columns.flatten(1)
        each.append(patches.together(*by_taps(flat.shape[1], rows.shape[-1])).outputs(flat))
    return torch.cat([mean for mean, _ in each]), torch.cat([spread for _, spread in each])


def _sizes(layer: nn.Conv2d) -> tuple[int, int, int, int]:
    """Return the outputs and inputs of one group, and the height and width of the kernel."""
    height, width = layer.kernel_size
    return layer.out_channels // layer.groups, layer.in_channels // layer.groups, height, width
