"""The best choice in milliseconds: prices of resources, and a search of what they leave open."""

import numpy as np

from featherweight.engine.allocation.branching import Tree
from featherweight.engine.allocation.exact import optimum
from featherweight.engine.allocation.polishing import rounded
from featherweight.engine.allocation.problem import Ints, Problem, Solution, solution, swapped
from featherweight.engine.allocation.reduction import Known, parted, reduced
from featherweight.engine.allocation.relaxation import Relaxed, relaxed

# What is found is worse than the best by at most this share, where the search comes to its end.
SHARE = 0.0045
# At higher prices than the best ones less is left to mend.
SCALES = (1.0, 1.1, 1.3)
# So many nodes of the tree take some 0.1 s. What is then open is left to the exact solver
# where there are few items; of many items no choice is far from the bound.
NODES, FEW_NODES, FEW_ITEMS = 20, 100, 64
SECONDS, LONGEST = 2.0, 60.0


def allocated(problem: Problem) -> Solution | None:
    """Return a choice within the limits that loses at most half a per cent more than the best.

    None where no choice is within the limits. It takes milliseconds, seldom a second. A millionth
    of the range of the summed losses counts as nothing. Raises TimeoutError where it cannot be said
    in a minute whether there is a choice.
    """
    whole = reduced(problem)
    if whole is None:
        return None
    known = Known(whole, SHARE)
    # Of the least losses the least costs.
    small = whole.problem
    known.offer((small.losses + 1e-12 * small.costs.sum(0)).argmin(1))
    proven = known.choices is not None or _searched(small, known)
    found = None if known.choices is None else solution(problem, known.choices)
    if proven or (found is not None and small.items > FEW_ITEMS):
        return found
    try:
        best = optimum(problem, LONGEST if found is None else SECONDS, SHARE / 2)
    except TimeoutError:
        if found is None:
            raise
        return found
    return min((one for one in (found, best) if one is not None), key=_loss, default=None)


def least(problem: Problem, resource: int, most: float) -> Solution | None:
    """Return a choice of nearly the least of a resource, which loses at most so much.

    It is within the limits and takes at most half a per cent more of the resource than the best
    choice; None where there is none. Raises TimeoutError as `allocated` does.
    """
    found = allocated(swapped(problem, resource, most))
    return None if found is None else solution(problem, found.choices)


def _searched(problem: Problem, known: Known) -> bool:
    """Search a reduced problem; say whether nothing is better by enough than what is known."""
    empty: Ints = np.empty((0, problem.items), np.int64)
    root = relaxed(problem, empty, np.zeros(len(problem.limits)))
    if not np.isfinite(root.bound):
        return True
    for scale in SCALES:
        prices = root.prices * scale
        cheapest = (problem.losses + np.tensordot(prices, problem.costs, 1)).argmin(1)
        choices = rounded(problem, cheapest, prices)
        if choices is not None:
            known.offer(choices)
            break
    return root.bound >= known.aim or _branched(problem, known, root)


def _branched(problem: Problem, known: Known, root: Relaxed) -> bool:
    """Search what can be better by enough than what is known (Pisinger 1995)."""
    priced = problem.losses + np.tensordot(root.prices, problem.costs, 1)
    cheapest = priced.argmin(1)
    core = priced - priced.min(1, keepdims=True) <= known.aim - root.bound
    core &= np.isfinite(problem.losses)
    core[np.arange(problem.items), cheapest] = True
    part = parted(problem, core, cheapest)
    known.offer(cheapest)
    if not len(part.items):
        return True
    return Tree(part, known).run(root, FEW_NODES if problem.items <= FEW_ITEMS else NODES)


def _loss(found: Solution) -> float:
    return found.loss
