"""Whether a channel that is made c times as large reaches what reads it c times as large, c > 0."""

from collections.abc import Container
from dataclasses import dataclass

from torch import fx, nn

from featherweight.engine.inspecting.channel_calls import FunctionCall
from featherweight.engine.inspecting.channel_functions import MOVES, POOL
from featherweight.engine.inspecting.channel_layers import PASSIVE, BatchNorm, Convolution
from featherweight.engine.inspecting.coupling import ChannelSet
from featherweight.engine.network import Network

SCALING = (
    *("relu", "relu_", "leaky_relu", "leaky_relu_", "mean", "sum", "amax", "cat"),
    *("clone", "contiguous", "alias", "detach", "dropout", "feature_dropout"),
)


@dataclass(frozen=True)
class ScalingPath:
    """The one layer that makes channels, and the batch norm right behind it; "" without one."""

    producer: str
    norm: str = ""


def scaling_path(
    network: Network, found: ChannelSet, readers: Container[str]
) -> ScalingPath | None:
    """Return where the channels of a set come from if all that follows up to readers scales.

    What follows may be one batch norm, right behind the layer, and then whatever is positively
    homogeneous, as ReLU and pooling are. None where there is anything else on the way.
    """
    begun = _begun(network, found.layers[0]) if len(found.layers) == 1 else None
    if begun is None:
        return None
    path, start = begun
    pending, done = [start], set[fx.Node]()
    while pending:
        for user in pending.pop().users:
            if user in done or (user.op == "call_module" and user.target in readers):
                continue
            done.add(user)
            if not _scales(network, user):
                return None
            pending.append(user)
    return path


def norm_behind(network: Network, producer: str) -> str:
    """Return the batch norm that alone reads a layer, as it is; empty where there is none."""
    begun = _begun(network, producer)
    return begun[0].norm if begun else ""


def sole_reader(network: Network, producer: str) -> str:
    """Return the one layer that multiplies a layer's channels by weights.

    Empty where it is not the only one, or what is not positively homogeneous lies between.
    """
    begun = _begun(network, producer)
    pending, done, readers = [begun[1]] if begun else [], set[fx.Node](), set[str]()
    while pending:
        for user in pending.pop().users:
            if user in done:
                continue
            done.add(user)
            if user.op == "call_module" and isinstance(
                network.layer(str(user.target)), nn.Linear | Convolution
            ):
                readers.add(str(user.target))
            elif _scales(network, user) and len(user.all_input_nodes) == 1:
                pending.append(user)
            else:
                return ""
    if len(readers) != 1:
        return ""
    (reader,) = readers
    calls = network.graph.find_nodes(op="call_module", target=reader)
    return reader if len(calls) == 1 and reader != producer else ""


def _begun(network: Network, producer: str) -> tuple[ScalingPath, fx.Node] | None:
    """Return the path with a norm right behind the layer, and the node where it ends."""
    if not isinstance(network.module, fx.GraphModule):
        return None
    starts = network.graph.find_nodes(op="call_module", target=producer)
    if len(starts) != 1:
        return None
    (start,) = starts
    after = next(iter(start.users), None)
    if after is not None and len(start.users) == 1 and _is_norm(network, after):
        return ScalingPath(producer, str(after.target)), after
    return ScalingPath(producer), start


def _is_norm(network: Network, node: fx.Node) -> bool:
    if node.op != "call_module":
        return False
    layer = network.layer(str(node.target))
    return isinstance(layer, BatchNorm) and layer.running_var is not None


def _scales(network: Network, node: fx.Node) -> bool:
    if node.op == "call_module":
        layer = network.layer(str(node.target))
        shared = isinstance(layer, nn.PReLU) and layer.num_parameters == 1
        return shared or isinstance(layer, PASSIVE)
    if node.op != "call_function" or not hasattr(node.target, "_schema"):
        return False
    name = FunctionCall(node).name
    return name in SCALING or name in MOVES or POOL.match(name) is not None
