"""What a layer holds: its tensors, its count of parameters, and its settings in a few words."""

import math
from collections.abc import Iterator
from typing import Any

from torch import nn

from featherweight.engine.network import Network
from featherweight.engine.structured_convolutions import StructuredConvolution
from featherweight.engine.structured_layers import StructuredLayer
from featherweight.engine.weight_forms import CompactLayer, WeightForm


def weights_of(layer: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter of a layer by the layer's own name for it.

    A tensor held in another form counts as the tensor that it stands for.
    """
    if isinstance(layer, CompactLayer):
        rest = {name: tuple(value.shape) for name, value in layer.rest.items()}
        return {name: form.shape for name, form in _forms(layer)} | rest
    return {name: tuple(value.shape) for name, value in layer.named_parameters()}


def held_bits(layer: nn.Module) -> int:
    """Return the bits of all tensors of a layer as it holds them, buffers included."""
    tensors = (*layer.parameters(), *layer.buffers())
    return sum(tensor.numel() * tensor.element_size() * 8 for tensor in tensors)


def _forms(layer: CompactLayer) -> Iterator[tuple[str, WeightForm]]:
    return ((name, form) for name, form in layer.forms.items() if isinstance(form, WeightForm))


def count(shapes: dict[str, tuple[int, ...]]) -> int:
    """Return how many numbers tensors of these shapes hold."""
    return sum(math.prod(shape) for shape in shapes.values())


def total_parameters(module: nn.Module) -> int:
    """Return the parameters of a whole network; a tensor that several layers share counts once."""
    forms = [part for part in module.modules() if isinstance(part, WeightForm)]
    inside = {id(parameter) for form in forms for parameter in form.parameters()}
    plain = [parameter for parameter in module.parameters() if id(parameter) not in inside]
    return sum(math.prod(form.shape) for form in forms) + sum(p.numel() for p in plain)


def loose_parameters(network: Network) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return shapes of the parameters that no layer holds, by the dotted name of their owner."""
    layers = tuple(f"{name}." for name, _ in network.layers())
    loose: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, parameter in network.module.named_parameters():
        if not name.startswith(layers):
            owner, _, leaf = name.rpartition(".")
            loose.setdefault(owner, {})[leaf] = tuple(parameter.shape)
    return loose


def kind_of(layer: nn.Module) -> str:
    """Return the name of the layer's class, as it is or as it runs."""
    return (layer.inner_type if isinstance(layer, CompactLayer) else type(layer)).__name__


def describe_layer(layer: nn.Module) -> str:
    """Return the settings of a layer in a few words, such as `3×3, 64 → 128, stride 2`."""
    plain: Any = layer.settings if isinstance(layer, CompactLayer) else layer
    if isinstance(plain, nn.modules.conv._ConvNd | StructuredConvolution):
        return _convolution(plain)
    if isinstance(plain, nn.Linear | StructuredLayer):
        return f"{plain.in_features} → {plain.out_features}"
    if isinstance(plain, nn.Embedding):
        return f"{plain.num_embeddings} × {plain.embedding_dim}"
    if isinstance(plain, nn.RNNBase):
        words = [f"{plain.input_size} → {plain.hidden_size}"]
        words += [f"{plain.num_layers} layers"] if plain.num_layers > 1 else []
        words += ["both directions"] if plain.bidirectional else []
        return ", ".join(words)
    if isinstance(plain, nn.modules.batchnorm._NormBase):
        return f"{plain.num_features} channels"
    if isinstance(plain, nn.GroupNorm):
        return f"{plain.num_channels} channels in {plain.num_groups} groups"
    if isinstance(plain, nn.LayerNorm):
        return " × ".join(map(str, plain.normalized_shape))
    return ""


def _convolution(layer: nn.modules.conv._ConvNd | StructuredConvolution) -> str:
    words = ["×".join(map(str, layer.kernel_size)), f"{layer.in_channels} → {layer.out_channels}"]
    for name, value, usual in (("stride", layer.stride, 1), ("dilation", layer.dilation, 1)):
        if any(part != usual for part in value):
            same = len(set(value)) == 1
            words.append(f"{name} {value[0] if same else '×'.join(map(str, value))}")
    if layer.groups > 1:
        depthwise = layer.groups == layer.in_channels
        words.append("depthwise" if depthwise else f"{layer.groups} groups")
    return ", ".join(words)
