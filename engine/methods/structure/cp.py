"""A 1×1 convolution, depthwise ones and a 1×1 one, in the place of one convolution."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from featherweight.engine.evidence import Evidence
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.canonical import decompose
from featherweight.engine.methods.low_rank import assign
from featherweight.engine.methods.nearest import Metric, NearestMethod
from featherweight.engine.methods.output_factors import balanced, whitening
from featherweight.engine.methods.output_fitting import (
    by_taps,
    mended_bias,
    patches_of,
    refitted,
    seen_by,
)
from featherweight.engine.options import number, words
from featherweight.engine.ranks import cp_rank, rounded_rank


class Cp(NearestMethod, frozen=True, kw_only=True):
    """CP decomposition of a kernel by non-linear least squares (Lebedev et al. 2015, 1412.6553).

    A convolution C → N becomes 1×1 C → r, the kernel on each of the r channels alone with the
    stride, and 1×1 r → N with the bias. With `kernel` split, the middle is one convolution for
    each direction. r is the largest multiple of `multiple` at which whole kernels hold at most
    `keep` of the weights.
    A best decomposition need not exist: then components grow and cancel each other, which a
    penalty and a bound on them prevent (Phan et al. 2020, arXiv 2008.05441). By outputs, channels
    count as much as they vary together on the data, and the last convolution is the best there is
    behind the others, with a bias that takes up the mean of what is lost.
    """

    name: ClassVar[str] = "cp"
    title: ClassVar[str] = "Low rank (CP)"
    label: ClassVar[str] = "CP {}"
    advice: ClassVar[str] = (
        "Splits a convolution into 1×1 ones around a kernel for each channel alone. Nearer than "
        "Tucker at the same size; slow to compute on wide layers, and learns at low rates only."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file and speed"
    strength: ClassVar[str] = "keep"

    keep: Annotated[
        float, number("Keep", "Share of the layer's weights that the factors may hold.", 0.01, 1.0)
    ] = 0.25
    metric: Metric = "weights"
    kernel: Annotated[
        Literal["whole", "split"],
        words("Kernel", "One convolution in the middle, or one for each direction."),
    ] = "whole"
    rounds: Annotated[
        int, number("Rounds", "Rounds of refinement; more bring it nearer to the original.", 1, 50)
    ] = 10
    multiple: Annotated[
        int,
        number("Multiple of", "Ranks beyond it are rounded down to it; 8 runs fastest.", 1, 64),
    ] = 8

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer cannot be split; empty if it can."""
        if not isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return "CP takes convolutions."
        if all(size == 1 for size in layer.kernel_size):
            return "A kernel of 1 leaves nothing between the factors; SVD takes it."
        if layer.groups > 1:
            return "CP takes no convolutions in groups."
        if layer.in_channels + layer.out_channels + _taps(layer) >= layer.weight.numel():
            return "The layer is too small: its factors would hold more weights than it has."
        return ""

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return the convolutions on the meta device."""
        assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        inputs, outputs = layer.in_channels, layer.out_channels
        rank = rounded_rank(cp_rank(self.keep, outputs, inputs, _taps(layer)), self.multiple)
        kind: Any = type(layer)
        with torch.device("meta"):
            chain = nn.Sequential(
                kind(inputs, rank, 1, bias=False),
                *(_depthwise(layer, rank, axes) for axes in self._axes(layer.kernel_size)),
                kind(rank, outputs, 1, bias=layer.bias is not None),
            )
        return chain.to(layer.weight.dtype)

    @torch.no_grad()
    def informed(
        self, layer: nn.Module, evidence: Mapping[str, Evidence], check: Check = unchecked
    ) -> nn.Sequential:
        """Return the convolutions, by the metric if it was measured."""
        assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        chain = self.skeleton(layer)
        rank = chain[0].get_parameter("weight").shape[0]
        sizes = tuple(
            math.prod(layer.kernel_size[axis] for axis in axes)
            for axes in self._axes(layer.kernel_size)
        )
        kernel = layer.weight.detach()
        bias = layer.bias if isinstance(layer.bias, Tensor) else None
        found = patches_of(evidence) if self.metric == "outputs" else []
        if found:
            (patches,) = seen_by(found, bias)
            channels = patches.together(*by_taps(layer.in_channels, _taps(layer)))
            root, inverse = whitening(channels.blocks[0])
            seen = torch.einsum("nc...,cd->nd...", kernel.double(), root)
            outputs, inputs, *taps = decompose(seen, rank, sizes, self.rounds, check)
            outputs, rows = balanced(outputs, inputs.T @ inverse)
            inputs, basis = rows.T, _spread(rows.T, taps)
            outputs, _ = refitted(kernel.flatten(1), outputs, basis, patches, check)
            bias = mended_bias(bias, [kernel], [outputs @ basis.T], found)
        else:
            outputs, inputs, *taps = decompose(kernel, rank, sizes, self.rounds, check)
        assign(chain[0], inputs.T)
        for part, factor in zip(list(chain)[1:-1], taps, strict=True):
            assign(part, factor.T)
        assign(chain[-1], outputs, bias)
        return chain.train(layer.training)

    def _axes(self, kernel: Sequence[int]) -> list[list[int]]:
        """Share out the directions among the convolutions in the middle."""
        if self.kernel == "whole":
            return [list(range(len(kernel)))]
        long = [axis for axis, size in enumerate(kernel) if size > 1]
        # A direction of one tap has a stride and a padding all the same, and needs no step for it.
        short = [axis for axis, size in enumerate(kernel) if size == 1]
        return [[long[0], *short], *([axis] for axis in long[1:])]


def _depthwise(layer: Any, rank: int, axes: Collection[int]) -> nn.Module:
    """Return the part of a convolution that lies in some directions, on each channel alone."""

    def own(values: Sequence[int], otherwise: int) -> tuple[int, ...]:
        return tuple(value if axis in axes else otherwise for axis, value in enumerate(values))

    kind: Any = type(layer)
    made: nn.Module = kind(
        rank,
        rank,
        own(layer.kernel_size, 1),
        stride=own(layer.stride, 1),
        padding=layer.padding if isinstance(layer.padding, str) else own(layer.padding, 0),
        dilation=own(layer.dilation, 1),
        groups=rank,
        bias=False,
        padding_mode=layer.padding_mode,
    )
    return made


def _spread(inputs: Tensor, taps: Sequence[Tensor]) -> Tensor:
    """Return the matrix, C·taps by r, that all but the last convolution are on patches."""
    made = inputs
    for factor in taps:
        made = torch.einsum("ar,br->abr", made, factor.double()).flatten(0, 1)
    return made


def _taps(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> int:
    return math.prod(layer.kernel_size)
