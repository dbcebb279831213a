"""Which channels of a network must go together, and which cannot go.

Every channel of every activation and weight has an id. Data movement is run on ids themselves,
element-wise operations unite them, products use them up (see `channel_flow`). What is united is an
*atom*: it can be removed on its own and leaves a network that computes what the original does when
everything that reads the removed channels ignores them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from torch import fx

from featherweight.engine.inspecting.channel_flow import Followed, follow, tensor_at
from featherweight.engine.inspecting.channel_ids import IdTensor, IntArray
from featherweight.engine.inspecting.channel_layers import PRODUCERS
from featherweight.engine.inspecting.channel_shuffles import Shuffle
from featherweight.engine.network import CAPTURE_ERRORS, Network

FIXED = -1


@dataclass(frozen=True)
class LayerChannels:
    """A layer's channels as atoms, int64; FIXED where a channel cannot be removed.

    `outputs` are in the order of its output channels, `inputs` of its input channels (columns of a
    linear layer after a flatten included). With `whole_groups` a convolution or a norm of several
    `groups` loses whole groups, else the same positions in each group.
    """

    outputs: IntArray
    inputs: IntArray
    groups: int = 1
    whole_groups: bool = False


@dataclass(frozen=True)
class Axis:
    """The dimension of a tensor along which its channels lie, and their atoms along it.

    `shape` is that of the whole tensor, in an activation for the batch that was followed.
    """

    dimension: int
    atoms: IntArray
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ChannelSet:
    """Layers whose output channels hang together, and the atoms of these channels."""

    layers: tuple[str, ...]
    atoms: IntArray


@dataclass(frozen=True)
class Coupling:
    """All couplings of a network.

    `locks` says of layers with output channels why none can go, in a sentence. `channels` has every
    layer with channels (norms too); `weights` every sliced tensor by dotted name, with an axis for
    each dimension that loses channels; `activations` the results of nodes by name of node and
    position among several results; `shuffles` the places where channels change their order.
    """

    locks: dict[str, str]
    sets: tuple[ChannelSet, ...] = ()
    channels: dict[str, LayerChannels] = field(default_factory=dict)
    weights: dict[str, tuple[Axis, ...]] = field(default_factory=dict)
    activations: dict[tuple[str, int], Axis] = field(default_factory=dict)
    shuffles: tuple[Shuffle, ...] = ()

    def set_of(self, layer: str) -> ChannelSet | None:
        """Return the set that a layer's output channels belong to, None where it is locked."""
        return self._set_by_layer.get(layer)

    def coupled(self, layer: str) -> tuple[str, ...]:
        """Return the other layers that lose output channels together with this one."""
        found = self.set_of(layer)
        return tuple(other for other in found.layers if other != layer) if found else ()

    def followers(self, layer: str) -> tuple[str, ...]:
        """Return the layers that only follow: norms, and those that read the channels."""
        found = self.set_of(layer)
        if found is None:
            return ()
        return tuple(
            name
            for name, channels in self.channels.items()
            if name not in found.layers and (np.isin(channels.inputs, found.atoms).any())
        )

    @cached_property
    def axes(self) -> tuple[IntArray, ...]:
        """The distinct runs of channels, all removable, of which at least one must stay."""
        distinct = {
            axis.tobytes(): axis for axis in self._vectors() if axis.size and FIXED not in axis
        }
        return tuple(distinct.values())

    @cached_property
    def _set_by_layer(self) -> dict[str, ChannelSet]:
        return {layer: found for found in self.sets for layer in found.layers}

    def _vectors(self) -> Iterator[IntArray]:
        for axes in self.weights.values():
            yield from (axis.atoms for axis in axes)
        for axis in self.activations.values():
            yield axis.atoms


def analyse(network: Network) -> Coupling:
    """Return the couplings of a network, from its graph alone.

    Without a graph every layer is locked with the network's own reason.
    """
    if not isinstance(network.module, fx.GraphModule):
        return _all_locked(network, f"the network has no graph: {network.graph_lock}")
    try:
        followed = follow(network)
    except CAPTURE_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return _all_locked(network, f"the network's graph could not be followed: {reason}")
    for vector in _whole_vectors(followed):
        if vector.size and (vector == vector[0]).all():
            followed.flow.channels.lock(vector, "its channels can only go all at once")
    _lock_computed_sizes(network.graph, followed)
    return _Numbering(network, followed).coupling()


def _all_locked(network: Network, reason: str) -> Coupling:
    return Coupling({name: _sentence(reason) for name, _ in network.layers()})


