"""Batch norm folded into the layer before it, exactly also where that layer holds integers."""

from typing import Any

import torch
from torch import Tensor, fx, nn

from featherweight.engine.copying_layers import CopiedChannels
from featherweight.engine.methods.precision.integer import IntegerForm
from featherweight.engine.network import Network
from featherweight.engine.weight_forms import CompactLayer, FloatForm

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
FOLDING = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@torch.no_grad()
def folded(network: Network) -> Network:
    """Return a copy in eval mode in which batch norms behind integer layers are part of them.

    The factor of a channel goes to its scale and its sign to the integers, so the integers stay
    integers. Copied channels take up the factor in their own. Layers that hold nothing but floats
    become plain layers; their batch norms are left to the exporter, and those behind shared values,
    which have no factor of their own, stay.
    """
    made = network.copy()
    made.module.eval()
    for name, layer in list(made.module.named_modules()):
        if isinstance(layer, CompactLayer):
            layer.with_float_biases()
            if _only_floats(layer):
                made.replace(name, layer.plain())
    if isinstance(made.module, fx.GraphModule):
        ranks = _Ranks(made.module)
        ranks.run(*made.example)
        for node in list(made.graph.nodes):
            _fold(made, node, ranks.found.get(node, 0))
        made.graph.lint()
        made.module.recompile()
    return made


class _Ranks(fx.Interpreter):
    """A run that notes how many dimensions the tensor has that a node gives."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: dict[fx.Node, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.found[n] = result.ndim
        return result


def _only_floats(layer: CompactLayer) -> bool:
    return all(isinstance(form, FloatForm) for form in layer.forms.values())


def _fold(network: Network, node: fx.Node, rank: int) -> None:
    layer = _called(network, node)
    user = next(iter(node.users)) if len(node.users) == 1 else None
    norm = _called(network, user) if user else None
    if user is None or layer is None or not isinstance(norm, NORMS):
        return
    if norm.running_mean is None or norm.running_var is None or not _in_step(layer, rank):
        return
    factor, shift = factor_and_shift(norm)
    made = _with_norm(layer, factor, shift)
    if made is None:
        return
    network.replace(str(node.target), made)
    user.replace_all_uses_with(node)
    network.graph.erase_node(user)


def _in_step(layer: nn.Module, rank: int) -> bool:
    """Say whether the channels of a norm, dimension 1, are the layer's: of tokens they are last."""
    plain = layer.settings if isinstance(layer, CompactLayer) else layer
    last = isinstance(plain, nn.Linear) or (isinstance(plain, CopiedChannels) and not plain.spatial)
    return rank == 2 or not last


def _with_norm(layer: nn.Module, factor: Tensor, shift: Tensor) -> nn.Module | None:
    """Return the layer with a factor and a shift of its outputs; None where it takes none up."""
    if isinstance(layer, CopiedChannels):
        layer.scales = nn.Parameter(layer.scales * factor)
        bias = torch.zeros_like(shift) if layer.bias is None else layer.bias
        layer.bias = nn.Parameter(bias * factor + shift)
        return layer
    form = dict(layer.forms.items()).get("weight") if isinstance(layer, CompactLayer) else None
    if not isinstance(layer, CompactLayer) or not isinstance(form, IntegerForm):
        return None
    if not isinstance(layer.settings, FOLDING):
        return None
    bias = layer.rest["bias"] if "bias" in layer.rest else torch.zeros_like(shift)
    plain = layer.plain()
    plain.register_parameter("bias", nn.Parameter(bias * factor + shift))
    return CompactLayer(plain, {"weight": _scaled(form, factor)})


def _called(network: Network, node: fx.Node) -> nn.Module | None:
    """Return the layer that a node calls and no other node does."""
    if node.op != "call_module":
        return None
    calls = [other for other in network.graph.nodes if other.target == node.target]
    return network.layer(str(node.target)) if len(calls) == 1 else None


def factor_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return what a batch norm with statistics multiplies channels by in eval mode, and adds."""
    assert isinstance(norm, NORMS)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        factor = factor * norm.weight
    shift = -norm.running_mean * factor
    return factor, shift if norm.bias is None else shift + norm.bias


def _scaled(form: IntegerForm, factor: Tensor) -> IntegerForm:
    rows = (-1, *(1 for _ in form.shape[1:]))
    levels = form.levels() * factor.sign().to(torch.int8).reshape(rows)
    return IntegerForm(levels, folded_scales(form.scales, factor), form.bits)


def folded_scales(scales: Tensor, factor: Tensor) -> Tensor:
    """Return the scales of integers that take up the factor of each row."""
    made = scales * factor.abs()
    # A scale of zero divides nothing; its integers are all zero by the sign of the factor.
    return torch.where(made > 0, made, 1.0)
