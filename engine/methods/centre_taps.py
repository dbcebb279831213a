"""The centre of a kernel: where it is, and a 1×1 convolution that stands where it stood."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from featherweight.engine.compact_layers import CentredPlaces
from featherweight.engine.evidence import Convolution
from featherweight.engine.methods.transformed import settings_of


def centre_of(layer: Convolution) -> int:
    """Return the place of the centre among the taps, the earlier one of two."""
    place = 0
    for size in layer.kernel_size:
        place = place * size + (size - 1) // 2
    return place


def centre_taps(layer: Convolution) -> Tensor:
    """Return P that takes the centre of every channel of a group's patch: C·taps by C, float64."""
    channels, taps = layer.weight.shape[1], math.prod(layer.kernel_size)
    place = torch.zeros(taps, 1, dtype=torch.float64)
    place[centre_of(layer)] = 1.0
    return torch.kron(torch.eye(channels, dtype=torch.float64), place)


def centred_skeleton(layer: Convolution) -> nn.Sequential:
    """Return a 1×1 convolution in the place of another, on the meta device.

    Its output has the same size. Where padding of its own does not see to that, a layer before it
    does.
    """
    kind: Any = type(layer)
    with torch.device("meta"):
        places = CentredPlaces(**{**settings_of(layer), "bias": False})
        margins = places.margins()
        even = min(margins) >= 0 and margins[::2] == margins[1::2]
        pointwise = kind(
            layer.in_channels,
            layer.out_channels,
            1,
            stride=layer.stride,
            padding=tuple(reversed(margins[::2])) if even else 0,
            groups=layer.groups,
            bias=layer.bias is not None,
            padding_mode=layer.padding_mode if even and max(margins) else "zeros",
        )
    chain = [pointwise] if even else [places, pointwise]
    return nn.Sequential(*chain).to(layer.weight.dtype)
