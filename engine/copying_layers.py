"""Layers that put channels in order, or make many of few: plain torch, for every exporter.

The source of these classes is also written into Python files that rebuild a network, so it uses
nothing but torch.
"""

import torch
from torch import nn

from featherweight.engine.structured_layers import StructuredLayer


class ChosenChannels(StructuredLayer):
    """Channels in another order, or some of them again: output n is x[sources[n]].

    `sources` are whole numbers in as few bytes as they fit into. The channels of the input have
    `spatial` dimensions behind them: none as of a linear layer, two as of an image.
    """

    options: tuple[str, ...] = ("in_features", "out_features", "spatial")

    def __init__(self, in_features: int, out_features: int, spatial: int = 0) -> None:
        super().__init__()
        self.in_features, self.out_features, self.spatial = in_features, out_features, spatial
        whole = torch.int16 if in_features <= 2**15 else torch.int32
        whole = torch.uint8 if in_features <= 2**8 else whole
        self.register_buffer("sources", torch.zeros(out_features, dtype=whole))
        self.bias = None

    def computed(self, tensors: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """Return the channels, in the shape of the input but for their count."""
        return x.index_select(-1 - self.spatial, tensors["sources"].long())

    def products(self) -> int:
        """Return none: factors and sums count as little as those of a batch norm."""
        return 0


class CopiedChannels(ChosenChannels):
    """Copies of channels, each times its own factor: output n is scales[n]·x[sources[n]] + bias[n].

    The rest is as in its base.
    """

    options = ("in_features", "out_features", "spatial", "bias")

    def __init__(
        self, in_features: int, out_features: int, spatial: int = 0, bias: bool = True
    ) -> None:
        super().__init__(in_features, out_features, spatial)
        self.scales = nn.Parameter(torch.ones(out_features))
        self._add_bias(bias)

    def computed(self, tensors: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """Return the copies, in the shape of the input but for the channels."""
        behind = (1,) * self.spatial
        made = super().computed(tensors, x) * tensors["scales"].reshape((-1, *behind))
        return made + tensors["bias"].reshape((-1, *behind)) if "bias" in tensors else made
