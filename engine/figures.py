"""A figure: a number that says what it is of, and how it came to be known."""

from typing import Literal

from msgspec import Struct

Basis = Literal["estimated", "simulated", "measured"]


class Figure(Struct, frozen=True):
    """A value with its unit and basis.

    `estimated` came from a formula or a proxy, `simulated` from a run that imitates the real thing
    (fake quantization, a mask), `measured` from the real thing: the file, the clock, the labels.
    """

    value: float
    unit: str
    basis: Basis


def ratio(before: Figure, after: Figure) -> Figure:
    """Return before / after (a compression or speedup rate) with the weaker basis of both."""
    order: tuple[Basis, ...] = ("estimated", "simulated", "measured")
    basis = min(before.basis, after.basis, key=order.index)
    return Figure(before.value / after.value if after.value else float("inf"), "×", basis)
