"""The optimizer of a training, and how its learning rate falls."""

import math

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from featherweight.engine.errors import UserError
from featherweight.engine.trainings import FineTuning


def optimizer_of(module: nn.Module, settings: FineTuning) -> Optimizer:
    """Return a new optimizer of all weights. Raises UserError where there is nothing to train."""
    trained = let_train(module)
    if not trained:
        raise UserError("The network has nothing to train.", "Take the recovery out of the recipe.")
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "adamw":
        return AdamW(trained, lr=rate, weight_decay=decay)
    return SGD(trained, lr=rate, momentum=settings.momentum, weight_decay=decay)


def let_train(module: nn.Module) -> list[nn.Parameter]:
    """Let all float weights train and return them.

    A network frozen when it was saved is trained all the same, as its archive would be.
    """
    trained = [value for value in module.parameters() if value.is_floating_point()]
    for value in trained:
        value.requires_grad_()
    return trained


def follow(optimizer: Optimizer) -> None:
    """Move what an optimizer remembers to where its weights are now."""
    optimizer.load_state_dict(optimizer.state_dict())


def cosine(step: int, steps: int) -> float:
    """Return the share of a learning rate that a cosine leaves at a step of so many."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def rate_at(settings: FineTuning, step: int, steps: int) -> float:
    """Return the learning rate of a step of a training of so many."""
    rate = settings.learning_rate
    return rate if settings.schedule == "constant" else rate * cosine(step, steps)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Let an optimizer take steps of a learning rate from now on."""
    for group in optimizer.param_groups:
        group["lr"] = rate
