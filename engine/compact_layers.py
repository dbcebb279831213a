"""Layers that compact filters are made of: plain torch, so that every exporter follows.

The source of these classes is also written into Python files that rebuild a network, so it uses
nothing but torch.
"""

from typing import Any

import torch
from torch import nn

from featherweight.engine.structured_convolutions import StructuredConvolution
from featherweight.engine.structured_layers import StructuredLayer


class GroupedLinear(StructuredLayer):
    """A linear layer in groups: each of them makes its outputs of its inputs alone.

    `weight` is outputs by the inputs of a group.
    """

    options = ("in_features", "out_features", "groups", "bias")

    def __init__(self, in_features: int, out_features: int, groups: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features, self.groups = in_features, out_features, groups
        if in_features % groups or out_features % groups:
            raise ValueError("the groups of a GroupedLinear must share its channels evenly")
        self.weight = nn.Parameter(torch.zeros(out_features, in_features // groups))
        self._add_bias(bias)

    def computed(self, tensors: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """Return one batched product."""
        weight = tensors["weight"].reshape(self.groups, -1, self.in_features // self.groups)
        rows = x.reshape(-1, self.groups, self.in_features // self.groups).transpose(0, 1)
        made = torch.matmul(rows, weight.transpose(1, 2)).transpose(0, 1)
        made = made.reshape((*x.shape[:-1], self.out_features))
        return made + tensors["bias"] if "bias" in tensors else made

    def products(self) -> int:
        """Return how many weights there are: each is used once."""
        return self.out_features * (self.in_features // self.groups)


class CentredPlaces(StructuredConvolution):
    """The places that a convolution meets with the centre of its kernel, at a stride of 1.

    A convolution of 1×1 with the stride then gives the places of the convolution's output. Of an
    even kernel the centre is the earlier of the two taps in the middle.
    """

    def computed(
        self,
        tensors: dict[str, torch.Tensor],  # noqa: ARG002
        x: torch.Tensor,
    ) -> torch.Tensor:
        """Return the input without the places at its borders that no centre meets."""
        return self.centred(x)

    def centred(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input with less at its borders, or with more where padding is wide."""
        sides = self.margins()
        wider = [max(side, 0) for side in sides]
        if max(wider):
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            x = nn.functional.pad(x, wider, mode=mode)
        for axis in range(len(self.kernel_size)):
            before, after = max(-sides[2 * axis], 0), max(-sides[2 * axis + 1], 0)
            if before or after:
                x = x.narrow(-1 - axis, before, x.shape[-1 - axis] - before - after)
        return x

    def margins(self) -> list[int]:
        """Return what each side gains or loses, the last dimension first."""
        sides = self.borders()
        for axis, size in enumerate(reversed(self.kernel_size)):
            step = self.dilation[len(self.kernel_size) - 1 - axis]
            sides[2 * axis] -= step * ((size - 1) // 2)
            sides[2 * axis + 1] -= step * (size // 2)
        return sides

    def products(self) -> int:
        """Return none."""
        return 0


class FireExpansion(CentredPlaces):
    """A convolution some of whose outputs have a kernel and the others only its centre.

    `narrow` are the weights of the first outputs, by inputs, and `wide` the kernels of the last
    ones, `kernels` of them. The bias is of both.
    """

    options = (*StructuredConvolution.options, "kernels")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, ...],
        bias: bool = True,
        kernels: int = 1,
        **place: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias, **place)
        if self.groups > 1 or not 0 < kernels < out_channels:
            raise ValueError("a FireExpansion has outputs of both kinds and no groups")
        self.kernels = kernels
        self.narrow = nn.Parameter(torch.zeros(out_channels - kernels, in_channels))
        self.wide = nn.Parameter(torch.zeros(kernels, in_channels, *kernel_size))

    def computed(self, tensors: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """Return the outputs of both convolutions, one after the other."""
        bias = tensors.get("bias")
        count = self.out_channels - self.kernels
        first, last = (None, None) if bias is None else (bias[:count], bias[count:])
        convolve = (nn.functional.conv1d, nn.functional.conv2d, nn.functional.conv3d)
        ones = (1,) * len(self.kernel_size)
        narrow = convolve[len(ones) - 1](
            self.centred(x), tensors["narrow"].reshape(count, -1, *ones), first, self.stride
        )
        return torch.cat([narrow, self.convolved(x, tensors["wide"], last, 1)], 1)

    def products(self) -> int:
        """Return how many weights there are: each is used once at a place."""
        count = self.kernels
        for size in self.kernel_size:
            count *= size
        return self.in_channels * (self.out_channels - self.kernels + count)
