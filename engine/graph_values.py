"""The arguments of a graph's calls as plain data and back, and the names that a graph may use.

What msgpack knows stays as it is; anything else is a map of one key, its kind.
"""

import keyword
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

DOTTED = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
DEEPEST = 16

DTYPES = {
    name: getattr(torch, name)
    for name in (
        *("float32", "float64", "float16", "bfloat16"),
        *("bool", "uint8", "int8", "int16", "int32", "int64"),
    )
}
CONSTANTS: dict[str, dict[str, Any]] = {
    "dtype": DTYPES,
    "memory_format": {
        name: getattr(torch, name)
        for name in ("contiguous_format", "preserve_format", "channels_last", "channels_last_3d")
    },
    "device": {"cpu": torch.device("cpu")},
    "layout": {"strided": torch.strided},
}
_KINDS: tuple[tuple[str, type], ...] = (
    ("dtype", torch.dtype),
    ("memory_format", torch.memory_format),
    ("device", torch.device),
    ("layout", torch.layout),
)


def check_name(name: str) -> None:
    """Raise ValueError unless a name is letters, digits and underscores between dots."""
    if not DOTTED.fullmatch(name):
        raise ValueError(f"{name[:80]!r} is no name of a layer or a tensor")


def check_identifier(name: str) -> None:
    """Raise ValueError unless Python takes a name for a variable."""
    if not name.isidentifier() or not name.isascii() or keyword.iskeyword(name):
        raise ValueError(f"{name[:80]!r} is no name of a value")


def plain_value(value: Any) -> Any:
    """Return an argument of a call as plain data. Raises ValueError where there is no way."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, tuple):
        return {"tuple": [plain_value(part) for part in value]}
    if isinstance(value, list):
        return [plain_value(part) for part in value]
    if isinstance(value, slice):
        return {"slice": [plain_value(part) for part in (value.start, value.stop, value.step)]}
    for kind, whole in _KINDS:
        name = str(value).removeprefix("torch.")
        if isinstance(value, whole) and name in CONSTANTS[kind]:
            return {kind: name}
    raise ValueError(f"a call has the argument {str(value)[:60]}, which files cannot hold")


def value_from(value: Any, nodes: Mapping[str, fx.Node], depth: int = 0) -> Any:
    """Return the argument that plain data stands for; `nodes` are the results so far by name.

    Raises ValueError where it stands for none.
    """
    if depth > DEEPEST:
        raise ValueError("arguments are nested too deeply")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [value_from(part, nodes, depth + 1) for part in value]
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError("an argument is of no known kind")
    ((kind, inner),) = value.items()
    if kind in ("tuple", "slice") and isinstance(inner, list):
        parts = [value_from(part, nodes, depth + 1) for part in inner]
        if kind == "tuple":
            return tuple(parts)
        if len(parts) == 3:
            return slice(*parts)
    constants: Mapping[str, Any] = nodes if kind == "node" else CONSTANTS.get(kind, {})
    if not isinstance(inner, str) or inner not in constants:
        raise ValueError(f"there is no {str(kind)[:20]} {str(inner)[:60]!r}")
    return constants[inner]
