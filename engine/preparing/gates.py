"""Hard-concrete gates: random factors that are exactly 0 or 1 for most of the time, and train.

Louizos, Welling, Kingma: Learning Sparse Neural Networks through L0 Regularization (2018), arXiv
1712.01312.
"""

import math

import torch
from torch import Tensor, nn

from featherweight.engine.preparing.channel_groups import Slices
from featherweight.engine.weight_forms import FloatForm, TrainableForm

TEMPERATURE, LOWER, UPPER = 2 / 3, -0.1, 1.1


class Gates(nn.Module):
    """One gate z for each of some units, by `logits` log α, float32 of their shape.

    A logistic u gives s = sigmoid((u + log α)/β), and z = s·(ζ - c) + c, clipped to [0, 1], where
    c is LOWER, ζ is UPPER and β the TEMPERATURE; in the end z is what u = 0 and β = 1 give.
    """

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.choice: Tensor
        self.chosen: Tensor
        self.register_buffer("choice", torch.ones_like(logits))
        self.register_buffer("chosen", torch.zeros((), dtype=torch.bool))
        self._drawn: Tensor | None = None

    def draw(self) -> None:
        """Draw a new z for the next step."""
        noise = torch.rand_like(self.logits).clamp_(1e-6, 1 - 1e-6)
        moved = (noise.logit() + self.logits) / TEMPERATURE
        self._drawn = (moved.sigmoid() * (UPPER - LOWER) + LOWER).clamp(0.0, 1.0)

    def forward(self) -> Tensor:
        """Return z: as it was drawn while training, without chance else; 0 or 1 once chosen."""
        if self.chosen:
            return self.choice
        if self.training and self._drawn is not None:
            return self._drawn
        return self.settled()

    @torch.no_grad()
    def settled(self) -> Tensor:
        """Return z without chance."""
        return (self.logits.sigmoid() * (UPPER - LOWER) + LOWER).clamp(0.0, 1.0)

    def opened(self, counted: Tensor) -> Tensor:
        """Return how many of the gates that a mask counts are not zero on the mean."""
        chances = (self.logits - TEMPERATURE * math.log(-LOWER / UPPER)).sigmoid()
        return (chances * counted).sum()

    @torch.no_grad()
    def choose(self, stays: Tensor) -> None:
        """Hold every gate at 1 where a bool tensor of their shape says so, else at 0."""
        self.choice.copy_(stays)
        self.chosen.fill_(True)


class GatedForm(TrainableForm):
    """A float32 weight, the parameter that it is given, times gates for its elements or slices."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__(tuple(weight.shape))
        self.values = weight
        self.gates = nn.ModuleList()
        self._slices: list[Slices | None] = []

    def put_gates(self, gates: Gates, slices: Slices | None = None) -> None:
        """Multiply from now on with gates for slices, or of the weight's shape."""
        self.gates.append(gates)
        self._slices.append(slices)

    def forward(self) -> Tensor:
        """Return the weight, float32."""
        weight: Tensor = self.values
        for gates, slices in zip(self.gates, self._slices, strict=True):
            weight = weight * (slices.along(gates()) if slices else gates())
        return weight

    def settled(self) -> FloatForm:
        """Return the weight as plain floats."""
        return FloatForm(self().detach())
