"""The functions that a graph from a file may call: tensor operators, and arithmetic on sizes.

Names are those of torch.export: `torch.ops.aten.add.Tensor`, `_operator.mul`, `torch.sym_max`.
"""

import math
import operator
import re
from collections.abc import Callable
from typing import Any

import torch
from torch._ops import OpOverload

ATEN = re.compile(r"torch\.ops\.aten\.([A-Za-z]\w*|_[a-z]\w*)\.([A-Za-z]\w*)")
# Of aten's internal operators those that captured networks hold; the others touch raw memory.
INTERNAL = (
    *("_to_copy", "_softmax", "_log_softmax", "_unsafe_view", "_convolution", "_weight_norm"),
    *("_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "_adaptive_avg_pool2d"),
    *("_scaled_dot_product_flash_attention_for_cpu", "_upsample_bilinear2d_aa", "_cdist_forward"),
    *("_fft_r2c", "_fft_c2r", "_fft_c2c", "_pack_padded_sequence", "_pad_packed_sequence"),
)
# These reach a file, or memory that is not the tensor's own.
REFUSED = ("from_file", "set_", "set", "set_data", "resize_", "resize", "resize_as_", "resize_as")

_OPERATORS = (
    *("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "pow", "getitem"),
    *("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_"),
)
_SYMBOLIC = ("sym_int", "sym_float", "sym_max", "sym_min", "sym_not", "sym_ite", "sym_sum")
_ROUNDING = ("ceil", "floor", "trunc", "sqrt")
NUMBERS: dict[str, Callable[..., Any]] = {
    **{f"_operator.{name}": getattr(operator, name) for name in _OPERATORS},
    **{f"math.{name}": getattr(math, name) for name in _ROUNDING},
    **{f"torch.{name}": getattr(torch, name) for name in _SYMBOLIC},
}
_NAMES = {function: name for name, function in NUMBERS.items()}


def operator_name(function: Any) -> str:
    """Return the name of a function. Raises ValueError where graphs in files may not call it."""
    name = f"torch.ops.{function}" if isinstance(function, OpOverload) else _NAMES.get(function)
    if name is None or operator_named(name) is not function:
        raise ValueError(f"it calls {function}, which is no tensor operator of PyTorch's own")
    return name


def operator_named(name: str) -> Callable[..., Any]:
    """Return the function of a name. Raises ValueError where graphs in files may not call it."""
    if name in NUMBERS:
        return NUMBERS[name]
    found = ATEN.fullmatch(name)
    packet, overload = found.groups() if found else ("", "")
    if found and packet not in REFUSED and (packet[0] != "_" or packet in INTERNAL):
        function = getattr(getattr(torch.ops.aten, packet, None), overload, None)
        if isinstance(function, OpOverload):
            return function
    raise ValueError(f"it calls {name[:80]}, which is no tensor operator of PyTorch's own")
