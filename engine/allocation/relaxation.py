"""The least that any choice within the limits can lose, and prices of the resources that show it.

With prices p every item takes the option of least loss + p·cost, and no choice within the limits
loses less than their sum - p·limits (Everett 1963). The best prices are found by cutting planes:
a linear programme mixes the choices known so far, its duals are the next prices (Kelley 1960;
Dantzig and Wolfe 1960), drawn towards the best known ones (Wentges 1997).
"""

from dataclasses import dataclass

import numpy as np

from featherweight.engine.allocation.problem import Floats, Ints, Problem

STEPS, PIVOTS = 60, 60
GAP, DRAWN = 1e-4, 0.3
# A limit may be passed at this price for all of it, which rises as long as it pays.
FIRST_PRICE, LAST_PRICE = 4.0, 1e7


@dataclass(frozen=True)
class Relaxed:
    """A bound of the loss with the prices that show it, (resources,), of a reduced problem.

    `columns` are choices, (choices, items), and `weights` their shares in the best mixture. The
    bound is inf where no choice is within the limits.
    """

    bound: float
    prices: Floats
    columns: Ints
    weights: Floats


class _Master:
    """The mixture of known choices that loses least within the limits, by the simplex method."""

    def __init__(self, problem: Problem, columns: Ints) -> None:
        self._problem = problem
        count = len(problem.limits)
        self._right = np.append(problem.limits, 1.0)
        rows = np.eye(count, count + 1)
        # Room that is left, room that is lacking at a price, and the choices.
        self._matrix = np.concatenate([rows, -rows])
        self._losses = np.repeat([0.0, FIRST_PRICE], count)
        self.columns = np.empty((0, problem.items), np.int64)
        self.weights = np.empty(0)
        self.add(columns)
        lacking = self._matrix[2 * count, :count] > problem.limits
        self._basis = np.append(np.arange(count) + count * lacking, 2 * count)

    def add(self, columns: Ints) -> None:
        """Add choices, (choices, items)."""
        rows, count = np.arange(self._problem.items), len(self._problem.limits)
        costs = self._problem.costs[:, rows, columns].sum(2).T
        self.columns = np.concatenate([self.columns, columns])
        self._matrix = np.concatenate([self._matrix, np.insert(costs, count, 1.0, axis=1)])
        losses = self._problem.losses[rows, columns].sum(1)
        self._losses = np.concatenate([self._losses, losses])

    def solve(self, bound: float) -> tuple[Floats, float]:
        """Return the prices and the loss of the best mixture.

        Lacking room becomes dearer where the bound, which is at most this loss, is near.
        """
        count = len(self._problem.limits)
        while True:
            prices, loss = self._solved()
            lacking = (self._basis >= count) & (self._basis < 2 * count)
            near = loss - bound <= GAP * abs(loss)
            if not (lacking.any() and near and self._losses[count] < LAST_PRICE):
                return prices, loss
            self._losses[count : 2 * count] *= 10

    def _solved(self) -> tuple[Floats, float]:
        """Return the prices and the loss at the prices of lacking room as they are."""
        count = len(self._problem.limits)
        for _ in range(PIVOTS):
            inverse = np.linalg.inv(self._matrix[self._basis].T)
            duals = self._losses[self._basis] @ inverse
            gains = self._losses - self._matrix @ duals
            enters = int(gains.argmin())
            amounts = np.maximum(inverse @ self._right, 0.0)
            if gains[enters] > -1e-9:
                break
            change = inverse @ self._matrix[enters]
            usable = change > 1e-10
            if not usable.any():
                break
            ratios = np.where(usable, amounts / np.where(usable, change, 1.0), np.inf)
            self._basis[int(ratios.argmin())] = enters
        weights = np.zeros(len(self._losses))
        weights[self._basis] = amounts
        self.weights = weights[2 * count :]
        return np.maximum(-duals[:count], 0.0), float(duals @ self._right)


def relaxed(problem: Problem, columns: Ints, prices: Floats, enough: float = np.inf) -> Relaxed:
    """Return the bound of a reduced problem, starting from known choices and prices.

    The search ends early where the bound is `enough`. `columns` may be empty, (0, items).
    """
    rows = np.arange(problem.items)
    known = np.isfinite(problem.losses)
    worst = float(problem.losses.max(1, where=known, initial=0.0).sum())
    if not len(columns):
        columns = problem.losses.argmin(1)[None]
    master = _Master(problem, columns)
    bound, best, tried = -np.inf, prices, prices
    for step in range(STEPS):
        priced = problem.losses + np.tensordot(tried, problem.costs, 1)
        choices = priced.argmin(1)
        value = float(priced[rows, choices].sum() - tried @ problem.limits)
        if value > bound:
            bound, best = value, tried
        # High prices make differences of large sums, which are only so exact.
        if bound > worst + 1e-9 + 1e-15 * problem.items * best.sum():
            return Relaxed(np.inf, best, master.columns, master.weights)
        master.add(choices[None])
        found, loss = master.solve(bound)
        if bound > enough or loss - bound <= GAP * max(abs(loss), 1e-9):
            break
        tried = DRAWN * best + (1 - DRAWN) * found if step else found
    return Relaxed(bound, best, master.columns, master.weights)
