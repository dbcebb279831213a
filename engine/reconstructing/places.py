"""Which layers a compression changed, and where the network can be compared with the original."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, fx, nn

from featherweight.engine.applicability import Chosen
from featherweight.engine.inspecting.calls import evaluating
from featherweight.engine.inspecting.positive_scaling import norm_behind, sole_reader
from featherweight.engine.length_trials import tensors_of
from featherweight.engine.methods.method import stored_weights
from featherweight.engine.network import Network
from featherweight.engine.reconstructing.pieces import calls, inputs_of, piece
from featherweight.engine.recovering.norms import alike
from featherweight.engine.weight_forms import CompactLayer

Trains = Literal["changed", "following", "both"]


@dataclass(frozen=True)
class Stage:
    """Layers of the source that train together, for one that was changed.

    `made` are nodes of the compressed graph and `wanted` those of the original's that they are
    compared with, as many and in the same order.
    """

    layer: str
    trained: tuple[str, ...]
    made: tuple[fx.Node, ...]
    wanted: tuple[fx.Node, ...]


class Pair:
    """A compressed network and the one that it was made from; both have graphs."""

    def __init__(
        self, network: Network, original: Network, chosen: Mapping[str, Chosen] | None = None
    ) -> None:
        self.network, self.original, self.chosen = network, original, chosen or {}

    def stages(self, trains: Trains) -> list[Stage]:
        """Return what can be trained and compared, in the order of the graph."""
        found = []
        for name in self.changed():
            followers = self.followers(name)
            trained = {
                "changed": (name,),
                "following": tuple(followers),
                "both": (name, *followers),
            }[trains]
            places = self._places([name] if trains == "changed" or not followers else followers)
            if trained and places:
                made = [node for place in places for node in self._calls[place][0]]
                wanted = [node for place in places for node in self._calls[place][1]]
                found.append(Stage(name, trained, tuple(made), tuple(wanted)))
        return found

    def changed(self) -> list[str]:
        """Return the layers with weights that do not compute what the original's do."""
        return [name for name in self._weighted if not self._unchanged(name)]

    def followers(self, name: str) -> list[str]:
        """Return the next layers with weights that read a layer, in the order of the graph."""
        pending, done, found = calls(self.original.graph, {name}), set[fx.Node](), set[str]()
        while pending:
            for user in pending.pop().users:
                if user in done:
                    continue
                done.add(user)
                if user.op == "call_module" and user.target in self._weighted:
                    found.add(str(user.target))
                else:
                    pending.append(user)
        return [follower for follower in self._weighted if follower in found - {name}]

    def _places(self, wanted: list[str]) -> list[str]:
        """Return layers to compare: where one cannot be, those that follow it."""
        pending, done, found = list(wanted), set[str](), set[str]()
        while pending:
            name = pending.pop()
            if name in done:
                continue
            done.add(name)
            if name in self._calls and name not in self._scaled:
                found.add(name)
            else:
                pending += self.followers(name)
        return [name for name in self._weighted if name in found]

    def _unchanged(self, name: str) -> bool:
        if self.network.parts[name] != (name,):
            return False
        layer = self.network.layer(name)
        plain = layer.plain() if isinstance(layer, CompactLayer) else layer
        return alike(plain, self.original.layer(name))

    @cached_property
    def _weighted(self) -> dict[str, nn.Module]:
        return {name: each for name, each in self.original.layers() if stored_weights(each)}

    @cached_property
    def _calls(self) -> dict[str, tuple[list[fx.Node], list[fx.Node]]]:
        """The calls, in both graphs, of the layers whose outputs have the same shape in both.

        Where channels went the shape is another one.
        """
        found = {}
        own, other = _shapes(self.network), _shapes(self.original)
        for name in self._weighted:
            made = calls(self.network.graph, self.network.parts[name][-1:])
            wanted = calls(self.original.graph, {name})
            shapes = [own[node] for node in made]
            if made and shapes == [other[node] for node in wanted] and () not in shapes:
                found[name] = made, wanted
        return found

    @cached_property
    def _scaled(self) -> set[str]:
        """Layers whose channels were made larger or smaller, to be undone by what reads them."""
        even = {
            name
            for name, methods in self.chosen.items()
            if methods.precision is not None and methods.precision.equalizes()
        }
        return {
            name
            for name in even
            if norm_behind(self.original, name) or sole_reader(self.original, name) in even
        }


def first_tensor(value: object) -> Tensor:
    """Return a layer's output; of a recurrent layer, what it gives for every step."""
    return tensors_of(value)[0]


@torch.no_grad()
def _shapes(network: Network) -> dict[fx.Node, tuple[int, ...]]:
    """Return the shapes of what layers give for the example; () where it is no float."""
    assert isinstance(network.module, fx.GraphModule)
    nodes = [node for node in network.graph.nodes if node.op == "call_module"]
    with evaluating(network.module):
        values = piece(network.module, inputs_of(network.graph), nodes)(*network.example)
    tensors = [first_tensor(value) for value in values]
    return {
        node: tuple(tensor.shape) if tensor.is_floating_point() else ()
        for node, tensor in zip(nodes, tensors, strict=True)
    }
