"""A network's graph followed from inputs to outputs, with ids of channels in the place of numbers.

Every call is run twice: once on fake tensors, for shapes, and once by its rule, for ids.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from featherweight.engine.inspecting.calls import evaluating
from featherweight.engine.inspecting.channel_calls import FunctionCall, Tracks, tracks_like
from featherweight.engine.inspecting.channel_functions import function_tracks
from featherweight.engine.inspecting.channel_ids import IdTensor
from featherweight.engine.inspecting.channel_layers import (
    RECURRENT,
    LayerCall,
    LayerFlow,
    layer_tracks,
)
from featherweight.engine.inspecting.channel_shuffles import Shuffle, find_shuffles
from featherweight.engine.network import Network

# A raw tensor larger than this is not followed: each of its elements would need an id.
LARGEST_RAW = 2**20
FILLED = frozenset({"zeros", "ones", "full", "new_zeros", "new_ones", "new_full"})
OUTPUT = "its channels are the network's output"
SHARED = "its weight is also used outside the layer"


@dataclass(frozen=True)
class Followed:
    """What following a graph gave: the ids of all weights, and of every tensor between layers.

    `tracks` are by name of node and position among several results; nodes inside a shuffle have
    none.
    """

    flow: LayerFlow
    tracks: dict[tuple[str, int], IdTensor]
    raw: dict[str, IdTensor]
    shuffles: tuple[Shuffle, ...]


class _Shapes(fx.Interpreter):
    """Runs a graph on fake tensors and keeps what every node gave."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.values[n] = super().run_node(n)
        return self.values[n]


class _Follower:
    def __init__(self, network: Network, values: dict[fx.Node, Any]) -> None:
        self.module = network.module
        self.flow = LayerFlow()
        self.values = values
        self.tracks: dict[fx.Node, Tracks] = {}
        self.raw: dict[str, IdTensor] = {}
        self.picks: list[Shuffle] = []
        layers = [layer for _, layer in network.layers()]
        self._held = {id(value) for layer in layers for value in layer.parameters()}
        self.shared: set[int] = set()

    def run(self) -> None:
        for node, value in self.values.items():
            self.tracks[node] = self._followed(node, value)

    def _followed(self, node: fx.Node, value: Any) -> Tracks:
        if node.op == "call_module":
            tracks = tuple(self.tracks.get(given) for given in node.all_input_nodes)
            layer = self.module.get_submodule(str(node.target))
            return layer_tracks(self.flow, LayerCall(str(node.target), layer, tracks, value))
        if node.op == "get_attr":
            return self._raw(str(node.target), value)
        if node.op == "output":
            for given in node.all_input_nodes:
                for _, track in _flat(self.tracks[given]):
                    self.flow.channels.lock(track.ids, OUTPUT)
            return None
        if node.op == "call_function" and hasattr(node.target, "_schema"):
            call = FunctionCall(node, self.values, self.tracks)
            if self._starts_a_state(call):
                ids = self.flow.channels.fresh(call.shape[-1])
                return IdTensor.along(len(call.shape) - 1, ids, call.shape)
            picked = self._picked(call) if call.name == "index_select" else None
            return picked or function_tracks(self.flow, call)
        if node.op == "call_function" and getattr(node.target, "__name__", "") == "getitem":
            return self._item(node)
        return tracks_like(value, IdTensor.empty)

    def _starts_a_state(self, call: FunctionCall) -> bool:
        """Say whether a call fills a tensor that only recurrent layers read, as their state."""
        sizes = call.arguments.get("size")
        if call.name not in FILLED or not sizes or not isinstance(sizes[-1], int):
            return False
        users = call.node.users
        return bool(users) and all(
            user.op == "call_module"
            and isinstance(self.module.get_submodule(str(user.target)), RECURRENT)
            and user.args[0] is not call.node
            for user in users
        )

    def _picked(self, call: FunctionCall) -> IdTensor | None:
        """Return ids of channels picked by a constant index, None where it is computed."""
        index = call.arguments["index"]
        if not isinstance(index, fx.Node) or index.op != "get_attr":
            return None
        order = tensor_at(self.module, str(index.target)).numpy().astype(np.int64)
        track = self.flow.now(call.main())
        dimension = int(call.value("dim")) % len(track.shape)
        if dimension not in track.varying():
            return None
        start = call.node.all_input_nodes[0].name
        self.picks.append(Shuffle(start, call.node.name, dimension, order))
        return self.flow.now(IdTensor(track.ids.take(order, dimension), call.shape))

    def _item(self, node: fx.Node) -> Tracks:
        position: Any = node.args[1]
        whole = self.tracks[node.all_input_nodes[0]]
        if isinstance(whole, tuple):
            part: Tracks = whole[position]
            return part
        return tracks_like(self.values[node], IdTensor.empty)

    def _raw(self, name: str, value: Any) -> Tracks:
        """Give every element of a raw tensor an id of its own, one for all uses of the tensor."""
        if name in self.raw:
            return self.flow.now(self.raw[name])
        if not isinstance(value, Tensor):
            return None
        key = id(tensor_at(self.module, name))
        if key in self._held:
            self.shared.add(key)
        small = value.ndim > 0 and 0 < value.numel() <= LARGEST_RAW
        if key in self._held or not small or not value.is_floating_point():
            return IdTensor.empty(value.shape)
        ids = self.flow.channels.fresh(value.numel()).reshape(value.shape)
        self.raw[name] = IdTensor(ids, tuple(value.shape))
        return self.raw[name]


