"""Several limits at once: prices of the resources, found one after the other, decide each item."""

import numpy as np

from featherweight.engine.allocation.core import compacted, refined
from featherweight.engine.allocation.exact import optimum
from featherweight.engine.allocation.frontier import frontier
from featherweight.engine.allocation.polishing import polished, repaired
from featherweight.engine.allocation.problem import Floats, Ints, Problem, Solution, solution

SWEEPS = 6
# With several limits the prices found are not the best ones; dearer ones leave less to mend.
SCALES = (1.0, 1.1, 1.5, 4.0)


def allocated(problem: Problem) -> Solution | None:
    """Return a choice near the best within the limits, in milliseconds; None where there is none.

    With prices p of the resources every item takes the option of least loss + p·cost (Lagrange;
    Everett 1963). Each price in turn is that at which its limit just holds, the others being as
    they are; what is then over a limit is saved, and what is left is spent.
    """
    small, places = compacted(problem)
    prices, choices = _prices(small)
    found = [
        polished(small, mended)
        for scale in (SCALES if np.isfinite(small.limits).sum() > 1 else (1.0,))
        if (mended := repaired(small, _choices(small, prices * scale, choices, scale))) is not None
    ]
    if not found:
        return optimum(problem)
    best = refined(small, prices, min(found, key=small.loss))
    return solution(problem, places[np.arange(problem.items), best])


def _prices(problem: Problem) -> tuple[Floats, Ints]:
    """Return the price of every resource, and the choice at them."""
    limited = np.flatnonzero(np.isfinite(problem.limits))
    prices = np.zeros(len(problem.limits))
    choices: Ints = problem.losses.argmin(1)
    for sweep in range(SWEEPS if len(limited) > 1 else 1):
        before = prices.copy()
        for resource in limited:
            prices[resource], choices = _priced(problem, prices, int(resource))
        if sweep and np.allclose(before, prices, rtol=1e-6, atol=0):
            break
    return prices, choices


def _choices(problem: Problem, prices: Floats, known: Ints, scale: float) -> Ints:
    """Return the choice at other prices; at the known ones that which was found with them."""
    if scale == 1.0:
        return known
    return np.asarray((problem.losses + np.tensordot(prices, problem.costs, 1)).argmin(1))


def _priced(problem: Problem, prices: Floats, resource: int) -> tuple[float, Ints]:
    """Return the price at which one limit holds, and the choice at it."""
    others = prices.copy()
    others[resource] = 0.0
    losses = problem.losses + np.tensordot(others, problem.costs, 1)
    found = frontier(losses, problem.costs[resource])
    steps = found.steps_within(float(problem.bounds()[resource]))
    if steps < 0 or steps >= len(found.items):
        # Nothing is cheap enough, or everything is: then it has no price.
        steps, price = max(steps, 0), 0.0
    else:
        gained = found.losses[steps] - found.losses[steps + 1]
        price = float(gained / (found.costs[steps + 1] - found.costs[steps]))
    return price, found.choices(steps)
