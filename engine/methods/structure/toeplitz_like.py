"""A linear layer or convolution of matrices of low displacement rank."""

from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from featherweight.engine.evidence import Convolution
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.matrix_convolutions import ToeplitzLikeConvolution
from featherweight.engine.methods.low_rank import factors
from featherweight.engine.methods.method import FactorMethod
from featherweight.engine.methods.transformed import settings_of
from featherweight.engine.options import Retraining, number
from featherweight.engine.structured_layers import ToeplitzLikeLinear


class ToeplitzLike(FactorMethod, frozen=True, kw_only=True):
    """Matrices of low displacement rank (Sindhwani, Sainath and Kumar 2015, arXiv 1510.01722).

    What a matrix differs by from itself, one place further down and to the right, is cut to `rank`
    by singular values. At rank 2 that holds every Toeplitz matrix, at 1 every circulant one. A
    layer that is not square becomes square blocks side by side; a convolution has them on every
    tap of its kernel.
    """

    name: ClassVar[str] = "toeplitz_like"
    title: ClassVar[str] = "Toeplitz-like"
    label: ClassVar[str] = "Toeplitz {}"
    advice: ClassVar[str] = (
        "Tells how the layer differs from being the same along diagonals. For layers whose "
        "channels lie in order, like times or places; others need long retraining. The matrix "
        "is made as the file is loaded, so the network runs as fast as before."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file"
    strength: ClassVar[str] = "rank"
    retrain: ClassVar[Retraining] = "needed"

    rank: Annotated[
        int,
        number("Rank", "Displacement rank; fewer where it would not make the layer less.", 1, 256),
    ] = 4

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer cannot be held by its displacement; empty if it can."""
        if not isinstance(layer, nn.Linear | Convolution):
            return "Toeplitz-like matrices are for linear layers and convolutions."
        if isinstance(layer, Convolution) and layer.groups > 1:
            return "Toeplitz-like matrices take no convolutions in groups."
        if _most(layer) < 1:
            return "The layer is too small: it would hold no fewer weights than it has."
        return ""

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return the layer on the meta device."""
        assert isinstance(layer, nn.Linear | Convolution)
        outputs, inputs = layer.weight.shape[:2]
        rank = min(self.rank, _most(layer))
        with torch.device("meta"):
            if isinstance(layer, nn.Linear):
                made: nn.Module = ToeplitzLikeLinear(inputs, outputs, rank, layer.bias is not None)
            else:
                made = ToeplitzLikeConvolution(rank=rank, **settings_of(layer))
            return nn.Sequential(made).to(layer.weight.dtype)

    def rewritten(self, layer: nn.Module, check: Check = unchecked) -> nn.Sequential:
        """Return the layer with the nearest displacement of its rank."""
        chain = self.skeleton(layer)
        made = chain[0]
        assert isinstance(made, ToeplitzLikeLinear | ToeplitzLikeConvolution)
        weight = layer.get_parameter("weight").detach()
        taps = weight.flatten(2).permute(2, 0, 1) if weight.ndim > 2 else weight[None]
        blocks = [block for tap in taps for block in _blocks(tap)]
        pairs = [factors(_displacement(block), made.rank, check) for block in blocks]
        made.left = nn.Parameter(torch.cat([left for left, _ in pairs]).to(weight.dtype))
        made.right = nn.Parameter(torch.cat([right.T for _, right in pairs]).to(weight.dtype))
        if isinstance(layer.bias, Tensor):
            made.bias = nn.Parameter(layer.bias.detach().clone())
        return chain.train(layer.training)


def _most(layer: nn.Linear | Convolution) -> int:
    """Return the largest rank that holds fewer weights than the layer."""
    side, long = sorted(layer.weight.shape[:2])
    return (side * long - 1) // (2 * side * -(-long // side))


def _blocks(weight: Tensor) -> list[Tensor]:
    """Return square blocks, float64; the last goes on along its diagonals."""
    outputs, inputs = weight.shape
    side, axis = min(outputs, inputs), 0 if outputs >= inputs else 1
    blocks = list(weight.double().split(side, axis))
    short = blocks[-1] if axis == 0 else blocks[-1].T
    blocks[-1] = _continued(short) if axis == 0 else _continued(short).T
    return blocks


def _continued(block: Tensor) -> Tensor:
    """Return a block of few rows with rows that each are the one before, a place further."""
    rows = list(block)
    while len(rows) < block.shape[1]:
        rows.append(torch.cat([rows[-1].new_zeros(1), rows[-1][:-1]]))
    return torch.stack(rows)


def _displacement(block: Tensor) -> Tensor:
    """Return Z₁·block - block·Z₋₁."""
    back = torch.cat([block[:, 1:], -block[:, :1]], 1)
    return block.roll(1, 0) - back
