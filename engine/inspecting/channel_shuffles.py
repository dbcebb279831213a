"""Channels put in another order: by reshapes around a transpose, or picked by a constant index.

Reshapes would let channels go only in equal numbers from each group. Written as one selection by
index, a shuffle lets every channel go on its own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import fx

from featherweight.engine.inspecting.channel_calls import FunctionCall, Tracks
from featherweight.engine.inspecting.channel_ids import IdTensor, IntArray
from featherweight.engine.inspecting.channel_layers import LayerFlow

CHAIN = frozenset(
    {"view", "_unsafe_view", "reshape", "flatten", "unflatten", "transpose", "permute"}
    | {"swapaxes", "movedim", "clone", "contiguous", "channel_shuffle", "native_channel_shuffle"}
)
ALONE = frozenset({"channel_shuffle", "native_channel_shuffle"})


@dataclass(frozen=True)
class Shuffle:
    """A node `end` that holds the channels of a node `start` in another order.

    Along `dimension` its channel number i is channel number `order[i]` of `start`. `inner` are the
    nodes between the two, which nobody else uses.
    """

    start: str
    end: str
    dimension: int
    order: IntArray
    inner: tuple[str, ...] = ()


def find_shuffles(
    flow: LayerFlow, values: Mapping[fx.Node, Any], tracks: Mapping[fx.Node, Tracks]
) -> Iterator[Shuffle]:
    """Give every chain of reshapes that does no more than put channels in another order."""
    for end, track in tracks.items():
        if _name(end) not in CHAIN or not isinstance(track, IdTensor):
            continue
        varying = flow.free(track).varying()
        chain = _chain_to(end, flow, tracks) if len(varying) == 1 else []
        if chain:
            order = _order(chain, varying[0], values, track)
            if order is not None:
                inner = tuple(node.name for node in chain[1:-1])
                yield Shuffle(chain[0].name, end.name, varying[0], order, inner)


def _chain_to(end: fx.Node, flow: LayerFlow, tracks: Mapping[fx.Node, Tracks]) -> list[fx.Node]:
    """Return the nodes from the tensor that is shuffled to the one that is its shuffle, or none."""
    goal = tracks[end]
    assert isinstance(goal, IdTensor)
    chain, split = [end], _name(end) in ALONE
    while _name(chain[0]) in CHAIN:
        source = chain[0].args[0]
        track = tracks.get(source) if isinstance(source, fx.Node) else None
        if not isinstance(source, fx.Node) or not isinstance(track, IdTensor):
            return []
        varying = flow.free(track).varying()
        chain.insert(0, source)
        if split and track.shape == goal.shape and varying == flow.free(goal).varying():
            return chain
        split = split or len(varying) > 1 or _name(source) in ALONE
        if len(source.users) > 1:
            return []
    return []


def _order(
    chain: list[fx.Node], dimension: int, values: Mapping[fx.Node, Any], goal: IdTensor
) -> IntArray | None:
    """Return the order in which channels come out, None where the chain does something else."""
    length = goal.shape[dimension]
    moved: dict[fx.Node, Tracks] = {
        chain[0]: IdTensor.along(dimension, np.arange(length, dtype=np.int64), goal.shape)
    }
    for node in chain[1:]:
        moved[node] = IdTensor.compact(FunctionCall(node, values, moved).run_on_ids())
    last = moved[chain[-1]]
    assert isinstance(last, IdTensor)
    if last.varying() != (dimension,):
        return None
    return last.vector(dimension)


def _name(node: fx.Node) -> str:
    schema = getattr(node.target, "_schema", None)
    return str(schema.name).partition("::")[2] if schema else ""