def _whole_vectors(followed: Followed) -> Iterator[IntArray]:
    flow = followed.flow
    for ids in flow.axes.values():
        yield flow.channels.find(ids)
    for layer in flow.layers.values():
        yield flow.channels.find(layer.inputs)
        yield flow.channels.find(layer.outputs)
    for track in (*followed.tracks.values(), *followed.raw.values()):
        if not track.blank:
            yield flow.channels.find(track.ids).reshape(-1)


def _lock_computed_sizes(graph: fx.Graph, followed: Followed) -> None:
    """Lock channels along a dimension whose size is not a constant that could be rewritten."""
    for node in graph.nodes:
        track = followed.tracks.get((node.name, 0))
        sizes = [value for value in node.args[1:2] if isinstance(value, list | tuple)]
        if track is None or not sizes or len(sizes[0]) != len(track.shape):
            continue
        for dimension in followed.flow.free(track).varying():
            if isinstance(sizes[0][dimension], fx.Node):
                reason = "the graph computes how many channels it has"
                followed.flow.channels.lock(track.ids, reason)


class _Numbering:
    """Numbers what can be removed from 0 on and writes all ids as these numbers."""

    def __init__(self, network: Network, followed: Followed) -> None:
        self.module = network.module
        self.followed = followed
        self.flow = followed.flow
        ids = self.flow.channels
        self.producers = {
            name: self.flow.layers[name].outputs
            for name, layer in network.layers()
            if isinstance(layer, PRODUCERS) and name in self.flow.layers
        }
        outputs = [ids.find(outputs) for outputs in self.producers.values()]
        roots = np.unique(np.concatenate([*outputs, np.zeros(0, np.int64)]))
        roots = roots[~ids.locked(roots)]
        self.numbers = np.full(ids.count, FIXED, dtype=np.int64)
        self.numbers[roots] = np.arange(len(roots))

    def coupling(self) -> Coupling:
        channels = {
            name: LayerChannels(
                self.atoms(layer.outputs),
                self.atoms(layer.inputs),
                layer.groups,
                layer.whole_groups,
            )
            for name, layer in self.flow.layers.items()
        }
        weights: dict[str, tuple[Axis, ...]] = {}
        for (tensor, dimension), ids in self.flow.axes.items():
            shape = tuple(tensor_at(self.module, tensor).shape)
            if axis := self.axis(dimension, ids, shape):
                weights[tensor] = (*weights.get(tensor, ()), axis)
        for tensor, track in self.followed.raw.items():
            if axis := self.axis_of(track):
                weights[tensor] = (axis,)
        activations = {
            key: axis
            for key, track in self.followed.tracks.items()
            if (axis := self.axis_of(track))
        }
        outputs = {name: channels[name].outputs for name in self.producers}
        return Coupling(
            self.locks(outputs),
            _sets(outputs),
            channels,
            weights,
            activations,
            self.followed.shuffles,
        )

    def atoms(self, ids: IntArray) -> IntArray:
        result: IntArray = self.numbers[self.flow.channels.find(ids)]
        return result

    def axis(self, dimension: int, ids: IntArray, shape: tuple[int, ...]) -> Axis | None:
        atoms = self.atoms(ids)
        return Axis(dimension, atoms, shape) if (atoms != FIXED).any() else None

    def axis_of(self, track: IdTensor) -> Axis | None:
        varying = self.flow.free(track).varying()
        if not varying:
            return None
        return self.axis(varying[0], self.flow.now(track).vector(varying[0]), track.shape)

    def locks(self, outputs: dict[str, IntArray]) -> dict[str, str]:
        found = {name: _sentence(reason) for name, reason in self.flow.kept.items()}
        for name, atoms in outputs.items():
            if (atoms == FIXED).all():
                reason = self.flow.channels.reason(self.producers[name])
                found[name] = _sentence(reason or "its channels could not be followed")
        return found


def _sets(outputs: dict[str, IntArray]) -> tuple[ChannelSet, ...]:
    """Group layers that share atoms, directly or through others."""
    group_of: dict[str, set[str]] = {}
    owner: dict[int, str] = {}
    for name, atoms in outputs.items():
        group_of[name] = {name}
        for atom in _removable(atoms):
            first = group_of[owner.setdefault(int(atom), name)]
            if first is not group_of[name]:
                first |= group_of[name]
                group_of.update(dict.fromkeys(tuple(group_of[name]), first))
    groups = {
        id(group): group for name, group in group_of.items() if len(_removable(outputs[name]))
    }
    sets = []
    for group in groups.values():
        layers = tuple(name for name in outputs if name in group)
        atoms = _removable(np.concatenate([outputs[name] for name in layers]))
        sets.append(ChannelSet(layers, atoms))
    return tuple(sets)


def _removable(atoms: IntArray) -> IntArray:
    return np.unique(atoms[atoms != FIXED])


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
