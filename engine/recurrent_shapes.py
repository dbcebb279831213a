"""Recurrent layers whose shapes are known without running their steps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._decomp import global_decomposition_table

KEY = torch._C.DispatchKey.CompositeImplicitAutograd
TABLE = global_decomposition_table["post_autograd"]


@contextmanager
def whole_recurrence() -> Iterator[None]:
    """Let torch.export see one call in a recurrent layer, whatever its length.

    Without it torch finds out shapes by unrolling the steps, which takes long and fixes their
    number. While it is on, recurrent layers must run on fake tensors only: they compute nothing.
    """
    kept = {call: (TABLE.get(call), call.py_kernels.get(KEY)) for call in _SHAPES}
    for call, shapes in _SHAPES.items():
        TABLE[call] = call.py_kernels[KEY] = shapes
    try:
        yield
    finally:
        for call, (entry, kernel) in kept.items():
            _restore(TABLE, call, entry)
            _restore(call.py_kernels, KEY, kernel)


def _restore(table: Any, key: Any, value: Any) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


def _lstm(x: Tensor, states: list[Tensor], *options: Any) -> tuple[Tensor, ...]:
    return _outputs(x, states[0], options), *(torch.empty_like(state) for state in states)


def _one_state(x: Tensor, state: Tensor, *options: Any) -> tuple[Tensor, ...]:
    return _outputs(x, state, options), torch.empty_like(state)


def _outputs(x: Tensor, state: Tensor, options: tuple[Any, ...]) -> Tensor:
    directions = 2 if options[5] else 1
    return x.new_empty((*x.shape[:-1], directions * state.shape[-1]))


_aten = torch.ops.aten
_SHAPES: dict[Any, Callable[..., tuple[Tensor, ...]]] = {
    _aten.lstm.input: _lstm,
    _aten.gru.input: _one_state,
    _aten.rnn_tanh.input: _one_state,
    _aten.rnn_relu.input: _one_state,
}
