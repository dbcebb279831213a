"""Losses that a training cannot go on from, told in a sentence."""

import math

from torch import Tensor

from featherweight.engine.errors import UserError


def sound(loss: Tensor, step: int, rate: float, training: str) -> float:
    """Return a loss as a number, that of the step `step` from 0 of a training at a learning rate.

    Raises UserError, naming the training, where it gives no gradients or is no number any more.
    """
    if not loss.requires_grad:
        raise UserError(
            "The network cannot be trained: its weights give its outputs no gradient.",
            f"Take the {training} out of the recipe.",
        )
    value = float(loss.detach())
    if not math.isfinite(value):
        raise diverged(step, rate, training)
    return value


def diverged(step: int, rate: float, training: str) -> UserError:
    """Return what tells that a training went beyond all numbers at a step, counted from 0."""
    return UserError(
        f"The loss is no number any more at step {step + 1} of the {training}.",
        f"Lower its learning rate, for example to {rate / 10:g}.",
    )
