"""What layers do with channels: each is a rule from the ids that come in to those that go out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from featherweight.engine.inspecting.channel_calls import Tracks, tracks_like
from featherweight.engine.inspecting.channel_ids import Constraints, IdTensor, IntArray
from featherweight.engine.rounded_layers import RoundedActivation

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
RECURRENT = nn.LSTM | nn.GRU | nn.RNN
# Layers that have output channels of their own, which a person can choose to remove.
PRODUCERS = (Convolution, Transposed, nn.Linear, nn.Embedding, RECURRENT)
PASSIVE = nn.Identity | nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d


@dataclass(frozen=True)
class LayerIds:
    """Ids of a layer's output channels and of its input channels, in their order.

    `whole_groups` says that a layer of several groups loses whole ones; else each of its groups
    loses the same positions.
    """

    outputs: IntArray
    inputs: IntArray
    groups: int = 1
    whole_groups: bool = False


class LayerFlow(Constraints):
    """Ids of all weights of a network's layers, beside those that flow between them.

    `axes` maps the dotted name of a tensor and one of its dimensions to ids along it. A tensor
    that several layers share has the same ids in all of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.axes: dict[tuple[str, int], IntArray] = {}
        self.layers: dict[str, LayerIds] = {}
        self.kept: dict[str, str] = {}
        self._shared: dict[tuple[int, int], IntArray] = {}

    def axis(self, layer: str, module: nn.Module, tensor: str, dimension: int) -> IntArray:
        """Return the ids along one dimension of a layer's tensor."""
        value: Tensor = getattr(module, tensor)
        key = (id(value), dimension)
        if key not in self._shared:
            self._shared[key] = self.channels.fresh(value.shape[dimension])
        self.axes[f"{layer}.{tensor}", dimension] = self._shared[key]
        return self._shared[key]

    def vectors(self, layer: str, module: nn.Module, *tensors: str) -> IntArray | None:
        """Return the ids of a layer's vectors, united; None where it has none of them."""
        found = [
            self.axis(layer, module, tensor, 0)
            for tensor in tensors
            if getattr(module, tensor, None) is not None
        ]
        for vector in found[1:]:
            self.channels.unite(found[0], vector)
        return found[0] if found else None


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer: what comes in, and what came out in a run without numbers.

    `tracks` are of all tensors that come in, each once, lists of them laid out.
    """

    name: str
    module: Any
    tracks: tuple[Tracks, ...]
    result: Any

    @property
    def main(self) -> IdTensor:
        """The ids of the first input, a tensor."""
        track = self.tracks[0]
        if not isinstance(track, IdTensor):
            raise LookupError(f"{self.name} has no tensor first")
        return track


def layer_tracks(flow: LayerFlow, call: LayerCall) -> Tracks:
    """Return the ids of what a layer gives, after saying what it asks of the ids that come in."""
    for kinds, rule in _RULES:
        if isinstance(call.module, kinds):
            return rule(flow, call)
    kind = type(call.module).__name__
    for track in call.tracks:
        if isinstance(track, IdTensor):
            lost = f"its channels go into {call.name} ({kind}), which cannot be followed"
            flow.channels.lock(track.ids, lost)
    flow.kept[call.name] = f"the channels of a {kind} cannot be followed"
    return tracks_like(call.result, IdTensor.empty)


def _enters(flow: LayerFlow, call: LayerCall, dimension: int, inputs: IntArray) -> bool:
    """Unite what comes in along the channel dimension with a layer's input channels.

    Returns False where channels lie along another dimension instead and only pass through.
    """
    track, varying = call.main, flow.free(call.main).varying()
    if varying and dimension not in varying:
        return False
    track = flow.level(track, [d for d in range(len(track.shape)) if d != dimension])
    arriving = track.vector(dimension)
    reason = flow.channels.reason(arriving) or "its channels meet values of fixed size"
    flow.join(arriving, inputs, reason)
    return True


def _passed(flow: LayerFlow, call: LayerCall, dimension: int, own: list[IntArray]) -> Tracks:
    """Let channels pass that lie along another dimension than the one the layer works on."""
    for ids in own:
        flow.channels.lock(ids, "it works along positions, not along channels")
    count = len(call.main.shape)
    if not isinstance(call.module, nn.Linear):
        space = range(dimension + 1, count)
        flow.freeze(call.main, space, f"{call.name} mixes its channels")
    return IdTensor(flow.now(call.main).ids.take([0], dimension), tuple(call.result.shape))


def _made(call: LayerCall, dimension: int, outputs: IntArray) -> IdTensor:
    return IdTensor.along(dimension, outputs, call.result.shape)


def _linear(flow: LayerFlow, call: LayerCall) -> Tracks:
    outputs = flow.axis(call.name, call.module, "weight", 0)
    inputs = flow.axis(call.name, call.module, "weight", 1)
    flow.layers[call.name] = LayerIds(outputs, inputs)
    _bias(flow, call, outputs)
    dimension = len(call.main.shape) - 1
    if not _enters(flow, call, dimension, inputs):
        return _passed(flow, call, dimension, [inputs, outputs])
    return _made(call, dimension, outputs)


def _bias(flow: LayerFlow, call: LayerCall, outputs: IntArray) -> None:
    if call.module.bias is not None:
        flow.channels.unite(flow.axis(call.name, call.module, "bias", 0), outputs)


def _convolution(flow: LayerFlow, call: LayerCall) -> Tracks:
    module = call.module
    transposed = isinstance(module, Transposed)
    rows = flow.axis(call.name, module, "weight", 0)
    groups = module.groups
    each_in, each_out = module.in_channels // groups, module.out_channels // groups
    whole = groups > 1 and groups >= max(each_in, each_out)
    if whole:
        flow.channels.unite(rows.reshape(groups, -1), rows.reshape(groups, -1)[:, :1])
        group = rows.reshape(groups, -1)[:, 0]
        inputs = rows if transposed else np.repeat(group, each_in)
        outputs = np.repeat(group, each_out) if transposed else rows
    else:
        flow.channels.unite(rows.reshape(groups, -1), rows.reshape(groups, -1)[:1])
        columns = np.tile(flow.axis(call.name, module, "weight", 1), groups)
        inputs, outputs = (rows, columns) if transposed else (columns, rows)
    flow.layers[call.name] = LayerIds(outputs, inputs, groups, whole)
    _bias(flow, call, outputs)
    dimension = len(call.main.shape) - len(module.kernel_size) - 1
    if not _enters(flow, call, dimension, inputs):
        return _passed(flow, call, dimension, [inputs, outputs])
    return _made(call, dimension, outputs)


def _embedding(flow: LayerFlow, call: LayerCall) -> Tracks:
    rows = flow.axis(call.name, call.module, "weight", 0)
    flow.channels.lock(rows, "the rows of an embedding stay")
    outputs = flow.axis(call.name, call.module, "weight", 1)
    flow.layers[call.name] = LayerIds(outputs, np.zeros(0, dtype=np.int64))
    return _made(call, len(call.result.shape) - 1, outputs)


def _batch_norm(flow: LayerFlow, call: LayerCall) -> Tracks:
    names = ("weight", "bias", "running_mean", "running_var")
    return _channelwise(flow, call, flow.vectors(call.name, call.module, *names))


def _prelu(flow: LayerFlow, call: LayerCall) -> Tracks:
    if call.module.num_parameters == 1:
        return call.main
    return _channelwise(flow, call, flow.vectors(call.name, call.module, "weight"))


def _channelwise(
    flow: LayerFlow, call: LayerCall, vector: IntArray | None, groups: int = 1
) -> Tracks:
    if vector is None:
        return call.main
    flow.layers[call.name] = LayerIds(vector, vector, groups, groups > 1)
    if not _enters(flow, call, 1, vector):
        flow.channels.lock(vector, "it works along positions, not along channels")
    return flow.now(call.main)


def _group_norm(flow: LayerFlow, call: LayerCall) -> Tracks:
    groups = call.module.num_groups
    if groups == 1:
        channels = range(1, len(call.main.shape))
        return flow.freeze(call.main, channels, "group norm mixes its channels")
    vector = flow.vectors(call.name, call.module, "weight", "bias")
    if vector is not None:
        # Statistics are of a whole group, so that only a whole group can go.
        flow.channels.unite(vector.reshape(groups, -1), vector.reshape(groups, -1)[:, :1])
    return _channelwise(flow, call, vector, groups)


def _layer_norm(flow: LayerFlow, call: LayerCall) -> Tracks:
    count = len(call.main.shape)
    dimensions = range(count - len(call.module.normalized_shape), count)
    return flow.freeze(call.main, dimensions, "layer norm mixes its channels")


def _recurrent(flow: LayerFlow, call: LayerCall) -> Tracks:
    module = call.module
    inputs = flow.axis(call.name, module, "weight_ih_l0", 1)
    if module.bidirectional:
        reverse = flow.axis(call.name, module, "weight_ih_l0_reverse", 1)
        flow.channels.unite(inputs, reverse)
    hidden = _hidden_units(flow, call)
    flow.layers[call.name] = LayerIds(hidden, inputs)
    if not _enters(flow, call, len(call.main.shape) - 1, inputs):
        flow.channels.lock(call.main.ids, "a recurrent layer mixes its channels")
        flow.channels.lock(inputs, "it works along positions, not along channels")
    if module.proj_size:
        flow.channels.lock(hidden, "the hidden units of an LSTM with projections stay")
        return tracks_like(call.result, IdTensor.empty)
    for state in call.tracks[1:]:
        if isinstance(state, IdTensor):
            last = len(state.shape) - 1
            along = flow.level(state, range(last)).vector(last)
            flow.join(along, hidden, "its hidden units start from values of fixed size")
    units = len(hidden)

    def made(shape: tuple[int, ...]) -> IdTensor:
        return IdTensor.along(len(shape) - 1, np.tile(hidden, shape[-1] // units), shape)

    return tracks_like(call.result, made)


def _hidden_units(flow: LayerFlow, call: LayerCall) -> IntArray:
    """Return the ids of a recurrent layer's hidden units.

    There is one size for all its layers and directions, so unit j is the same in each of them.
    """
    module = call.module
    hidden = flow.channels.fresh(module.hidden_size)
    for tensor, value in module.named_parameters():
        kind, _, place = tensor.partition("_l")
        if kind != "weight_hr":
            rows = flow.axis(call.name, module, tensor, 0)
            flow.channels.unite(rows.reshape(-1, len(hidden)), hidden)
        reads = kind == "weight_hh" or (kind == "weight_ih" and not place.startswith("0"))
        if value.ndim == 2 and reads and not module.proj_size:
            columns = flow.axis(call.name, module, tensor, 1)
            flow.channels.unite(columns.reshape(-1, len(hidden)), hidden)
    return hidden


def _unchanged(_: LayerFlow, call: LayerCall) -> Tracks:
    return call.main


Rule = Callable[[LayerFlow, LayerCall], Tracks]
_RULES: tuple[tuple[Any, Rule], ...] = (
    (nn.Linear, _linear),
    (Convolution | Transposed, _convolution),
    (nn.Embedding, _embedding),
    (BatchNorm, _batch_norm),
    (nn.GroupNorm, _group_norm),
    (nn.LayerNorm, _layer_norm),
    (nn.PReLU, _prelu),
    (RECURRENT, _recurrent),
    (PASSIVE | RoundedActivation, _unchanged),
)
