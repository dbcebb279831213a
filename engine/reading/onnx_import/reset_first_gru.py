"""ONNX GRU that resets its memory before the linear part: torch has no such layer."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from featherweight.engine.reading.onnx_import.layers import Layer, Operands, made
from featherweight.engine.reading.onnx_import.values import Call, Value, tensor

# The directions of a layer, each backwards or not.
BACKWARDS = {"reverse": (True,), "bidirectional": (False, True)}


class ResetFirstGru(nn.Module):
    """One direction of it, step by step, out of linear layers.

    Takes steps × batch × features; `weights` are ONNX's weight, recurrent weight and biases.
    """

    def __init__(self, weights: tuple[Any, Any, Any], backwards: bool) -> None:
        super().__init__()
        into, inside, bias = weights
        gates = 2 * inside.shape[1]
        self.backwards = backwards
        first, second = np.split(bias, 2)
        self.input = _linear(into, first)
        self.gates = _linear(inside[:gates], second[:gates])
        self.new = _linear(inside[gates:], second[gates:])

    def forward(self, data: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return the memory after every step, and after the last."""
        outputs: list[Tensor] = []
        width = memory.shape[1]
        for part in self.input(data.flip(0) if self.backwards else data).unbind(0):
            gates, fresh = part.split([2 * width, width], 1)
            update, reset = torch.sigmoid(gates + self.gates(memory)).split([width, width], 1)
            fresh = torch.tanh(fresh + self.new(reset * memory))
            memory = (1 - update) * fresh + update * memory
            outputs.append(memory)
        output = torch.stack(outputs)
        return output.flip(0) if self.backwards else output, memory


def reset_first(call: Call, operands: Operands, held: Tensor | None) -> Layer:
    """Return the layer of a node; its steps are as many as in the example.

    `held` is the initial state where the file holds one.
    """
    directions = operands.constant(1).shape[0]
    hidden = operands.constant(2).shape[2]
    zeros = np.zeros((directions, 6 * hidden), np.float32)
    biases = operands.constant(3) if operands.given(3) else zeros
    weights = zip(operands.constant(1), operands.constant(2), biases, strict=True)
    backwards = BACKWARDS.get(call.get("direction", "forward"), (False,))
    module = nn.Module()
    for at, (one, back) in enumerate(zip(weights, backwards, strict=True)):
        module.add_module(f"direction{at}", ResetFirstGru(one, back))
    swapped = bool(call.get("layout", 0))

    def apply(module: nn.Module, value: Value, *inputs: Value) -> tuple[Value, ...]:
        data = tensor(value).transpose(0, 1) if swapped else tensor(value)
        given = inputs[4] if len(inputs) > 4 and held is None else held
        if given is None:
            state = data.new_zeros((directions, data.shape[1], hidden))
        else:
            state = tensor(given).transpose(0, 1) if swapped else tensor(given)
            state = state.expand(-1, data.shape[1], -1)
        pairs = [inner(data, state[at]) for at, inner in enumerate(module.children())]
        output = torch.stack([pair[0] for pair in pairs], 1)
        memory = torch.stack([pair[1] for pair in pairs])
        if swapped:
            return output.permute(2, 0, 1, 3), memory.transpose(0, 1)
        return output, memory

    return Layer(module, apply)


def _linear(weight: Any, bias: Any) -> nn.Module:
    tensors = {"weight": weight, "bias": bias}
    held = {name: nn.Parameter(torch.tensor(array)) for name, array in tensors.items()}
    return made(nn.Linear, held, in_features=weight.shape[1], out_features=weight.shape[0])
