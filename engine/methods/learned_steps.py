"""Step sizes of a grid that are learned with what lies on it.

Esser et al.: Learned Step Size Quantization (2020, arXiv 1902.08153). A step is held as what it
was at first times the exponential of a parameter: it stays positive, and an optimizer that takes
steps of its own size, as Adam does, changes small and large ones in the same proportion. Plain
gradient descent changes it, to the first order, as in the paper.
"""

import math

from torch import Tensor


def learned_steps(first: Tensor, stretch: Tensor, count: int, largest: int) -> Tensor:
    """Return steps, float32, that are `first` where `stretch`, of their shape, is 0.

    `count` numbers share each step, and `largest` of them reach from 0 to an end of the grid: the
    gradient that comes to a step is divided by the root of the two's product.
    """
    steps = first * stretch.exp()
    if not steps.requires_grad:
        return steps
    pull = steps.detach().square().mul(math.sqrt(count * largest)).reciprocal()
    steps.register_hook(lambda gradient: gradient * pull)
    return steps


def on_grid(values: Tensor, steps: Tensor, lowest: int, largest: int) -> Tensor:
    """Return the nearest whole multiples, from `lowest` to `largest`, of steps that are learned.

    The gradient passes straight through the rounding, to values that are inside the grid; a step
    gets what rounding adds to each of these, and the end that others are held at.
    """
    inside = (values / steps).clamp(lowest, largest)
    # The difference is exact, and so is the sum: whole numbers come out.
    return (inside + (inside.round() - inside).detach()) * steps
