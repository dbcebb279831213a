"""What methods share that make the filters of a convolution of moved prototypes."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from featherweight.engine.bit_packing import packed
from featherweight.engine.methods.prototypes import Fit
from featherweight.engine.transformed_layers import TransformedConvolution

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


def settings_of(layer: Convolution) -> dict[str, Any]:
    """Return what a convolution of the same channels, kernel and place is made with."""
    return {
        "in_channels": layer.in_channels,
        "out_channels": layer.out_channels,
        "kernel_size": layer.kernel_size,
        "bias": layer.bias is not None,
        "stride": layer.stride,
        "padding": layer.padding,
        "dilation": layer.dilation,
        "groups": layer.groups,
        "padding_mode": layer.padding_mode,
    }


def number_bits(layer: Convolution) -> int:
    """Return the bits of one number of the layer's weight."""
    return 8 * layer.weight.element_size()


def weight_bits(layer: Convolution) -> int:
    """Return the bits of the layer's weight."""
    return layer.weight.numel() * number_bits(layer)


def ways_of(layer: TransformedConvolution) -> Tensor:
    """Return the matrices that move a prototype, ways×places of the kernel×places of it."""
    size = layer.prototypes.shape[2]
    moved = layer.moved(torch.eye(size).reshape(size, 1, size))
    return moved.reshape(size, layer.ways, -1).permute(1, 2, 0)


def units_of(weight: Tensor, made: TransformedConvolution) -> Tensor:
    """Return the weight as the units that the layer makes: units×channels×places."""
    return weight.detach().reshape(made.units, made.prototypes.shape[1], -1)


@torch.no_grad()
def filled(chain: nn.Sequential, layer: Convolution, fit: Fit) -> nn.Sequential:
    """Put a fit and the layer's bias into its skeleton and return it."""
    made = chain[0]
    assert isinstance(made, TransformedConvolution)
    made.prototypes = nn.Parameter(fit.prototypes.to(layer.weight.dtype))
    if made.scaled:
        shape = made.scales.shape
        made.scales = nn.Parameter(fit.scales.reshape(shape).to(layer.weight.dtype))
    if not made.ordered:
        made.codes = torch.from_numpy(packed(fit.codes.numpy(), made.bits))
    if layer.bias is not None:
        made.bias = nn.Parameter(layer.bias.detach().clone())
    return chain.train(layer.training)


def on_meta(made: type[TransformedConvolution], layer: Convolution, **given: Any) -> nn.Sequential:
    """Return the layer on the meta device, with the settings of another and some of its own."""
    with torch.device("meta"):
        return nn.Sequential(made(**settings_of(layer), **given)).to(layer.weight.dtype)


def smallest(layer: Convolution, size: int, ways: int, count: int = 1, scaled: bool = True) -> int:
    """Return the bits of so many prototypes of `size` places for all filters."""
    outputs, channels = layer.weight.shape[:2]
    bits = max((count * ways - 1).bit_length(), 1)
    beside = outputs * number_bits(layer) * scaled + 8 * math.ceil(outputs * bits / 8)
    return count * channels * size * number_bits(layer) + beside
