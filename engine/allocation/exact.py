"""The optimum of the knapsack, by branch and bound on its linear relaxation."""

import numpy as np

from featherweight.engine.allocation.core import undominated
from featherweight.engine.allocation.problem import Problem, Solution, solution


def optimum(problem: Problem, seconds: float = 60.0, gap: float = 1e-6) -> Solution | None:
    """Return the best choice within the limits; None where there is none.

    With a `gap` it may be worse than the best by that share. Raises TimeoutError where so many
    seconds are not enough. By HiGHS (Huangfu and Hall 2018).
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    known = undominated(problem)
    item = np.nonzero(known)[0]
    one_each = csr_array(
        (np.ones(len(item)), (item, np.arange(len(item)))), shape=(problem.items, len(item))
    )
    limited = np.isfinite(problem.limits)
    constraints = [LinearConstraint(one_each, 1, 1)]
    if limited.any():
        spent = problem.costs[limited][:, known]
        scale = np.maximum(np.abs(spent).max(1, initial=0.0), 1e-300)
        bounds = problem.bounds()[limited] / scale
        constraints.append(LinearConstraint(spent / scale[:, None], -np.inf, bounds))
    found = milp(
        problem.losses[known],
        constraints=constraints,
        integrality=np.ones(len(item)),
        bounds=Bounds(0, 1),
        options={"time_limit": seconds, "mip_rel_gap": gap},
    )
    if found.status == 1:
        raise TimeoutError(f"no optimum within {seconds:g} s")
    if found.x is None:
        return None
    taken = np.flatnonzero(found.x > 0.5)
    choices = np.zeros(problem.items, np.int64)
    choices[item[taken]] = np.nonzero(known)[1][taken]
    return solution(problem, choices)
