"""Sizes that a graph computes, written so that torch's older ONNX exporter follows them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

# What torch.export writes for an end that is left out.
LAST = 2**63 - 1
SIZE = "aten.sym_size.int"
METHODS = {
    SIZE: "size",
    "aten.view.default": "reshape",
    "aten._unsafe_view.default": "reshape",
    "aten.reshape.default": "reshape",
    "aten.expand.default": "expand",
}
FILLED = {
    "aten.zeros.default": torch.zeros,
    "aten.ones.default": torch.ones,
    "aten.full.default": torch.full,
}


def follow_sizes(module: fx.GraphModule) -> None:
    """Let a trace of the graph see its computed sizes; the graph changes in place.

    Operators of `torch.ops` take sizes as plain numbers, so a trace of them would fix the batch at
    that of the example. Methods and functions of torch take what a trace knows to be a size.
    """
    for node in module.graph.nodes:
        target = str(node.target)
        if target != SIZE and not _has_computed_size(node):
            continue
        if target in METHODS:
            node.op, node.target, node.kwargs = "call_method", METHODS[target], {}
        elif target in CALLS:
            node.target = CALLS[target]
            node.kwargs = {name: node.kwargs[name] for name in ("dtype",) if name in node.kwargs}
        elif target in FILLED:
            node.target = FILLED[target]
            node.kwargs = {name: node.kwargs[name] for name in ("dtype",) if name in node.kwargs}
    module.recompile()


def _has_computed_size(node: fx.Node) -> bool:
    sizes = [argument for argument in node.args if isinstance(argument, list | tuple)]
    if str(node.target) in CALLS:
        sizes.append(node.args[CALLED_FROM[str(node.target)] :])
    return any(isinstance(size, fx.Node) for listed in sizes for size in listed)


def _cut(
    x: Tensor, dimension: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Tensor:
    """Slice one dimension as Python does: the operator of torch takes plain numbers only."""
    ends = None if isinstance(end, int) and end == LAST else end
    whole = (slice(None),) * (dimension % x.ndim)
    result: Tensor = x[(*whole, slice(start, ends, step))]
    return result


CALLS: dict[str, Callable[..., Tensor]] = {
    "aten.slice.Tensor": _cut,
    "aten.arange.default": torch.arange,
    "aten.arange.start": torch.arange,
    "aten.arange.start_step": torch.arange,
}
# Where the sizes among their arguments start.
CALLED_FROM = {name: int(call is _cut) for name, call in CALLS.items()}
