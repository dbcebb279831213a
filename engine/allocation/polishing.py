"""Changes of one item or of two: what is over a limit is saved, what is left of it is spent."""

import numpy as np

from featherweight.engine.allocation.problem import Floats, Ints, Problem

CELLS, PAIRS, ROUNDS = 400_000, 24, 64


def repaired(problem: Problem, choices: Ints) -> Ints | None:
    """Return a choice within the limits, the cheapest change first; None where none is found."""
    choices, rows = choices.copy(), np.arange(problem.items)
    scale = np.where(
        np.isfinite(problem.limits), np.maximum(np.abs(problem.limits), 1e-300), np.inf
    )
    for _ in range(3 * problem.items):
        over = np.maximum(problem.totals(choices) - problem.bounds(), 0) / scale
        if not over.any():
            return choices
        change = (problem.costs - problem.costs[:, rows, choices][:, :, None]) / scale[
            :, None, None
        ]
        saved = over.sum() - np.maximum(
            over[:, None, None] + np.where(over[:, None, None] > 0, change, 0), 0
        ).sum(0)
        lost = problem.losses - problem.losses[rows, choices][:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            price = np.where((saved > 0) & np.isfinite(lost), lost / saved, np.inf)
        item, option = np.unravel_index(int(price.argmin()), price.shape)
        if not np.isfinite(price[item, option]):
            return None
        choices[item] = option
    return None


def polished(problem: Problem, choices: Ints) -> Ints:
    """Return a choice within the limits that no change of one item betters, and few of two do."""
    choices = choices.copy()
    for _ in range(ROUNDS):
        while _better_one(problem, choices):
            pass
        if not _better_two(problem, choices):
            break
    return choices


def _better_one(problem: Problem, choices: Ints) -> bool:
    """Make the best change of one item that fits, in place; say whether there was one."""
    lost, spent = _changes(problem, choices)
    free = problem.bounds() - problem.totals(choices)
    lost = np.where((spent <= free[:, None, None]).all(0), lost, np.inf)
    item, option = np.unravel_index(int(lost.argmin()), lost.shape)
    if not lost[item, option] < 0:
        return False
    choices[item] = option
    return True


def _better_two(problem: Problem, choices: Ints) -> bool:
    """Make the best change of two items, the first of which saves at a small loss, in place."""
    lost, spent = _changes(problem, choices)
    free = problem.bounds() - problem.totals(choices)
    limited = np.isfinite(problem.limits)
    saves = (spent[limited] <= 0).all(0) & (spent[limited] < 0).any(0) & (lost >= 0)
    # In small problems every pair is tried, in large ones those that begin with little loss.
    pairs = max(PAIRS, CELLS // lost.size)
    ranked = np.argsort(np.where(saves, lost, np.inf), axis=None)[:pairs]
    best, found = 0.0, None
    for place in ranked:
        item, option = np.unravel_index(int(place), lost.shape)
        if not saves[item, option] or not np.isfinite(lost[item, option]):
            break
        left = free - spent[:, item, option]
        second = np.where((spent <= left[:, None, None]).all(0), lost, np.inf)
        second[item] = np.inf
        other = np.unravel_index(int(second.argmin()), second.shape)
        won = float(second[other] + lost[item, option])
        if won < best - 1e-15:
            best, found = won, ((item, option), other)
    for item, option in found or ():
        choices[item] = option
    return found is not None


def _changes(problem: Problem, choices: Ints) -> tuple[Floats, Floats]:
    """Return what each change of one item loses, (items, options), and costs of each resource."""
    rows = np.arange(problem.items)
    lost = problem.losses - problem.losses[rows, choices][:, None]
    return lost, problem.costs - problem.costs[:, rows, choices][:, :, None]
