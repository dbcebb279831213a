"""Layers that hold weights and compute nothing: something else computes with what they hold."""

from typing import Any

from torch import nn


class HeldWeights(nn.Module):
    """The weights of one operator that no layer of torch's stands for.

    Those of two or more dimensions are stored like any layer's; the first axis are its rows.
    """

    def forward(self, *_: Any) -> Any:
        """Raise TypeError: what computes with the weights is not here."""
        raise TypeError("it only holds weights")


def holder(kind: str, weights: dict[str, nn.Parameter]) -> HeldWeights:
    """Return a holder of weights by their names; its class has the name of the operator."""
    made: HeldWeights = type(kind, (HeldWeights,), {})()
    for name, value in weights.items():
        made.register_parameter(name, value)
    return made.eval()
