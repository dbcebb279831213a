"""Layers whose rows share the columns that they keep: plain torch, so that every exporter follows.

The source of these classes is also written into Python files that rebuild a network, so it uses
nothing but torch.
"""

import torch
from torch import nn

from featherweight.engine.structured_layers import StructuredLayer


class ColumnBlocks(StructuredLayer):
    """A linear layer in blocks of rows, each of which sees `kept` inputs of its own choice.

    `weight` is outputs by kept; `columns`, blocks·kept whole numbers in as few bytes as they fit
    into, says which inputs these are, block after block.
    """

    options = ("in_features", "out_features", "blocks", "kept", "bias")

    def __init__(
        self, in_features: int, out_features: int, blocks: int, kept: int, bias: bool = True
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.blocks, self.kept = blocks, kept
        if out_features % blocks:
            raise ValueError("the blocks of a ColumnBlocks must share its outputs evenly")
        self.weight = nn.Parameter(torch.zeros(out_features, kept))
        whole = torch.int16 if in_features <= 2**15 else torch.int32
        whole = torch.uint8 if in_features <= 2**8 else whole
        self.register_buffer("columns", torch.zeros(blocks * kept, dtype=whole))
        self._add_bias(bias)

    def computed(self, tensors: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """Return one batched product. Whole rows of the batch are gathered, which is fastest."""
        seen = x.reshape(-1, self.in_features).transpose(0, 1)
        seen = seen.index_select(0, tensors["columns"].long())
        seen = seen.reshape(self.blocks, self.kept, -1)
        weight = tensors["weight"].reshape(self.blocks, -1, self.kept)
        made = torch.matmul(weight, seen).reshape(self.out_features, -1).transpose(0, 1)
        made = made.reshape((*x.shape[:-1], self.out_features))
        return made + tensors["bias"] if "bias" in tensors else made

    def products(self) -> int:
        """Return how many weights there are: each is used once."""
        return self.out_features * self.kept
