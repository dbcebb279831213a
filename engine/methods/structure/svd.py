"""Two thin layers in the place of one, or a thin one in front of a recurrent layer."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from featherweight.engine.evidence import NOTHING, Evidence, InputMoments
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.low_rank import assign, factors
from featherweight.engine.methods.nearest import Metric, NearestMethod
from featherweight.engine.methods.output_factors import output_factors
from featherweight.engine.methods.recurrent_factors import (
    Recurrent,
    assign_recurrent,
    input_matrix,
    narrowed,
)
from featherweight.engine.options import number
from featherweight.engine.ranks import rounded_rank, svd_rank


class Svd(NearestMethod, frozen=True, kw_only=True):
    """Truncated singular value decomposition (Eckart and Young 1936; Denton et al. 2014).

    A layer of m outputs and n inputs becomes n → r → m. The rank r is the largest whose two factors
    hold at most `keep` of the m·n weights, rounded down to `multiple`. By `metric` it is, of all
    layers of that rank, the one with the nearest weights, or with the nearest outputs on the data
    (Wang et al. 2024, SVD-LLM, arXiv 2403.07378), whose bias takes up the mean of what is lost.
    Of a recurrent layer the weights on its inputs are split, those of all gates and both directions
    as one matrix: a linear layer to r channels runs on the whole sequence, the recurrent layer on
    what it gives. `keep` is then of these weights, and they are the nearest by weights.
    """

    name: ClassVar[str] = "svd"
    title: ClassVar[str] = "Low rank (SVD)"
    label: ClassVar[str] = "SVD {}"
    advice: ClassVar[str] = (
        "Splits the layer into two thin ones; of a recurrent layer only the weights on its inputs. "
        "Strong on wide linear layers whose spectrum falls steeply; elsewhere it needs recovery."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file and speed"
    strength: ClassVar[str] = "keep"

    keep: Annotated[
        float, number("Keep", "Share of the layer's weights that the factors may hold.", 0.01, 1.0)
    ] = 0.5
    metric: Metric = "weights"
    multiple: Annotated[
        int,
        number("Multiple of", "Ranks beyond it are rounded down to it; 8 runs fastest.", 1, 64),
    ] = 8

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer cannot be split in two; empty if it can."""
        if isinstance(layer, nn.modules.conv._ConvNd):
            if isinstance(layer, nn.modules.conv._ConvTransposeNd):
                return "SVD takes no transposed convolutions."
            if any(size > 1 for size in layer.kernel_size):
                return "SVD takes convolutions of kernel 1 only; Tucker takes larger kernels."
            if layer.groups > 1:
                return "SVD takes no convolutions in groups."
        elif not isinstance(layer, nn.Linear | Recurrent):
            return "SVD takes linear and recurrent layers and 1×1 convolutions."
        outputs, inputs = matrix_of(layer).shape
        if outputs * inputs <= outputs + inputs:
            return f"The layer is too small: {outputs}×{inputs} weights are fewer than two factors."
        return ""

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return both factors on the meta device."""
        outputs, inputs = matrix_of(layer).shape
        rank = rounded_rank(svd_rank(self.keep, outputs, inputs), self.multiple)
        if isinstance(layer, Recurrent):
            return narrowed(layer, rank)
        weight, bias = layer.get_parameter("weight"), layer.bias is not None
        with torch.device("meta"):
            if isinstance(layer, nn.Linear):
                first = nn.Linear(inputs, rank, bias=False)
                return nn.Sequential(first, nn.Linear(rank, outputs, bias=bias)).to(weight.dtype)
            return _thin_convolutions(layer, rank).to(weight.dtype)

    @torch.no_grad()
    def informed(
        self, layer: nn.Module, evidence: Mapping[str, Evidence], check: Check = unchecked
    ) -> nn.Sequential:
        """Return both factors with the best weights of their rank, by the metric if measured."""
        chain, matrix = self.skeleton(layer), matrix_of(layer)
        rank = chain[0].get_parameter("weight").shape[0]
        bias = layer.bias if isinstance(layer.bias, Tensor) else None
        moments = evidence.get("weight", NOTHING).moments if self.metric == "outputs" else None
        if moments is None or not all(bool(part.isfinite().all()) for part in moments.blocks):
            left, right = factors(matrix, rank, check)
        else:
            left, right = output_factors(matrix, _spread(moments, bias is not None), rank, check)
            if bias is not None:
                lost = matrix.double() - left @ right
                bias = bias + moments.shift(lost.float().reshape(_shape(layer))).to(bias.dtype)
        assign(chain[0], right)
        last = chain[1]
        if isinstance(layer, Recurrent) and isinstance(last, Recurrent):
            assign_recurrent(last, left, layer)
        else:
            assign(last, left, bias)
        return chain.train(layer.training)


def matrix_of(layer: nn.Module) -> Tensor:
    """Return the weights that are split, outputs by inputs; of all gates of a recurrent layer."""
    if isinstance(layer, Recurrent):
        return input_matrix(layer)
    return layer.get_parameter("weight").detach().flatten(1)


def _spread(moments: InputMoments, centred: bool) -> list[Tensor]:
    """Return E[x xᵀ], or the covariance where a bias takes up what is lost of the mean."""
    return [
        part.double() - torch.outer(moments.mean[group, columns], moments.mean[group, columns])
        if centred
        else part
        for group, columns, part in moments.parts()
    ]


def _shape(layer: nn.Module) -> torch.Size:
    return layer.get_parameter("weight").shape


def _thin_convolutions(layer: Any, rank: int) -> nn.Sequential:
    """Stride and padding stand on the first, which makes the second work on fewer places."""
    kind, kernel = type(layer), layer.kernel_size
    first = kind(
        layer.in_channels,
        rank,
        kernel,
        stride=layer.stride,
        padding=layer.padding,
        bias=False,
        padding_mode=layer.padding_mode,
    )
    return nn.Sequential(first, kind(rank, layer.out_channels, kernel, bias=layer.bias is not None))
