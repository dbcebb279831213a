"""Tables of floats in 16 bits: float16 times one power of two, so that no size is out of range.

The unit stands before the numbers. Where the largest is between 2⁻¹⁴ and 2²⁵, it and all that is up
to 2²³ times smaller keep 11 bits; numbers may grow 64 times as large until they are cut.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

HALF = torch.finfo(torch.float16)
# The exponents of the powers of two that a float16 holds.
SMALLEST, LARGEST = -24, 15
# The largest number of a table has so many bits before its point.
ROOM = 10


def unit_of(values: Tensor) -> float:
    """Return the power of two for a table of these floats; 1.0 where none is finite and not 0."""
    largest = float(values.abs().max()) if values.numel() else 0.0
    if not 0.0 < largest < math.inf:
        return 1.0
    return math.ldexp(1.0, min(max(math.frexp(largest)[1] - ROOM, SMALLEST), LARGEST))


def rounded(values: Tensor, unit: float) -> Tensor:
    """Return the nearest floats that a table of this unit has, float32."""
    return _halves(values, unit).float() * unit


def as_table(values: Tensor, unit: float) -> npt.NDArray[np.float16]:
    """Return the unit and the floats, float16 (numbers + 1,)."""
    table: npt.NDArray[np.float16] = torch.cat(
        [torch.tensor([unit]).half(), _halves(values, unit)]
    ).numpy()
    return table


def from_table(table: npt.NDArray[np.float16]) -> tuple[Tensor, float]:
    """Return the floats, float32, and their unit. Raises ValueError where that is none."""
    unit = float(table[0]) if table.size else 0.0
    if not 0.0 < unit < math.inf or math.frexp(unit)[0] != 0.5:
        raise ValueError(f"{unit} is no unit of a table")
    return torch.from_numpy(table[1:].copy()).float() * unit, unit


def fits_half(values: Tensor) -> bool:
    """Say whether float16 rounds floats by at most 2⁻¹¹ of the largest, with room to grow."""
    largest = float(values.abs().max()) if values.numel() else 0.0
    return largest == 0.0 or HALF.smallest_normal <= largest <= 2**ROOM


def _halves(values: Tensor, unit: float) -> Tensor:
    return (values / unit).clamp(HALF.min, HALF.max).half()
