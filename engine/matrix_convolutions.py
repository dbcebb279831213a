"""Convolutions with a structured matrix on every tap of the kernel: plain torch.

The source of these classes is also written into Python files that rebuild a network, so it uses
nothing but torch.
"""

from typing import Any

import torch
from torch import nn

from featherweight.engine.structured_convolutions import StructuredConvolution
from featherweight.engine.structured_layers import CirculantBlocks, ToeplitzLikeBlocks


class CirculantConvolution(StructuredConvolution, CirculantBlocks):
    """A convolution whose channels meet in circulant blocks, others on every tap of the kernel."""

    options: tuple[str, ...] = (*StructuredConvolution.options, "block")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, ...],
        block: int,
        bias: bool = True,
        **place: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias, **place)
        self.block, taps = block, torch.Size(kernel_size).numel()
        self.columns, self.rows = -(-in_channels // block), -(-out_channels // block)
        self.vectors = nn.Parameter(torch.zeros(taps * self.rows * self.columns, block))

    def kernel(self, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the kernel, a matrix on every tap."""
        made = self._matrices(tensors["vectors"]).permute(1, 2, 0)
        return made.reshape(self.out_channels, self.in_channels, *self.kernel_size)


class ToeplitzLikeConvolution(StructuredConvolution, ToeplitzLikeBlocks):
    """A convolution with a matrix of low displacement rank on every tap of the kernel."""

    options: tuple[str, ...] = (*StructuredConvolution.options, "rank")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, ...],
        rank: int,
        bias: bool = True,
        **place: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias, **place)
        self.rank, self.side = rank, min(in_channels, out_channels)
        self.blocks = -(-max(in_channels, out_channels) // self.side)
        places = torch.Size(kernel_size).numel() * self.blocks * self.side
        self.left = nn.Parameter(torch.zeros(places, rank))
        self.right = nn.Parameter(torch.zeros(places, rank))

    def kernel(self, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the kernel, a matrix on every tap."""
        made = self._matrices(tensors["left"], tensors["right"]).permute(1, 2, 0)
        return made.reshape(self.out_channels, self.in_channels, *self.kernel_size)
