"""ONNX LSTM, GRU and RNN as real nn layers."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from featherweight.engine.reading.onnx_import.layers import Layer, Operands, layer, made
from featherweight.engine.reading.onnx_import.reset_first_gru import reset_first
from featherweight.engine.reading.onnx_import.values import (
    Call,
    UnsupportedError,
    Value,
    is_host,
    tensor,
)

KINDS: dict[str, type[nn.Module]] = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
# Where torch's gates stand among those of ONNX: input, forget, cell, output; reset, update, new.
GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
PLAIN = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}
WEIGHTS, STATES = (1, 2, 3), (5, 6)
LENGTHS, PEEPHOLES = 4, 7


@layer("LSTM", "GRU", "RNN")
def _recurrent(call: Call, operands: Operands) -> Layer | None:
    _check(call, operands)
    if call.op == "GRU" and not call.get("linear_before_reset", 0):
        return reset_first(call, operands, constant_states(operands).get(STATES[0]))
    directions, _, width = operands.constant(1).shape
    hidden = operands.constant(2).shape[2]
    options: dict[str, Any] = {
        "input_size": width,
        "hidden_size": hidden,
        "bias": operands.given(3),
        "bidirectional": directions == 2,
    }
    if call.op == "RNN":
        options["nonlinearity"] = _functions(call)[0]
    tensors: dict[str, Any] = {}
    for direction in range(directions):
        tensors |= _tensors(call.op, operands, direction, hidden)
    module = made(KINDS[call.op], tensors, **options)
    states = [at for at in STATES if operands.given(at) and not _is_zero(operands, at)]
    backwards = call.get("direction", "forward") == "reverse"
    swapped = bool(call.get("layout", 0))
    held = constant_states(operands)

    def apply(module: nn.Module, value: Value, *inputs: Value) -> tuple[Value, ...]:
        data = tensor(value).transpose(0, 1) if swapped else tensor(value)
        data = data.flip(0) if backwards else data
        given = [held[at] if at in held else tensor(inputs[at - 1]) for at in states]
        given = [one.transpose(0, 1) for one in given] if swapped else given
        given = [one.expand(-1, data.shape[1], -1) for one in given]
        state: Any = None if not given else given[0] if len(given) == 1 else tuple(given)
        output, memory = module(data, state) if state is not None else module(data)
        output = _by_direction(output.flip(0) if backwards else output, directions)
        memories = memory if isinstance(memory, tuple) else (memory,)
        if swapped:
            return output.permute(2, 0, 1, 3), *(one.transpose(0, 1) for one in memories)
        return output, *memories

    return Layer(module, apply)


def constant_states(operands: Operands) -> dict[int, Tensor]:
    """Return the initial states that the file holds, by their place among the inputs."""
    known = [at for at in STATES if operands.given(at) and operands.known(at)]
    return {at: torch.tensor(operands.constant(at)) for at in known}


def _check(call: Call, operands: Operands) -> None:
    if not operands.known(*WEIGHTS):
        raise UnsupportedError("weights are computed, not constants")
    if operands.given(PEEPHOLES) or call.get("clip"):
        raise UnsupportedError("peepholes or clipping are not read")
    steps = operands.example().shape[1 if call.get("layout", 0) else 0]
    lengths = operands.values[LENGTHS] if operands.given(LENGTHS) else None
    if isinstance(lengths, Tensor) or (lengths is not None and np.any(lengths != steps)):
        raise UnsupportedError("sequences of several lengths are not read")
    functions = _functions(call)
    expected = PLAIN[call.op]
    plain = functions[: len(expected)] == expected or (call.op == "RNN" and functions[0] == "relu")
    if not plain or call.get("input_forget", 0):
        raise UnsupportedError("activations have no layer in torch")
    if call.op == "LSTM" and operands.given(5) != operands.given(6):
        raise UnsupportedError("one of two initial states is missing")


def _functions(call: Call) -> tuple[str, ...]:
    return tuple(name.lower() for name in call.get("activations") or PLAIN[call.op])


def _tensors(op: str, operands: Operands, direction: int, hidden: int) -> dict[str, nn.Parameter]:
    suffix = "l0_reverse" if direction else "l0"
    gates = GATES[op]

    def ordered(array: Any) -> nn.Parameter:
        blocks = np.split(array, len(gates))
        return nn.Parameter(torch.tensor(np.concatenate([blocks[gate] for gate in gates])))

    made_ones = {
        f"weight_ih_{suffix}": ordered(operands.constant(1)[direction]),
        f"weight_hh_{suffix}": ordered(operands.constant(2)[direction]),
    }
    if operands.given(3):
        both = operands.constant(3)[direction]
        made_ones[f"bias_ih_{suffix}"] = ordered(both[: len(gates) * hidden])
        made_ones[f"bias_hh_{suffix}"] = ordered(both[len(gates) * hidden :])
    return made_ones


def _is_zero(operands: Operands, position: int) -> bool:
    value = operands.values[position]
    return is_host(value) and not np.any(value)


def _by_direction(output: Tensor, directions: int) -> Tensor:
    """Turn steps × batch × (directions · hidden) into steps × directions × batch × hidden."""
    steps, batch, width = output.shape
    return output.reshape(steps, batch, directions, width // directions).transpose(1, 2)
