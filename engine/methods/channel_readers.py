"""Layers that multiply the channels of others with weights, and so can make up for lost ones."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from featherweight.engine.evidence import NOTHING, Found, InputMoments
from featherweight.engine.inspecting.channel_ids import IntArray
from featherweight.engine.inspecting.channel_layers import Convolution, Transposed
from featherweight.engine.inspecting.coupling import FIXED, Coupling
from featherweight.engine.network import Network


@dataclass(frozen=True)
class Reader:
    """A layer with the matrix view of its weight, and the atom that each of its columns reads.

    `atoms` is (groups, columns), FIXED where a column reads what cannot go. `view` has no moments.
    """

    name: str
    layer: nn.Module
    view: InputMoments
    atoms: IntArray

    @property
    def matrix(self) -> Tensor:
        """The weight as (groups, rows, columns)."""
        return self.view.matrix(self.layer.get_parameter("weight").detach())

    def measured(self, found: Found) -> InputMoments | None:
        """Return the moments of its inputs, None where they were not measured or are not finite."""
        moments = found.get(self.name, {}).get("weight", NOTHING).moments
        if moments is None or not all(bool(block.isfinite().all()) for block in moments.blocks):
            return None
        return moments

    @torch.no_grad()
    def become(self, matrix: Tensor, shift: Tensor | None) -> None:
        """Take the weight of a matrix view, and add to the bias, in place."""
        weight = self.layer.get_parameter("weight")
        weight.copy_(self.view.weight(matrix, weight.shape))
        if shift is not None and isinstance(self.layer.bias, Tensor):
            self.layer.bias.add_(shift)


def readers(network: Network, coupling: Coupling, atoms: IntArray) -> Iterator[Reader]:
    """Give the layers that can make up for some of these atoms.

    Not those that lose whole groups with them (depthwise ones), nor those that share their weight.
    """
    wanted = frozenset(atoms.tolist()) - {FIXED}
    for name, channels in coupling.channels.items():
        layer = network.layer(name)
        if not isinstance(layer, nn.Linear | Convolution | Transposed):
            continue
        if (channels.whole_groups and channels.groups > 1) or wanted.isdisjoint(
            channels.inputs.tolist()
        ):
            continue
        if not _shared(network, layer):
            yield _reader(name, layer, channels.inputs)


def _reader(name: str, layer: nn.Module, inputs: IntArray) -> Reader:
    groups = layer.groups if isinstance(layer, Convolution | Transposed) else 1
    view = InputMoments(groups, (), torch.zeros(0), isinstance(layer, Transposed))
    columns = view.matrix(layer.get_parameter("weight")).shape[2]
    each = inputs.reshape(groups, -1)
    return Reader(name, layer, view, each.repeat(columns // each.shape[1], axis=1))


def _shared(network: Network, layer: nn.Module) -> bool:
    weight = layer.get_parameter("weight")
    holders = (
        parameter is weight
        for module in network.module.modules()
        for parameter in module._parameters.values()
    )
    return sum(holders) > 1
