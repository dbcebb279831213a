"""A call of a function in a graph, read by the names of its schema."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from featherweight.engine.inspecting.channel_ids import IdTensor

EMPTY: Mapping[Any, Any] = {}
Tracks = IdTensor | tuple[Any, ...] | None


def tracks_like(value: Any, make: Callable[[tuple[int, ...]], IdTensor]) -> Tracks:
    """Return ids for every tensor in a value, made from its shape, in the value's structure."""
    if isinstance(value, Tensor):
        return make(tuple(value.shape))
    if isinstance(value, list | tuple):
        return tuple(tracks_like(part, make) for part in value)
    return None


class FunctionCall:
    """One call of an aten function with its arguments by the names of its schema.

    `values` holds what every node gave in a run without numbers, `tracks` its ids.
    """

    def __init__(
        self,
        node: fx.Node,
        values: Mapping[fx.Node, Any] = EMPTY,
        tracks: Mapping[fx.Node, Tracks] = EMPTY,
    ) -> None:
        target: Any = node.target
        self.node = node
        self.name = str(target._schema.name).partition("::")[2]
        self.result = values.get(node)
        self._values, self._tracks = values, tracks
        self.arguments = {
            argument.name: argument.default_value for argument in target._schema.arguments
        }
        names = list(self.arguments)
        self.arguments.update(zip(names, node.args, strict=False))
        self.arguments.update(node.kwargs)
        self.pointwise = torch.Tag.pointwise in target.tags

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the one tensor that the call gives."""
        assert isinstance(self.result, Tensor)
        return tuple(self.result.shape)

    @property
    def words(self) -> str:
        """The operation's name as a person reads it."""
        return self.name.strip("_")

    def value(self, argument: str, default: Any = None) -> Any:
        """Return an argument; numbers that the graph computes are numbers."""
        given = self.arguments.get(argument, default)
        return fx.map_arg(given, self._values.__getitem__)

    def track(self, argument: str) -> IdTensor | None:
        """Return the ids of an argument that is a tensor, None where it is left out."""
        given = self.arguments.get(argument)
        track = self._tracks.get(given) if isinstance(given, fx.Node) else None
        return track if isinstance(track, IdTensor) else None

    def listed(self, argument: str) -> list[IdTensor]:
        """Return the ids of an argument that is a list of tensors."""
        tracks = [self._tracks.get(node) for node in self.arguments[argument]]
        return [track for track in tracks if isinstance(track, IdTensor)]

    def main(self) -> IdTensor:
        """Return the ids of the first argument, a tensor."""
        track = self.track(next(iter(self.arguments)))
        if track is None:
            raise LookupError(f"{self.name} has no tensor first")
        return track

    def tensors(self) -> list[IdTensor]:
        """Return the ids of all tensors among the arguments, in lists too."""
        tracks = [self._tracks.get(node) for node in self.node.all_input_nodes]
        return [track for track in tracks if isinstance(track, IdTensor)]

    def run_on_ids(self) -> Any:
        """Run the operation itself on an id for every element."""

        def ids_or_value(node: fx.Node) -> Any:
            track = self._tracks.get(node)
            return track.full if isinstance(track, IdTensor) else self._values[node]

        target: Any = self.node.target
        if self.name in {"view", "_unsafe_view"}:
            target = torch.ops.aten.reshape.default
        return target(
            *fx.map_arg(self.node.args, ids_or_value), **fx.map_arg(self.node.kwargs, ids_or_value)
        )

    def results(self, make: Callable[[tuple[int, ...]], IdTensor]) -> Tracks:
        """Return ids for every tensor that the call gives, made from its shape."""
        return tracks_like(self.result, make)
