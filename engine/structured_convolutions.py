"""The base of convolutions whose kernel is made of few numbers: plain torch.

The source of these classes is also written into Python files that rebuild a network, so it uses
nothing but torch.
"""

from typing import Any

import torch
from torch import nn

from featherweight.engine.structured_layers import StructuredLayer


class StructuredConvolution(StructuredLayer):
    """Base of convolutions that make their kernel of the tensors they hold, then convolve with it.

    The kernel is (out_channels, in_channels / groups, *kernel_size), in one to three dimensions.
    `place` are stride, padding, dilation, groups and padding_mode, as torch's convolutions take
    them, with a number for every dimension.
    """

    options: tuple[str, ...] = (
        *("in_channels", "out_channels", "kernel_size", "bias"),
        *("stride", "padding", "dilation", "groups", "padding_mode"),
    )

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, ...],
        bias: bool = True,
        **place: Any,
    ) -> None:
        super().__init__()
        once = (1,) * len(kernel_size)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.in_features, self.out_features = in_channels, out_channels
        self.kernel_size: tuple[int, ...] = kernel_size
        self.stride: tuple[int, ...] = place.pop("stride", once)
        self.padding: tuple[int, ...] | str = place.pop("padding", (0,) * len(kernel_size))
        self.dilation: tuple[int, ...] = place.pop("dilation", once)
        self.groups: int = place.pop("groups", 1)
        self.padding_mode: str = place.pop("padding_mode", "zeros")
        if place:
            raise ValueError(f"a convolution has no {next(iter(place))}")
        if in_channels % self.groups or out_channels % self.groups:
            raise ValueError("the groups of a convolution must share its channels evenly")
        self._add_bias(bias)

    def kernel(self, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the kernel that the tensors stand for."""
        raise NotImplementedError

    def computed(self, tensors: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """Return the convolution with the kernel."""
        return self.convolved(x, self.kernel(tensors), tensors.get("bias"), self.groups)

    def convolved(
        self, x: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor | None, groups: int
    ) -> torch.Tensor:
        """Return the convolution with any kernel at this one's place, in groups of its own."""
        convolve = (nn.functional.conv1d, nn.functional.conv2d, nn.functional.conv3d)
        padding = self.padding
        if self.padding_mode != "zeros":
            x = nn.functional.pad(x, self.borders(), mode=self.padding_mode)
            padding = (0,) * len(self.kernel_size)
        return convolve[len(self.kernel_size) - 1](
            x, kernel, bias, self.stride, padding, self.dilation, groups
        )

    def products(self) -> int:
        """Return the multiply-accumulates of one output place, which are those of the kernel."""
        count = self.out_channels * (self.in_channels // self.groups)
        for size in self.kernel_size:
            count *= size
        return count

    def borders(self) -> list[int]:
        """Return the padding of every side, the last dimension first, as `pad` takes it."""
        sides: list[int] = []
        for axis in reversed(range(len(self.kernel_size))):
            if isinstance(self.padding, str):
                total = self.dilation[axis] * (self.kernel_size[axis] - 1)
                total = 0 if self.padding == "valid" else total
                sides += [total // 2, total - total // 2]
            else:
                sides += [self.padding[axis]] * 2
        return sides
