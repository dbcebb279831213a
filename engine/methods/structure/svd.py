"""Two thin layers in the place of one linear layer or 1×1 convolution."""

from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.low_rank import assign, factors
from featherweight.engine.methods.method import FactorMethod
from featherweight.engine.options import number
from featherweight.engine.ranks import svd_rank


class Svd(FactorMethod, frozen=True, kw_only=True):
    """Truncated singular value decomposition (Eckart and Young 1936; Denton et al. 2014).

    A layer of m outputs and n inputs becomes n → r → m. The rank r is the largest whose two factors
    hold at most `keep` of the m·n weights, so that 1.0 is where nothing is saved. Of all layers of
    that rank it is the one nearest to the original in the sum of squares. The bias stays.
    """

    name: ClassVar[str] = "svd"
    title: ClassVar[str] = "Low rank (SVD)"
    label: ClassVar[str] = "SVD {}"
    advice: ClassVar[str] = (
        "Splits the layer into two thin ones. Strong on wide linear layers whose spectrum falls "
        "steeply; elsewhere it needs recovery."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file and speed"
    strength: ClassVar[str] = "keep"

    keep: Annotated[
        float, number("Keep", "Share of the layer's weights that the factors may hold.", 0.01, 1.0)
    ] = 0.5

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
        elif not isinstance(layer, nn.Linear):
            return "SVD takes linear layers and 1×1 convolutions."
        outputs, inputs = layer.weight.shape[:2]
        if outputs * inputs <= outputs + inputs:
            return f"The layer is too small: {outputs}×{inputs} weights are fewer than two factors."
        return ""

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return both factors on the meta device."""
        weight = layer.get_parameter("weight")
        outputs, inputs = weight.shape[:2]
        rank, bias = svd_rank(self.keep, outputs, inputs), layer.bias is not None
        with torch.device("meta"):
            if isinstance(layer, nn.Linear):
                first = nn.Linear(inputs, rank, bias=False)
                return nn.Sequential(first, nn.Linear(rank, outputs, bias=bias)).to(weight.dtype)
            return _thin_convolutions(layer, rank).to(weight.dtype)

    def rewritten(self, layer: nn.Module, check: Check = unchecked) -> nn.Sequential:
        """Return both factors with the best weights of their rank."""
        chain = self.skeleton(layer)
        matrix = layer.get_parameter("weight").detach().flatten(1)
        rank = chain[0].get_parameter("weight").shape[0]
        left, right = factors(matrix, rank, check)
        assign(chain[0], right)
        assign(chain[1], left, layer.bias if isinstance(layer.bias, Tensor) else None)
        return chain.train(layer.training)


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
