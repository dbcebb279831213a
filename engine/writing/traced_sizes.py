"""Sizes that a graph computes, written so that torch's older ONNX exporter follows them."""

import torch
from torch import fx

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
        elif target in FILLED:
            node.target = FILLED[target]
            node.kwargs = {name: node.kwargs[name] for name in ("dtype",) if name in node.kwargs}
    module.recompile()


def _has_computed_size(node: fx.Node) -> bool:
    sizes = [argument for argument in node.args if isinstance(argument, list | tuple)]
    return any(isinstance(size, fx.Node) for listed in sizes for size in listed)
