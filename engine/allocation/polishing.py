"""Changes of one item or of two: what is over a limit is saved, what is left of it is spent."""

import numpy as np

from featherweight.engine.allocation.problem import Floats, Ints, Problem

ROUNDS = 24
# So many changes are tried with each other.
PAIRED = 200
# Where there are more numbers, the options that are the least dear at the prices are looked at.
NUMBERS, FEWEST = 20_000, 8


def rounded(problem: Problem, choices: Ints, prices: Floats) -> Ints | None:
    """Return a choice within the limits of a reduced problem near one that need not be.

    `prices`, (resources,), tell which changes cost little. None where none is found.
    """
    width = max(FEWEST, NUMBERS // max(problem.costs[:, :, 0].size, 1))
    if width >= problem.losses.shape[1]:
        return _mended(problem, choices, prices)
    rows = np.arange(problem.items)[:, None]
    dear = problem.losses + np.tensordot(prices, problem.costs, 1)
    # What is chosen stays in view, whatever it costs.
    dear[rows[:, 0], choices] = -np.inf
    order = np.argpartition(dear, width, axis=1)[:, :width]
    narrow = Problem(problem.losses[rows, order], problem.costs[:, rows, order], problem.limits)
    found = _mended(narrow, (order == choices[:, None]).argmax(1), prices)
    return None if found is None else order[rows[:, 0], found]


def _mended(problem: Problem, choices: Ints, prices: Floats) -> Ints | None:
    found = repaired(problem, choices)
    return None if found is None else exchanged(problem, polished(problem, found), prices)


def repaired(problem: Problem, choices: Ints) -> Ints | None:
    """Return a choice within the limits of a reduced problem, the cheapest changes first.

    None where none is found.
    """
    choices, rows = choices.copy(), np.arange(problem.items)
    free = 1e-4 * problem.loss(choices) + 1e-12
    for _ in range(ROUNDS):
        over = problem.costs[:, rows, choices].sum(1) - problem.limits
        if (over <= 0).all():
            return choices
        lost, spent = _changes(problem, choices)
        lacking = np.maximum(over, 0).sum()
        saved = lacking - np.maximum(spent + over[:, None, None], 0).sum(0)
        price = np.full(lost.shape, np.inf)
        # Changes that lose hardly anything are taken for the same, so that they save much; savings
        # that are no more than rounding would go round in circles.
        np.divide(np.maximum(lost, free), saved, out=price, where=saved > 1e-13)
        item, option = np.unravel_index(int(price.argmin()), price.shape)
        if not np.isfinite(price[item, option]):
            return None
        choices[item] = option
    return None


def polished(problem: Problem, choices: Ints) -> Ints:
    """Return a choice within the limits that hardly any change of one item betters."""
    choices, rows = choices.copy(), np.arange(problem.items)
    for _ in range(ROUNDS):
        free = problem.limits - problem.costs[:, rows, choices].sum(1)
        lost, spent = _changes(problem, choices)
        lost = np.where((spent <= free[:, None, None]).all(0), lost, 0.0)
        item, option = np.unravel_index(int(lost.argmin()), lost.shape)
        if not lost[item, option] < 0:
            break
        choices[item] = option
    return choices


def exchanged(problem: Problem, choices: Ints, prices: Floats) -> Ints:
    """Return a choice within the limits that no two changes better, of those that cost little.

    Little at prices of the resources, (resources,).
    """
    choices, rows = choices.copy(), np.arange(problem.items)
    surplus = problem.losses + np.tensordot(prices, problem.costs, 1)
    surplus -= surplus.min(1, keepdims=True)
    for _ in range(ROUNDS):
        left = surplus.copy()
        left[rows, choices] = np.inf
        count = min(PAIRED, left.size - 1)
        item, option = np.unravel_index(np.argpartition(left, count, axis=None)[:count], left.shape)
        lost = problem.losses[item, option] - problem.losses[item, choices[item]]
        spent = problem.costs[:, item, option] - problem.costs[:, item, choices[item]]
        free = problem.limits - problem.costs[:, rows, choices].sum(1)
        sums = np.where(item[:, None] != item, lost[:, None] + lost, 0.0)
        for one, room in zip(spent, free, strict=True):
            sums[one[:, None] + one > room] = 0.0
        first, second = np.unravel_index(int(sums.argmin()), sums.shape)
        if not sums[first, second] < -1e-12:
            break
        for change in (first, second):
            choices[item[change]] = option[change]
    return choices


def _changes(problem: Problem, choices: Ints) -> tuple[Floats, Floats]:
    """Return what each change of one item loses, (items, options), and costs of each resource."""
    rows = np.arange(problem.items)
    lost = problem.losses - problem.losses[rows, choices][:, None]
    return lost, problem.costs - problem.costs[:, rows, choices][:, :, None]
