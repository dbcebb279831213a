"""What flows between ONNX operators: tensors, and numbers that are known without running.

Shapes and constants are numpy arrays (`Host`): arithmetic on them happens while the network is
captured and leaves nothing in its graph. A size that stays free is an object in such an array.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Host = npt.NDArray[Any]
Value = Tensor | Host | None
Operator = Callable[..., Any]


class UnsupportedError(Exception):
    """An operator is used in a way that is not read; the text completes "its …"."""


@dataclass(frozen=True)
class Call:
    """One use of an operator: its attributes, the version of the operator set, its results.

    `batch` is 1 where the file fixes the batch at 1 although the network may allow any, else 0;
    `leading` then says that the batch is the first axis of the first input.
    """

    op: str
    name: str
    version: int
    outputs: int = 1
    batch: int = 0
    leading: bool = False
    attributes: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.attributes[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or what the standard says where it is left out."""
        return self.attributes.get(name, default)

    def setting(self, name: str, inputs: Sequence[Value], position: int) -> Any:
        """Return what newer versions take as an input and older ones as an attribute, as a list.

        None where it is given in neither way.
        """
        if len(inputs) > position and inputs[position] is not None:
            return numbers(inputs[position])
        return self.get(name)


operators: dict[str, Operator] = {}


def operator(*names: str) -> Callable[[Operator], Operator]:
    """Register how operators of these names are computed."""

    def register(run: Operator) -> Operator:
        operators.update(dict.fromkeys(names, run))
        return run

    return register


def is_host(*values: Value) -> bool:
    """Say whether all values are known without running; one left out does not count."""
    return all(not isinstance(value, Tensor) for value in values)


def host(values: Sequence[Any]) -> Host:
    """Return sizes as an array: int64, of objects where a size is free."""
    if all(isinstance(value, int) for value in values):
        return np.array(values, dtype=np.int64)
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def known(result: Any) -> Host:
    """Return what numpy computed as an array; a free size alone must not become a fixed one."""
    if isinstance(result, np.ndarray | np.generic | int | float):
        return np.asarray(result)
    array = np.empty((), dtype=object)
    array[()] = result
    return array


def numbers(value: Value) -> Any:
    """Return a known value as plain numbers or a nested list of them.

    Raises UnsupportedError where it is computed from the network's input.
    """
    if isinstance(value, Tensor) or value is None:
        raise UnsupportedError("shape depends on the numbers in the input")
    return value.tolist()


def number(value: Value) -> Any:
    """Return the one number of a known value."""
    listed = numbers(value)
    while isinstance(listed, list):
        (listed,) = listed
    return listed


def tensor(value: Value) -> Tensor:
    """Return any value as a tensor."""
    if isinstance(value, Tensor):
        return value
    if value is None:
        raise UnsupportedError("input is left out")
    if value.dtype == object:
        parts = [torch.scalar_tensor(part, dtype=torch.int64) for part in value.reshape(-1)]
        return torch.stack(parts).reshape(value.shape)
    return torch.tensor(value)


def operand(value: Value, other: Value) -> Any:
    """Return a value to compute with `other`: a single known number stays a number."""
    if isinstance(value, Tensor) or value is None or not isinstance(other, Tensor):
        return tensor(value)
    return number(value) if value.size == 1 and value.ndim <= other.ndim else tensor(value)
