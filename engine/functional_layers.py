"""Layers run on weights that are given from outside instead of their own parameters."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from featherweight.engine.held_weights import HeldWeights
from featherweight.engine.structured_layers import StructuredLayer


def runs(layer: nn.Module) -> bool:
    """Say whether a layer can be run on given weights."""
    return isinstance(layer, tuple(_RUNS))


def is_usual(layer: nn.Module) -> bool:
    """Say whether a layer computes as its kind in torch, or here, does, without hooks on it."""
    code = [type(layer).forward, getattr(type(layer), "_conv_forward", nn.Linear.forward)]
    hooked = layer._forward_hooks or layer._forward_pre_hooks or "forward" in layer.__dict__
    known = ("torch.nn.modules.", "featherweight.engine.")
    return not hooked and all(part.__module__.startswith(known) for part in code)


def run(layer: nn.Module, weights: dict[str, Tensor], inputs: tuple[Any, ...]) -> Any:
    """Run a layer's settings on weights by the layer's own names of them.

    Raises TypeError for a layer that `runs` refuses.
    """
    for kind, function in _RUNS.items():
        if isinstance(layer, kind):
            return function(layer, weights, *inputs)
    raise TypeError(f"{type(layer).__name__} cannot hold its weights in another form")


def without_tensors(layer: nn.Module) -> nn.Module:
    """Return a layer of the same settings that has no parameters and no buffers."""
    empty: nn.Module = object.__new__(type(layer))
    empty.__dict__.update(layer.__dict__)
    empty._parameters = dict.fromkeys(layer._parameters)
    empty._buffers = dict.fromkeys(layer._buffers)
    if isinstance(empty, nn.RNNBase):
        empty._flat_weights = [None] * len(empty._flat_weights_names)
        empty._flat_weight_refs = [None] * len(empty._flat_weights_names)
    return empty


def _linear(_: Any, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    return functional.linear(x, weights["weight"], weights.get("bias"))


def _convolution(layer: Any, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    result: Tensor = layer._conv_forward(x, weights["weight"], weights.get("bias"))
    return result


def _transposed(layer: Any, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    functions = (
        functional.conv_transpose1d,
        functional.conv_transpose2d,
        functional.conv_transpose3d,
    )
    result: Tensor = functions[len(layer.kernel_size) - 1](
        x,
        weights["weight"],
        weights.get("bias"),
        layer.stride,
        layer.padding,
        layer.output_padding,
        layer.groups,
        layer.dilation,
    )
    return result


def _embedding(layer: Any, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    return functional.embedding(x, weights["weight"], layer.padding_idx)


def _held(layer: Any, _: dict[str, Tensor], *inputs: Any) -> Any:
    return layer(*inputs)


def _structured(layer: Any, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    result: Tensor = layer.computed(weights, x)
    return result


def _recurrent(layer: Any, weights: dict[str, Tensor], x: Tensor, state: Any = None) -> Any:
    flat = [weights[name] for names in layer._all_weights for name in names]
    if state is None:
        stacked = layer.num_layers * (2 if layer.bidirectional else 1)
        batch = x.shape[0 if layer.batch_first else 1]
        state = x.new_zeros(stacked, batch, layer.proj_size or layer.hidden_size)
        if layer.mode == "LSTM":
            state = (state, x.new_zeros(stacked, batch, layer.hidden_size))
    settings = (
        layer.bias,
        layer.num_layers,
        layer.dropout,
        layer.training,
        layer.bidirectional,
        layer.batch_first,
    )
    if layer.mode == "LSTM":
        output, *memory = torch.lstm(x, state, flat, *settings)
        return output, tuple(memory)
    functions = {"GRU": torch.gru, "RNN_TANH": torch.rnn_tanh, "RNN_RELU": torch.rnn_relu}
    return functions[layer.mode](x, state, flat, *settings)


_RUNS: dict[type[nn.Module], Callable[..., Any]] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Conv3d: _convolution,
    nn.ConvTranspose1d: _transposed,
    nn.ConvTranspose2d: _transposed,
    nn.ConvTranspose3d: _transposed,
    nn.Embedding: _embedding,
    nn.RNNBase: _recurrent,
    StructuredLayer: _structured,
    HeldWeights: _held,
}
