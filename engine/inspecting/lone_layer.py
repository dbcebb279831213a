"""One layer as a network of its own."""

import torch
from torch import fx, nn

from featherweight.engine.network import Network
from featherweight.engine.weight_forms import CompactLayer

NAME = "layer"


def alone(layer: nn.Module, input_shape: tuple[int, ...]) -> Network:
    """Return a layer by the name `layer` as a network; its example is zeros, batch first.

    Of an `nn.Sequential` every part is a layer, by the names `layer.0`, `layer.1` …
    """
    module = nn.Module()
    module.add_module(NAME, layer)
    parts = {NAME: layer}
    if isinstance(layer, nn.Sequential):
        parts = {f"{NAME}.{position}": part for position, part in enumerate(layer)}
    graph = fx.Graph()
    value = graph.placeholder("x")
    for name in parts:
        value = graph.call_module(name, (value,))
    graph.output(value)
    first = settings_of(next(iter(parts.values())))
    kind = torch.int64 if isinstance(first, nn.Embedding) else torch.float32
    return Network(fx.GraphModule(module, graph), (torch.zeros(input_shape, dtype=kind),))


def settings_of(layer: nn.Module) -> nn.Module:
    """Return the layer that has the settings: of a compact layer the one that it runs like."""
    return layer.settings if isinstance(layer, CompactLayer) else layer
