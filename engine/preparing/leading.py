"""What all ways of leading weights to zero have in common."""

import math

import torch
from torch import Tensor, nn

# An error of 1/60 in the density changes the strength e-fold at once; its sum over the leading
# counts as much as a loop that is critically damped has it.
PROPORTIONAL = 60.0
INTEGRAL = PROPORTIONAL**2 / 4
MOST_EXPONENT = 6.0


class Memory(nn.Module):
    """What a lead knows beside the network's weights, for a checkpoint.

    `stays` (bool) are the units that stay, or would by now. `error` is how far the last density
    was from the one that was due, `sum` the mean error times the share of the leading behind.
    """

    def __init__(self, units: tuple[int, ...]) -> None:
        super().__init__()
        self.stays: Tensor
        self.sum: Tensor
        self.error: Tensor
        self.register_buffer("stays", torch.ones(units, dtype=torch.bool))
        self.register_buffer("sum", torch.zeros((), dtype=torch.float64))
        self.register_buffer("error", torch.zeros((), dtype=torch.float64))


class Lead:
    """Weights of one layer, or channels that go together, led until only a share stays.

    A unit is what goes or stays: a weight, or a channel with all that belongs to it. `weights` is
    how many weights there are in all units, `goal` the share of the units that stays.
    """

    def __init__(self, units: tuple[int, ...], weights: int, goal: float) -> None:
        self.weights, self.goal = weights, goal
        self.memory = Memory(units)

    @property
    def strength(self) -> float:
        """The factor of the penalty: 1 would just do if the loss did not resist.

        λ ← λ·exp(κ(d - d*)) at the density d where d* is due, and a part that answers at once,
        without which it would swing.
        """
        exponent = INTEGRAL * float(self.memory.sum) + PROPORTIONAL * float(self.memory.error)
        return math.exp(min(max(exponent, -MOST_EXPONENT), MOST_EXPONENT))

    def steer(self, wanted: float, share: float) -> None:
        """Look at the density after a step that was this share of the leading."""
        error = self.density() - wanted
        self.memory.error.fill_(error)
        most = MOST_EXPONENT / INTEGRAL
        self.memory.sum.add_(error * share).clamp_(-most, most)

    def parameters(self) -> list[nn.Parameter]:
        """Return what trains beside the network's own weights, at a rate of its own."""
        return []

    def ready(self, step: int, wanted: float) -> None:
        """Prepare a step of the leading; `wanted` is the density that is due after it."""

    def penalty(self, amount: float) -> Tensor | None:  # noqa: ARG002
        """Return what the loss grows by in a step of the leading; None for nothing."""
        return None

    def shrink(self, amount: float) -> None:
        """Shrink weights after a step, in place.

        Amounts of 1 in all bring the largest unit that should go to zero, if nothing resists.
        """

    def density(self) -> float:
        """Return the share of the units that is not about zero."""
        raise NotImplementedError

    def choose(self) -> None:
        """End the leading: choose what goes, so that exactly the goal stays, and zero it."""
        raise NotImplementedError

    def hold(self) -> None:
        """Keep at zero, after a step, what was chosen to go."""
        raise NotImplementedError
