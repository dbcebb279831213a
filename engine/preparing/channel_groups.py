"""All weights that belong to channels, wherever they lie, and how large they are together."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from featherweight.engine.inspecting.channel_flow import tensor_at
from featherweight.engine.inspecting.channel_ids import IntArray
from featherweight.engine.inspecting.coupling import Axis, Coupling
from featherweight.engine.network import Network


@dataclass(frozen=True)
class Slices:
    """A tensor that has slices along a dimension for some channels.

    `places` (int64) says for every index along it which channel it belongs to; `count`, the number
    of channels, where it belongs to none.
    """

    tensor: Tensor
    dimension: int
    places: Tensor

    def sums(self, values: Tensor, count: int) -> Tensor:
        """Return the sum of values of the tensor's shape for each of the channels: (count,)."""
        along = values.movedim(self.dimension, 0).reshape(len(self.places), -1).sum(1)
        return values.new_zeros(count + 1).index_add_(0, self.places, along)[:count]

    def along(self, factors: Tensor) -> Tensor:
        """Return the factor of each index, 1 without a channel, to multiply the tensor with."""
        shape = [1] * self.tensor.ndim
        shape[self.dimension] = -1
        return torch.cat([factors, factors.new_ones(1)])[self.places].reshape(shape)

    def scale(self, factors: Tensor) -> None:
        """Multiply every channel's slice by its factor, in place."""
        self.tensor.mul_(self.along(factors))


class ChannelGroups:
    """For every channel of some, numbered from 0 on, the slices that are its group of weights."""

    def __init__(self, slices: list[Slices], count: int) -> None:
        self.slices, self.count = slices, count
        self.sizes = torch.zeros(count)
        for each in slices:
            self.sizes += each.sums(torch.ones_like(each.tensor), count)

    @torch.no_grad()
    def norms(self) -> Tensor:
        """Return the root mean square of every group, float32: (count,)."""
        squares = torch.zeros(self.count)
        for each in self.slices:
            squares += each.sums(each.tensor.square(), self.count)
        return squares.div_(self.sizes).sqrt_()

    @torch.no_grad()
    def scale(self, factors: Tensor) -> None:
        """Multiply every group by its factor, in place."""
        for each in self.slices:
            each.scale(factors)


def slices_of(tensor: Tensor, axis: Axis, atoms: IntArray) -> Slices:
    """Return the slices along an axis of a tensor that belong to some sorted atoms."""
    inside = np.isin(axis.atoms, atoms)
    places = np.where(inside, np.searchsorted(atoms, axis.atoms), len(atoms))
    return Slices(tensor, axis.dimension, torch.from_numpy(places))


def groups_of(
    network: Network, coupling: Coupling, atoms: IntArray, names: frozenset[str] | None = None
) -> ChannelGroups:
    """Return the groups of some atoms: all parameters that lose a slice with them, inputs too.

    With `names`, only tensors of these dotted names.
    """
    found, seen = [], set[tuple[int, int]]()
    for name, axes in coupling.weights.items():
        tensor = tensor_at(network.module, name)
        if not isinstance(tensor, nn.Parameter) or (names is not None and name not in names):
            continue
        for axis in axes:
            # Layers may share a tensor.
            if np.isin(axis.atoms, atoms).any() and (id(tensor), axis.dimension) not in seen:
                seen.add((id(tensor), axis.dimension))
                found.append(slices_of(tensor, axis, atoms))
    return ChannelGroups(found, len(atoms))