def follow(network: Network) -> Followed:
    """Follow the channels of a network that has a graph. Raises what torch raises on bad calls."""
    assert isinstance(network.module, fx.GraphModule)
    example = network.example
    if network.dynamic_batch:
        example = tuple(tensor[:2] for tensor in example)
    shapes = _Shapes(network.module)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with torch.no_grad(), evaluating(network.module), fake as mode:
        shapes.run(*(mode.from_tensor(tensor) for tensor in example))
    follower = _Follower(network, shapes.values)
    follower.run()
    flow = follower.flow
    for (tensor, _), ids in flow.axes.items():
        if id(tensor_at(network.module, tensor)) in follower.shared:
            flow.channels.lock(ids, SHARED)
    chains = tuple(find_shuffles(flow, follower.values, follower.tracks))
    inner = {name for shuffle in chains for name in shuffle.inner}
    tracks = {
        (node.name, position): track
        for node, tracks in follower.tracks.items()
        for position, track in _flat(tracks)
        if node.name not in inner
    }
    for track in (*tracks.values(), *follower.raw.values()):
        _make_rectangular(flow, track)
    return Followed(flow, tracks, follower.raw, (*chains, *follower.picks))


def tensor_at(module: nn.Module, name: str) -> Tensor:
    """Return the parameter or buffer at a dotted name."""
    owner, _, leaf = name.rpartition(".")
    value = getattr(module.get_submodule(owner), leaf)
    assert isinstance(value, Tensor)
    return value


def _make_rectangular(flow: LayerFlow, track: IdTensor) -> None:
    """Unite channels until removing one leaves a rectangular tensor.

    Each must span all dimensions but one; the dimension with most channels stays free.
    """
    free = flow.free(track)
    varying = free.varying()
    if len(varying) > 1:

        def channels(dimension: int) -> int:
            return len(np.unique(free.vector(dimension)))

        best = max(varying, key=lambda dimension: (channels(dimension), dimension))
        flow.level(track, [dimension for dimension in varying if dimension != best])


def _flat(tracks: Tracks) -> Iterator[tuple[int, IdTensor]]:
    if isinstance(tracks, IdTensor):
        yield 0, tracks
    elif isinstance(tracks, tuple):
        for position, track in enumerate(tracks):
            if isinstance(track, IdTensor):
                yield position, track
