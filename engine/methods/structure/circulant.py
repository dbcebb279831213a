"""A linear layer or convolution of circulant blocks."""

from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from featherweight.engine.evidence import Convolution
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.matrix_convolutions import CirculantConvolution
from featherweight.engine.methods.method import FactorMethod
from featherweight.engine.methods.transformed import settings_of
from featherweight.engine.options import Retraining, number
from featherweight.engine.structured_layers import CirculantLinear

MOST_SIDE = 16384


class Circulant(FactorMethod, frozen=True, kw_only=True):
    """Circulant blocks (Cheng et al. 2015, arXiv 1502.03436; Ding et al. 2017, CirCNN).

    The weight falls into blocks of `block` by `block`, filled up with zeros at the edges. Each
    becomes the nearest matrix whose rows are one row shifted on and on: the means of the block's
    wrapped diagonals. A block as large as the layer or larger makes one circulant matrix of it.
    In a convolution the channels meet in such blocks, others on every tap of the kernel.
    """

    name: ClassVar[str] = "circulant"
    title: ClassVar[str] = "Circulant blocks"
    label: ClassVar[str] = "Circulant {}"
    advice: ClassVar[str] = (
        "Each block holds one row and its shifts, so a block of 8 makes the file 8 times as small. "
        "Needs retraining: before it almost nothing of the layer is left. Blocks of 8 and 16 lose "
        "least. Linear layers with blocks of up to 64 also run faster; others and convolutions are "
        "only smaller as a file."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file and speed"
    strength: ClassVar[str] = "block"
    retrain: ClassVar[Retraining] = "needed"

    block: Annotated[
        int,
        number("Block", "Side of a block; the weights become that many times fewer.", 4, MOST_SIDE),
    ] = 8

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer cannot be made of circulant blocks; empty if it can."""
        if not isinstance(layer, nn.Linear | Convolution):
            return "Circulant blocks are for linear layers and convolutions."
        if isinstance(layer, Convolution) and layer.groups > 1:
            return "Circulant blocks take no convolutions in groups."
        # With two channels on either side, blocks hold less than the layer at every size.
        if min(layer.weight.shape[:2]) < 2:
            return "The layer is too small: its blocks would hold no fewer weights than it has."
        return ""

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return the layer of blocks on the meta device."""
        assert isinstance(layer, nn.Linear | Convolution)
        outputs, inputs = layer.weight.shape[:2]
        side = min(self.block, max(inputs, outputs))
        with torch.device("meta"):
            if isinstance(layer, nn.Linear):
                made: nn.Module = CirculantLinear(inputs, outputs, side, layer.bias is not None)
            else:
                made = CirculantConvolution(block=side, **settings_of(layer))
            return nn.Sequential(made).to(layer.weight.dtype)

    @torch.no_grad()
    def rewritten(self, layer: nn.Module, check: Check = unchecked) -> nn.Sequential:
        """Return the layer of the nearest blocks."""
        chain = self.skeleton(layer)
        made = chain[0]
        assert isinstance(made, CirculantLinear | CirculantConvolution)
        weight = layer.get_parameter("weight").detach()
        taps = weight.flatten(2).permute(2, 0, 1) if weight.ndim > 2 else weight[None]
        vectors = torch.cat([_means(tap, made.block, check) for tap in taps])
        made.vectors = nn.Parameter(vectors.to(weight.dtype))
        if isinstance(layer.bias, Tensor):
            made.bias = nn.Parameter(layer.bias.detach().clone())
        return chain.train(layer.training)


def _means(weight: Tensor, side: int, check: Check) -> Tensor:
    """Return the means of the wrapped diagonals of all blocks, blocks×side float64.

    Only numbers of the weight count: those that fill up an edge reach no output.
    """
    outputs, inputs = weight.shape
    rows, columns = -(-outputs // side), -(-inputs // side)
    sums = torch.zeros(rows, columns, side, dtype=torch.float64)
    counts = torch.zeros_like(sums)
    places = torch.arange(side)
    for column in range(min(side, inputs)):
        check()
        # The number in row i is of the diagonal i - column.
        taken = weight[:, column::side].double().T
        held = nn.functional.pad(taken, (0, rows * side - outputs)).reshape(-1, rows, side)
        there = (torch.arange(rows * side) < outputs).double().reshape(rows, side)
        order = (places + column) % side
        sums[:, : len(taken)] += held[:, :, order].transpose(0, 1)
        counts[:, : len(taken)] += there[:, order][:, None]
    return (sums / counts.clamp_min(1)).flatten(0, 1)
