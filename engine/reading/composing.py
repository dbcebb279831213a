"""Programs of PyTorch's core operators, with those of layers put together again.

Export for other runtimes, and tracing, leave `convolution`, `addmm` or `native_layer_norm` where
the network had a layer.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

aten = torch.ops.aten
CONVOLUTIONS = (aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)
TRANSPOSED = (
    aten.conv_transpose1d.default,
    aten.conv_transpose2d.input,
    aten.conv_transpose3d.input,
)
Made = tuple[Callable[..., Any], tuple[Any, ...]] | None


def compose(module: fx.GraphModule) -> None:
    """Put calls of layers in the place of the core operators that stand for them, in place."""
    graph = module.graph
    for node in list(graph.nodes):
        composer = _COMPOSERS.get(str(node.target)) if node.op == "call_function" else None
        made = composer(node) if composer else None
        if made is None:
            continue
        target, arguments = made
        with graph.inserting_before(node):
            call = graph.call_function(target, arguments)
        _take_over(node, call)
    graph.eliminate_dead_code()
    module.recompile()


def _take_over(node: fx.Node, call: fx.Node) -> None:
    """Let the users of a node, or of the first of its several results, use a call instead."""
    users = _read(node)
    if users and all(user.target is operator.getitem and user.args[1] == 0 for user in users):
        for user in users:
            user.replace_all_uses_with(call)
    else:
        node.replace_all_uses_with(call)


def _convolution(node: fx.Node) -> Made:
    given: Any = node.args[:9]
    x, weight, bias, stride, padding, dilation, transposed, output_padding, groups = given
    axes = len(padding) - 1
    if transposed:
        return TRANSPOSED[axes], (
            *(x, weight, bias, stride, padding, output_padding, groups, dilation),
        )
    return CONVOLUTIONS[axes], (x, weight, bias, stride, padding, dilation, groups)


def _product(node: fx.Node) -> Made:
    """Take a product with a turned matrix for a linear layer."""
    if node.kwargs:
        return None
    *bias, x, turned = node.args
    if not isinstance(turned, fx.Node) or not _is_turn(turned):
        return None
    return aten.linear.default, (x, turned.args[0], *bias)


def _is_turn(node: fx.Node) -> bool:
    return str(node.target) in ("aten.t.default", "aten.numpy_T.default") or (
        str(node.target) in ("aten.permute.default", "aten.transpose.int")
        and list(node.args[1:]) in ([[1, 0]], [0, 1], [1, 0])
    )


def _batch_norm(node: fx.Node) -> Made:
    x, weight, bias, mean, variance, momentum, epsilon = node.args[:7]
    fixed = (x, weight, bias, mean, variance, False, momentum, epsilon, False)
    return (aten.batch_norm.default, fixed) if _only_first(node) else None


def _layer_norm(node: fx.Node) -> Made:
    return (aten.layer_norm.default, node.args[:5]) if _only_first(node) else None


def _group_norm(node: fx.Node) -> Made:
    x, weight, bias, _, _, _, groups, epsilon = node.args[:8]
    arguments = (x, groups, weight, bias, epsilon)
    return (aten.group_norm.default, arguments) if _only_first(node) else None


def _only_first(node: fx.Node) -> bool:
    return all(user.target is operator.getitem and user.args[1] == 0 for user in _read(node))


def _read(node: fx.Node) -> list[fx.Node]:
    """Return the users of a node, without parts of it that nothing reads."""
    return [user for user in node.users if user.target is not operator.getitem or user.users]


_COMPOSERS: dict[str, Callable[[fx.Node], Made]] = {
    "aten.convolution.default": _convolution,
    "aten._convolution.default": _convolution,
    "aten._convolution.deprecated": _convolution,
    "aten.addmm.default": _product,
    "aten.mm.default": _product,
    "aten._native_batch_norm_legit_no_training.default": _batch_norm,
    "aten.native_layer_norm.default": _layer_norm,
    "aten.native_group_norm.default": _group_norm,
}
