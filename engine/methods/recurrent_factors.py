"""Recurrent layers seen as a matrix on their inputs, and with a narrow layer in front of them."""

from typing import Any

import torch
from torch import Tensor, nn

from featherweight.engine.graph_form import OPTIONS

Recurrent = nn.LSTM | nn.GRU | nn.RNN


def input_names(layer: Recurrent) -> list[str]:
    """Return the names of the weights that meet the layer's inputs, one for each direction."""
    return ["weight_ih_l0", *(["weight_ih_l0_reverse"] if layer.bidirectional else [])]


def input_matrix(layer: Recurrent) -> Tensor:
    """Return these weights as one matrix: the gates of all directions by the inputs."""
    return torch.cat([layer.get_parameter(name).detach() for name in input_names(layer)])


def narrowed(layer: Recurrent, rank: int) -> nn.Sequential:
    """Return a linear layer to `rank` channels and the same layer on them, on the meta device."""
    settings: dict[str, Any] = {name: getattr(layer, name) for name in OPTIONS[type(layer)]}
    with torch.device("meta"):
        first = nn.Linear(layer.input_size, rank, bias=False)
        chain = nn.Sequential(first, type(layer)(**{**settings, "input_size": rank}))
    return chain.to(layer.get_parameter("weight_ih_l0").dtype)


def assign_recurrent(made: Recurrent, left: Tensor, layer: Recurrent) -> None:
    """Give a narrowed layer its input weights, gates of all directions by rank; others are kept."""
    names = input_names(layer)
    own = dict(zip(names, left.chunk(len(names)), strict=True))
    for name, value in layer.named_parameters():
        given = own[name].to(value.dtype) if name in own else value.detach().clone()
        setattr(made, name, nn.Parameter(given.contiguous()))
