"""Biases moved to the whole numbers that an ONNX file in 8-bit integers rounds them to."""

import torch
from torch import Tensor, fx, nn

from featherweight.engine.methods.precision.integer import IntegerForm
from featherweight.engine.network import Network
from featherweight.engine.rounded_layers import RoundedActivation
from featherweight.engine.weight_forms import CompactLayer
from featherweight.engine.writing.batch_norm_folding import NORMS, factor_and_shift, folded_scales


@torch.no_grad()
def align_biases(network: Network) -> None:
    """Make the bias of every layer that a file computes in integers a whole number, in place.

    A bias counts in products of a step of its row of weights and one of what flows in. The batch
    norm behind a layer takes the move up, for in the file it is a part of the layer. The network is
    settled and in eval mode. A bias that is held in few bits stays where it is.
    """
    for node in network.graph.find_nodes(op="call_module"):
        layer = network.layer(str(node.target))
        form = layer.held().get("weight") if isinstance(layer, CompactLayer) else None
        given = called_layer(network, node.args[0]) if node.args else None
        if not isinstance(form, IntegerForm) or not isinstance(given, RoundedActivation):
            continue
        if form.scales.ndim == 1 and isinstance(layer, CompactLayer):
            user = next(iter(node.users)) if len(node.users) == 1 else None
            _align(layer, form.scales.float(), given.scale, called_layer(network, user))


def called_layer(network: Network, node: object) -> nn.Module | None:
    """Return the layer that a node of the graph calls, None where it is something else."""
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return None
    return network.layer(str(node.target))


def _align(layer: CompactLayer, scales: Tensor, given: float, follower: nn.Module | None) -> None:
    bias = dict(layer.rest.items()).get("bias")
    if isinstance(follower, NORMS) and follower.running_var is not None:
        if follower.bias is None:
            return
        factor, shift = factor_and_shift(follower)
        whole = shift if bias is None else bias * factor + shift
        follower.bias.add_(_nearest(whole, folded_scales(scales, factor) * given) - whole)
    elif bias is not None:
        bias.copy_(_nearest(bias, scales * given))


def _nearest(values: Tensor, steps: Tensor) -> Tensor:
    return (values / steps).round() * steps
