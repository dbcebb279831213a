"""Channels cut out of a network: weights are sliced, and sizes written into its graph follow."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from featherweight.engine.inspecting.channel_calls import FunctionCall
from featherweight.engine.inspecting.channel_flow import FILLED, tensor_at
from featherweight.engine.inspecting.channel_layers import BatchNorm, Convolution, Transposed
from featherweight.engine.inspecting.channel_shuffles import Shuffle
from featherweight.engine.inspecting.coupling import Axis
from featherweight.engine.inspecting.removal import BoolArray, LayerShape, Plan
from featherweight.engine.network import Network


def remove_channels(network: Network, plan: Plan) -> None:
    """Remove a plan's channels from a network in place; its layers become really smaller ones.

    `network` is the one that was analysed, or an unchanged copy of it, on any device. Tensors that
    layers share stay shared. Parameters become new ones, so optimizers must be made afterwards.
    """
    _slice_tensors(network.module, plan)
    for name, shape in plan.shapes.items():
        _resize(network.layer(name), shape)
    assert isinstance(network.module, fx.GraphModule)
    _Rewriter(network.graph, plan).rewrite()
    nodes = {node.name: node for node in network.graph.nodes}
    for shuffle in plan.coupling.shuffles:
        _select_by_index(network.module, nodes, plan, shuffle)
    network.module.graph.eliminate_dead_code()
    network.module.recompile()


def _slice_tensors(module: nn.Module, plan: Plan) -> None:
    sliced: dict[int, Tensor] = {}
    for name, axes in plan.coupling.weights.items():
        value = tensor_at(module, name)
        if id(value) not in sliced:
            small = value.detach()
            for axis in axes:
                kept = torch.from_numpy(np.flatnonzero(plan.stays(axis.atoms)))
                small = small.index_select(axis.dimension, kept.to(value.device))
            changed = small.shape != value.shape
            sliced[id(value)] = _like(value, small) if changed else value
        owner, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(owner), leaf, sliced[id(value)])


def _like(value: Tensor, small: Tensor) -> Tensor:
    small = small.contiguous()
    return nn.Parameter(small, value.requires_grad) if isinstance(value, nn.Parameter) else small


def _resize(layer: nn.Module, shape: LayerShape) -> None:
    if isinstance(layer, Convolution | Transposed):
        layer.in_channels, layer.out_channels = shape.inputs, shape.outputs
        layer.groups = shape.groups
    elif isinstance(layer, nn.Linear):
        layer.in_features, layer.out_features = shape.inputs, shape.outputs
    elif isinstance(layer, nn.Embedding):
        layer.embedding_dim = shape.outputs
    elif isinstance(layer, BatchNorm):
        layer.num_features = shape.outputs
    elif isinstance(layer, nn.GroupNorm):
        layer.num_channels, layer.num_groups = shape.outputs, shape.groups
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = shape.outputs
    elif isinstance(layer, nn.RNNBase):
        layer.input_size, layer.hidden_size = shape.inputs, shape.outputs


def _select_by_index(
    module: fx.GraphModule, nodes: dict[str, fx.Node], plan: Plan, shuffle: Shuffle
) -> None:
    """Put one selection of the channels left in the place of a shuffle that loses some.

    `nodes` are by the names that they had before; the selection takes its shuffle's place in it.
    """
    axis = plan.coupling.activations.get((shuffle.start, 0))
    if axis is None or axis.dimension != shuffle.dimension:
        return
    stays = plan.stays(axis.atoms)
    if stays.all():
        return
    order = (np.cumsum(stays) - 1)[shuffle.order[stays[shuffle.order]]]
    start, end = nodes[shuffle.start], nodes[shuffle.end]
    name = _free_name(module, f"{shuffle.end}_order")
    device = next(module.parameters()).device
    module.register_buffer(name, torch.from_numpy(order).to(device))
    with module.graph.inserting_before(end):
        index = module.graph.get_attr(name)
        select = torch.ops.aten.index_select.default
        made = module.graph.call_function(select, (start, shuffle.dimension, index))
    made.meta.update(end.meta)
    nodes[shuffle.end] = made
    end.replace_all_uses_with(made)
    unused = [node for node in end.all_input_nodes if node.op == "get_attr"]
    module.graph.erase_node(end)
    for node in unused:
        if not node.users:
            module.graph.erase_node(node)
            delattr(module, str(node.target))


def _free_name(module: nn.Module, name: str) -> str:
    while hasattr(module, name):
        name += "_"
    return name


class _Rewriter:
    """Rewrites the constants of a graph that say how many channels there are, or where."""

    def __init__(self, graph: fx.Graph, plan: Plan) -> None:
        self.graph = graph
        self.plan = plan
        self._rules: dict[str, Callable[[FunctionCall], None]] = {
            **dict.fromkeys(("view", "_unsafe_view", "reshape"), self._resize_result),
            **dict.fromkeys(("expand", "broadcast_to"), self._resize_result),
            **dict.fromkeys(("split", "split_with_sizes", "chunk"), self._resize_parts),
            **dict.fromkeys(FILLED, self._resize_filled),
            **dict.fromkeys(("constant_pad_nd", "pad"), self._resize_padding),
            "narrow": self._move_narrow,
            "scaled_dot_product_attention": self._keep_scale,
            "select": self._move_index,
            "slice": self._move_bounds,
            "squeeze": self._squeeze_the_same,
            "unflatten": self._resize_unflattened,
        }

    def rewrite(self) -> None:
        """Go over all calls of functions."""
        for node in self.graph.nodes:
            if node.op == "call_function" and hasattr(node.target, "_schema"):
                call = FunctionCall(node)
                if call.name in self._rules:
                    self._rules[call.name](call)

    def _axis(self, node: Any) -> Axis | None:
        """Return the axis of a node's channels where some of them go, else None."""
        found = self.plan.coupling.activations.get((node.name, 0))
        return None if found is None or self.plan.stays(found.atoms).all() else found

    def _cut(self, call: FunctionCall) -> BoolArray | None:
        """Say what stays along the dimension that a call cuts, None where all does."""
        axis = self._axis(call.node.args[0])
        if axis is None or int(call.arguments["dim"]) % len(axis.shape) != axis.dimension:
            return None
        return self.plan.stays(axis.atoms)

    def _resize_result(self, call: FunctionCall) -> None:
        axis = self._axis(call.node)
        sizes = call.node.args[1]
        if axis and isinstance(sizes, list | tuple):
            call.node.update_arg(1, self._resized(sizes, axis, axis.dimension))

    def _resize_filled(self, call: FunctionCall) -> None:
        axis = self._axis(call.node)
        if axis:
            _set(call, "size", self._resized(call.arguments["size"], axis, axis.dimension))

    def _resize_padding(self, call: FunctionCall) -> None:
        axis = self._axis(call.node)
        pads = list(call.arguments["pad"])
        position = 2 * (len(axis.shape) - 1 - axis.dimension) if axis else len(pads)
        if axis and position < len(pads):
            stays = self.plan.stays(axis.atoms)
            before, after = pads[position : position + 2]
            kept = stays[:before].sum(), stays[len(stays) - after :].sum()
            pads[position : position + 2] = map(int, kept)
            _set(call, "pad", pads)

    def _resize_unflattened(self, call: FunctionCall) -> None:
        axis = self._axis(call.node)
        if axis is None:
            return
        sizes = call.arguments["sizes"]
        first = int(call.arguments["dim"]) % (len(axis.shape) - len(sizes) + 1)
        if first <= axis.dimension < first + len(sizes):
            _set(call, "sizes", self._resized(sizes, axis, axis.dimension - first))

    def _resized(self, sizes: Any, axis: Axis, position: int) -> list[Any]:
        changed = list(sizes)
        if changed[position] != -1:
            changed[position] = int(self.plan.stays(axis.atoms).sum())
        return changed

    def _resize_parts(self, call: FunctionCall) -> None:
        stays = self._cut(call)
        if stays is None:
            return
        bounds = np.cumsum([0, *_part_sizes(call, len(stays))])
        sizes = [int(stays[low:high].sum()) for low, high in pairwise(bounds)]
        call.node.target = torch.ops.aten.split_with_sizes.default
        call.node.args = (call.node.args[0], sizes, call.arguments["dim"])
        call.node.kwargs = {}

    def _move_bounds(self, call: FunctionCall) -> None:
        stays = self._cut(call)
        if stays is None:
            return
        for name in ("start", "end"):
            bound = call.arguments[name]
            if bound is not None and bound < len(stays):
                _set(call, name, int(stays[:bound].sum()))

    def _move_narrow(self, call: FunctionCall) -> None:
        stays = self._cut(call)
        if stays is None:
            return
        start = int(call.arguments["start"]) % len(stays)
        kept = stays[start : start + call.arguments["length"]]
        _set(call, "start", int(stays[:start].sum()))
        _set(call, "length", int(kept.sum()))

    def _move_index(self, call: FunctionCall) -> None:
        stays = self._cut(call)
        if stays is not None:
            index = int(call.arguments["index"]) % len(stays)
            _set(call, "index", int(stays[:index].sum()))

    def _keep_scale(self, call: FunctionCall) -> None:
        """Write out the scale that attention takes from the width, which is about to change."""
        axis = self._axis(call.node.args[0])
        along_width = axis is not None and axis.dimension == len(axis.shape) - 1
        if axis and along_width and call.arguments["scale"] is None:
            _set(call, "scale", len(axis.atoms) ** -0.5)

    def _squeeze_the_same(self, call: FunctionCall) -> None:
        """Keep channels from being squeezed away where a single one is left."""
        axis = self._axis(call.node.args[0])
        if axis and "dim" not in call.arguments:
            ones = [dimension for dimension, size in enumerate(axis.shape) if size == 1]
            call.node.target = torch.ops.aten.squeeze.dims
            call.node.args = (call.node.args[0], ones)


def _part_sizes(call: FunctionCall, length: int) -> list[int]:
    given = call.arguments
    if call.name == "chunk":
        size = -(-length // int(given["chunks"]))
    elif isinstance(given.get("split_size"), int):
        size = int(given["split_size"])
    else:
        sizes: Any = given.get("split_sizes", given.get("split_size"))
        return list(sizes)
    return [min(size, length - start) for start in range(0, length, size)]


def _set(call: FunctionCall, name: str, value: Any) -> None:
    node, position = call.node, list(call.arguments).index(name)
    if position < len(node.args):
        node.update_arg(position, value)
    else:
        node.update_kwarg(name, value)
