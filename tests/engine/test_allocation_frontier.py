"""The best for every budget of one resource, computed once."""

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.engine.allocation.frontier import frontier
from featherweight.engine.allocation.problem import Floats

# A busy machine makes single examples slow.
unhurried = settings(deadline=None)
seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int, items: int, options: int, whole: bool) -> tuple[Floats, Floats]:
    """Return losses and costs, whole numbers or any, of items with different numbers of options."""
    generator = np.random.default_rng(seed)
    shape = (items, options)
    losses, costs = generator.random(shape), generator.normal(size=shape)
    if whole:
        losses, costs = np.floor(5 * losses), np.floor(3 * costs)
    losses[np.arange(options) >= generator.integers(1, options + 1, items)[:, None]] = np.inf
    return losses, costs


@unhurried
@given(seeds, st.integers(1, 12), st.integers(1, 12), st.booleans())
def test_that_a_frontier_is_convex_and_each_of_its_points_can_be_reached(
    seed: int, items: int, options: int, whole: bool
) -> None:
    losses, costs = drawn(seed, items, options, whole)
    found, rows = frontier(losses, costs), np.arange(items)
    assert len(found.costs) == len(found.items) + 1
    for steps, (cost, loss) in enumerate(zip(found.costs, found.losses, strict=True)):
        choices = found.choices(steps)
        assert np.isclose(costs[rows, choices].sum(), cost, atol=1e-9)
        assert np.isclose(losses[rows, choices].sum(), loss, atol=1e-9)
    spent, won = np.diff(found.costs), -np.diff(found.losses)
    assert (spent > 0).all()
    assert (won > 0).all()
    assert (np.diff(won / spent) <= 1e-9).all()
    known = np.where(np.isfinite(losses), costs, np.inf)
    assert np.isclose(found.costs[0], known.min(1).sum())
    assert np.isclose(found.losses[-1], losses.min(1).sum())


@unhurried
@given(seeds, st.integers(1, 4), st.integers(1, 5), st.booleans())
def test_that_no_choice_as_cheap_as_a_point_of_the_frontier_loses_less(
    seed: int, items: int, options: int, whole: bool
) -> None:
    losses, costs = drawn(seed, items, options, whole)
    found, rows = frontier(losses, costs), np.arange(items)
    choices = np.array(list(product(*map(range, np.isfinite(losses).sum(1)))))
    spent, lost = costs[rows, choices].sum(1), losses[rows, choices].sum(1)
    for cost, loss in zip(found.costs, found.losses, strict=True):
        assert lost[spent <= cost + 1e-9].min() >= loss - 1e-9


@unhurried
@given(seeds, st.integers(1, 12), st.integers(1, 12))
def test_that_a_budget_allows_the_steps_that_it_pays_for(
    seed: int, items: int, options: int
) -> None:
    found = frontier(*drawn(seed, items, options, False))
    assert found.steps_within(found.costs[0] - 1) == -1
    between = (found.costs[1:] + found.costs[:-1]) / 2
    for budget in [*found.costs, *between, found.costs[-1] + 1]:
        steps = found.steps_within(float(budget))
        assert found.costs[steps] <= budget
        assert steps == len(found.items) or found.costs[steps + 1] > budget
    assert found.choices(len(found.items)).shape == (items,)
