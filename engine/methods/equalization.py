"""Ranges of weights shared evenly between a layer and the only one that reads its channels.

Nagel, van Baalen, Blankevoort, Welling 2019 (arXiv 1906.04721): data-free quantization. What is
between is positively homogeneous, so a channel may be made s times as small and the weights that
read it s times as large; at s = sqrt(r1 * r2) / r2 both ranges of the channel are sqrt(r1 * r2).
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from featherweight.engine.inspecting.channel_ids import IntArray
from featherweight.engine.inspecting.channel_layers import BatchNorm, Convolution
from featherweight.engine.inspecting.coupling import FIXED, Coupling, analyse
from featherweight.engine.inspecting.positive_scaling import norm_behind, sole_reader
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.network import Network

ROUNDS = 40
SETTLED = 1e-3
# A factor beyond this would push a channel that hardly counts out of float32.
MOST = 1e4


@dataclass(frozen=True)
class _Pair:
    """A layer, the one that reads it, and the atoms of the channels between them."""

    producer: nn.Module
    reader: nn.Module
    made: IntArray
    read: IntArray


@torch.no_grad()
def equalize(network: Network, layers: Sequence[str], check: Check = unchecked) -> None:
    """Make ranges of the weights of these layers even, in place; the network's function stays.

    A norm right behind a layer takes up any factor, so all rows get the largest row's range. Other
    layers share with the one that reads them, if it is among these, in rounds until ranges stay.
    """
    normed = {name: norm for name in layers if (norm := norm_behind(network, name))}
    pairs = _pairs(network, [name for name in layers if name not in normed], set(layers))
    for _ in range(ROUNDS if pairs else 0):
        check()
        if max(_shared(pair) for pair in pairs) < SETTLED:
            break
    for name, norm in normed.items():
        _even_rows(network.layer(name), network.layer(norm))


def _pairs(network: Network, layers: Sequence[str], wanted: Container[str]) -> list[_Pair]:
    """Return the pairs whose channels can be told apart."""
    readers = {name: sole_reader(network, name) for name in layers}
    readers = {name: reader for name, reader in readers.items() if reader in wanted}
    coupling, found = analyse(network) if readers else Coupling({}), []
    for name, other in readers.items():
        producer, reader = network.layer(name), network.layer(other)
        if not isinstance(producer, nn.Linear | Convolution) or not (
            {name, other} <= coupling.channels.keys()
        ):
            continue
        made, read = coupling.channels[name].outputs, coupling.channels[other].inputs
        if FIXED not in made and FIXED not in read and set(made) == set(read):
            found.append(_Pair(producer, reader, made, read))
    return found


def _even_rows(layer: nn.Module, norm: nn.Module) -> None:
    """Give every row of a layer the range of the largest one, and the norm behind it the rest."""
    if not isinstance(layer, nn.Linear | Convolution) or not isinstance(norm, BatchNorm):
        return
    if not norm.affine or norm.running_var is None or norm.running_mean is None:
        return
    ranges = layer.weight.abs().flatten(1).amax(1)
    factors = torch.where(ranges > 0, ranges.max() / ranges, 1.0).clamp(max=MOST)
    _scale_rows(layer, factors)
    deviation = (norm.running_var + norm.eps).sqrt()
    norm.running_mean.mul_(factors)
    norm.running_var.mul_(factors.square())
    norm.weight.mul_((norm.running_var + norm.eps).sqrt() / (factors * deviation))


def _shared(pair: _Pair) -> float:
    """Equalize the pair once; return by how much ranges changed, as the largest logarithm."""
    atoms, made = np.unique(pair.made, return_inverse=True)
    read = np.searchsorted(atoms, pair.read)
    first = _largest(pair.producer.get_parameter("weight").abs().flatten(1).amax(1), made)
    second = _largest(_columns(pair.reader).abs().amax((0, 2)), read)
    usable = (first > 0) & (second > 0)
    shrink = torch.where(usable, (first / second).sqrt(), 1.0).clamp(1.0 / MOST, MOST)
    _scale_rows(pair.producer, 1.0 / shrink[torch.from_numpy(made)])
    _scale_columns(pair.reader, shrink[torch.from_numpy(read)])
    return float(shrink.log().abs().max())


def _largest(values: Tensor, places: IntArray) -> Tensor:
    found = torch.zeros(int(places.max()) + 1)
    return found.scatter_reduce(0, torch.from_numpy(places), values, "amax")


def _scale_rows(layer: nn.Module, factors: Tensor) -> None:
    weight, bias = layer.get_parameter("weight"), layer.bias
    weight.mul_(factors.reshape(-1, *[1] * (weight.ndim - 1)))
    if isinstance(bias, Tensor):
        bias.mul_(factors)


def _columns(reader: nn.Module) -> Tensor:
    """Return weights as (rows, input channels, numbers); grouped ones have a group's rows."""
    weight = reader.get_parameter("weight")
    groups = reader.groups if isinstance(reader, Convolution) else 1
    apart = weight.reshape(groups, -1, weight.shape[1], weight[0, 0].numel())
    return apart.transpose(0, 1).flatten(1, 2)


def _scale_columns(reader: nn.Module, factors: Tensor) -> None:
    weight = reader.get_parameter("weight")
    groups = reader.groups if isinstance(reader, Convolution) else 1
    each = factors.reshape(groups, -1).repeat_interleave(weight.shape[0] // groups, dim=0)
    weight.mul_(each.reshape(*each.shape, *[1] * (weight.ndim - 2)))
