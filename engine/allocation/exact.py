"""The optimum of the knapsack, by the branch and bound of a solver for any linear programme."""

import math

import numpy as np

from featherweight.engine.allocation.problem import Flags, Problem, Solution, solution
from featherweight.engine.allocation.reduction import reduced

# The solver takes a limit for kept where it is passed by a millionth; so it is told larger numbers.
SCALE = 1000.0


def optimum(problem: Problem, seconds: float = 60.0, gap: float = 1e-6) -> Solution | None:
    """Return the best choice within the limits; None where there is none.

    With a `gap` it may be worse than the best by that share. Raises TimeoutError where so many
    seconds are not enough. By HiGHS (Huangfu and Hall 2018), some versions of which write a line
    to the standard output now and then, and so it is not for where others read that.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    whole = reduced(problem)
    if whole is None:
        return None
    small = whole.problem
    known = undominated(small)
    item, option = np.nonzero(known)
    places = np.arange(len(item))
    one_each = csr_array((np.ones(len(item)), (item, places)), shape=(small.items, len(item)))
    constraints = [LinearConstraint(one_each, 1, 1)]
    if len(small.limits):
        constraints.append(
            LinearConstraint(small.costs[:, known] * SCALE, -np.inf, small.limits * SCALE)
        )
    # The loss that no choice changes counts in the gap as well.
    shift = whole.least / whole.unit / max(small.items, 1)
    while True:
        found = milp(
            (small.losses[known] + shift) * SCALE,
            constraints=constraints,
            integrality=np.ones(len(item)),
            bounds=Bounds(0, 1),
            options={"time_limit": seconds, "mip_rel_gap": gap},
        )
        if found.status == 1:
            raise TimeoutError(f"no optimum within {seconds:g} s")
        if found.x is None:
            return None
        taken = found.x > 0.5
        choices = np.zeros(small.items, np.int64)
        choices[item[taken]] = option[taken]
        if problem.fits(choices):
            return solution(problem, choices)
        # It was over a limit by what the solver thinks is nothing.
        constraints.append(LinearConstraint(taken.astype(float), -math.inf, small.items - 1))


def undominated(problem: Problem) -> Flags:
    """Return the options that no other of their item betters in loss and every cost."""
    measures = np.concatenate([problem.losses[None], problem.costs])
    known = np.isfinite(problem.losses)
    kept = known.copy()
    places = np.arange(problem.losses.shape[1])
    for place in places:
        one = measures[:, :, place : place + 1]
        no_worse = (measures <= one).all(0) & known
        # Of twins the first stays.
        better = no_worse & ((measures < one).any(0) | (places < place))
        kept[:, place] &= ~better.any(1)
    return kept
