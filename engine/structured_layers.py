"""Layers whose weight is a matrix made of few numbers: plain torch, so that every exporter follows.

The source of these classes is also written into Python files that rebuild a network, so it uses
nothing but torch.
"""

import torch
from torch import nn


class StructuredLayer(nn.Module):
    """Base of layers that compute with the few numbers of a structured matrix.

    All tensors of a kind are given from outside to `computed`, so that they can be held in other
    forms than as parameters.
    """

    in_features: int
    out_features: int
    bias: nn.Parameter | None

    def computed(self, tensors: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output for its tensors by name."""
        raise NotImplementedError

    def products(self) -> int:
        """Return the multiply-accumulates for one place of the input (a row, a pixel)."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output."""
        held: dict[str, torch.Tensor] = {
            name: value for name, value in self._parameters.items() if value is not None
        }
        return self.computed(held, x)

    def _add_bias(self, bias: bool) -> None:
        self.bias = nn.Parameter(torch.zeros(self.out_features)) if bias else None


class MonarchLinear(StructuredLayer):
    """A linear layer of two block-diagonal matrices with a transposition between them.

    The inputs fall into `in_blocks` and the outputs into `out_blocks`; the weight between each two
    is a product of `rank` columns and rows. `first` is in_blocks·out_blocks·rank by the inputs of a
    block, ordered by block of inputs, block of outputs and rank; `second` is outputs by
    in_blocks·rank.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        in_blocks: int,
        out_blocks: int,
        rank: int,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.in_blocks, self.out_blocks, self.rank = in_blocks, out_blocks, rank
        if in_features % in_blocks or out_features % out_blocks:
            raise ValueError("the blocks of a MonarchLinear must share its channels evenly")
        inner = in_blocks * out_blocks * rank
        self.first = nn.Parameter(torch.zeros(inner, in_features // in_blocks))
        self.second = nn.Parameter(torch.zeros(out_features, in_blocks * rank))
        self._add_bias(bias)

    def computed(self, tensors: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """Return two batched products, blocks first."""
        inner, outer = self.in_blocks, self.out_blocks
        first = tensors["first"].reshape(inner, outer * self.rank, self.in_features // inner)
        second = tensors["second"].reshape(outer, self.out_features // outer, inner * self.rank)
        rows = x.reshape(-1, inner, self.in_features // inner).transpose(0, 1)
        mixed = torch.matmul(rows, first.transpose(1, 2))
        mixed = mixed.reshape(inner, -1, outer, self.rank).permute(2, 1, 0, 3)
        mixed = mixed.reshape(outer, -1, inner * self.rank)
        made = torch.matmul(mixed, second.transpose(1, 2)).transpose(0, 1)
        made = made.reshape((*x.shape[:-1], self.out_features))
        return made + tensors["bias"] if "bias" in tensors else made

    def products(self) -> int:
        """Return how many weights there are: each is used once."""
        rows = self.in_features * self.out_blocks + self.out_features * self.in_blocks
        return rows * self.rank
