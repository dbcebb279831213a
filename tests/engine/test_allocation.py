"""The best use of several limits at once, held against all choices and the exact solver."""

import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.engine.allocation.exact import optimum
from featherweight.engine.allocation.multipliers import allocated, least
from featherweight.engine.allocation.problem import (
    Floats,
    Ints,
    Problem,
    Solution,
    problem_of,
    solution,
    swapped,
)

# A busy machine makes single examples slow.
unhurried = settings(deadline=None)
few = settings(deadline=None, max_examples=25)
KINDS = ("even", "curves", "integers", "differences")
seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int, kind: str, items: int, options: int, limits: int) -> Problem:
    """Return a problem of items with different numbers of options.

    Curves are those of layers: the more a layer costs the less it loses, by orders of magnitude.
    The limits are what some choice costs, or a little less of it.
    """
    generator = np.random.default_rng(seed)
    shape = (items, options)
    if kind == "integers":
        losses = generator.integers(0, 9, shape).astype(float)
        costs = generator.integers(-3, 6, (limits, *shape)).astype(float)
    elif kind == "even":
        losses, costs = generator.random(shape), generator.random((limits, *shape))
    else:
        left = generator.uniform(0.02, 1, shape)
        worst, power = 10 ** generator.uniform(-5, 0.7, (items, 1)), generator.uniform(1, 5, shape)
        losses = worst * (1 - left) ** power
        sizes = 10 ** generator.uniform(2, 6, (limits, items, 1))
        costs = sizes * left ** generator.uniform(0, 1.5, (limits, *shape))
        costs -= sizes if kind == "differences" else 0
    counts = generator.integers(1, options + 1, items)
    losses[np.arange(options) >= counts[:, None]] = np.inf
    known = np.isfinite(losses)
    some = (generator.random(shape) * known).argmax(1)
    cheapest = np.where(known, costs, np.inf).min(2).sum(1)
    spent = costs[:, np.arange(items), some].sum(1)
    share = generator.choice([1.0, 0.9, 0.5, generator.random()])
    return Problem(losses, costs, cheapest + share * (spent - cheapest))


def best_of_all(problem: Problem) -> Solution | None:
    """Try every choice."""
    counts = np.isfinite(problem.losses).sum(1)
    choices = np.array(list(product(*map(range, counts))))
    rows = np.arange(problem.items)
    fits = (problem.costs[:, rows, choices].sum(2) <= problem.bounds()[:, None]).all(0)
    losses = np.where(fits, problem.losses[rows, choices].sum(1), np.inf)
    found = int(losses.argmin())
    return solution(problem, choices[found]) if fits[found] else None


def nothing(problem: Problem) -> float:
    """Return what counts as no loss: a millionth of the range of the summed losses."""
    known = np.isfinite(problem.losses)
    most = problem.losses.max(1, where=known, initial=-np.inf)
    return 1e-6 * float((most - problem.losses.min(1)).sum())


def assert_near(found: Solution | None, best: Solution | None, problem: Problem) -> None:
    """Fail unless what was found is within the limits and within 0.5 % of the best."""
    assert (found is None) == (best is None)
    if found is None or best is None:
        return
    assert np.isfinite(found.loss)
    # Sums of some ten numbers differ by less than this where they are taken in another order.
    slack = 1e-9 * np.abs(problem.limits) + 1e-12 * np.abs(problem.costs).max(2).sum(1)
    assert (found.costs <= problem.limits + slack).all()
    assert found.loss <= best.loss + 0.005 * max(abs(best.loss), nothing(problem))


@unhurried
@given(seeds, st.sampled_from(KINDS), st.integers(1, 5), st.integers(1, 5), st.integers(0, 4))
def test_that_small_problems_are_solved_like_by_trying_every_choice(
    seed: int, kind: str, items: int, options: int, limits: int
) -> None:
    problem = drawn(seed, kind, items, options, limits)
    assert_near(allocated(problem), best_of_all(problem), problem)


@few
@given(seeds, st.sampled_from(KINDS), st.integers(1, 5), st.integers(1, 5), st.integers(0, 4))
def test_that_the_exact_solver_finds_the_best_of_all_choices(
    seed: int, kind: str, items: int, options: int, limits: int
) -> None:
    problem = drawn(seed, kind, items, options, limits)
    found, best = optimum(problem), best_of_all(problem)
    assert_near(found, best, problem)
    if found is not None and best is not None:
        assert found.loss <= best.loss + 1e-5 * max(abs(best.loss), nothing(problem))


@few
@given(seeds, st.sampled_from(KINDS), st.integers(6, 30), st.integers(2, 60), st.integers(1, 4))
def test_that_networks_of_many_layers_come_within_half_a_per_cent_of_the_optimum(
    seed: int, kind: str, items: int, options: int, limits: int
) -> None:
    problem = drawn(seed, kind, items, options, limits)
    assert_near(allocated(problem), optimum(problem, gap=1e-5), problem)


@unhurried
@given(seeds, st.sampled_from(KINDS), st.integers(1, 5), st.integers(1, 5), st.floats(0, 1))
def test_that_the_least_of_a_resource_is_found_under_a_limit_of_loss(
    seed: int, kind: str, items: int, options: int, share: float
) -> None:
    problem = drawn(seed, kind, items, options, 3)
    lowest = problem.losses.min(1).sum()
    most = float(lowest + share * nothing(problem) * 1e6)
    other = swapped(problem, 1, most)
    found, best = least(problem, 1, most), best_of_all(other)
    assert (found is None) == (best is None)
    if found is not None and best is not None:
        assert problem.fits(found.choices)
        assert found.loss <= most * (1 + 1e-9) + 1e-12
        allowed = 0.005 * max(abs(best.loss), nothing(other))
        assert found.costs[1] <= best.loss + allowed
        assert found.loss == pytest.approx(problem.loss(found.choices))


@few
@given(seeds, st.integers(2, 20), st.integers(2, 30))
def test_that_the_least_of_a_resource_agrees_with_the_exact_solver(
    seed: int, items: int, options: int
) -> None:
    problem = drawn(seed, "curves", items, options, 2)
    most = float(0.7 * problem.losses.min(1).sum() + 0.3e6 * nothing(problem))
    found, best = least(problem, 0, most), optimum(swapped(problem, 0, most), gap=1e-5)
    assert (found is None) == (best is None)
    if found is not None and best is not None:
        assert found.costs[0] <= 1.005 * best.loss


@unhurried
@given(seeds, st.sampled_from(KINDS), st.integers(1, 12), st.integers(1, 20))
def test_that_a_limit_below_the_cheapest_of_all_is_found_impossible(
    seed: int, kind: str, items: int, options: int
) -> None:
    problem = drawn(seed, kind, items, options, 2)
    known = np.where(np.isfinite(problem.losses), problem.costs, np.inf)
    lowest = known.min(2).sum(1)
    below = lowest - 1e-6 * np.abs(problem.costs).max() - 1e-6
    for limits in ([below[0], np.inf], [np.inf, below[1]]):
        assert allocated(Problem(problem.losses, problem.costs, np.array(limits))) is None


def test_that_limits_which_exclude_each_other_are_found_impossible() -> None:
    # Whatever is saved of one resource is spent of the other.
    costs: Floats = np.linspace(0, 1, 11)[None].repeat(20, 0)
    both = np.stack([costs, 1 - costs])
    losses: Floats = np.random.default_rng(0).random(costs.shape)
    assert allocated(Problem(losses, both, np.array([9.99, 9.99]))) is None
    found = allocated(Problem(losses, both, np.array([10.01, 10.01])))
    assert found is not None
    assert (found.costs <= 10.01).all()


def test_that_a_limit_which_only_one_choice_meets_leads_to_that_choice() -> None:
    generator = np.random.default_rng(1)
    losses, costs = generator.random((30, 20)), generator.random((2, 30, 20))
    cheapest: Ints = costs[0].argmin(1)
    costs[:, np.arange(30), cheapest] = 0.0
    found = allocated(Problem(losses, costs, np.zeros(2)))
    assert found is not None
    assert found.choices.tolist() == cheapest.tolist()


def test_that_layers_of_one_option_keep_it_and_count_in_the_limits() -> None:
    losses = [[0.5], [0.0, 0.2, 1.0], [0.0, 0.1]]
    costs = [[[7.0]], [[9.0], [5.0], [1.0]], [[6.0], [4.0]]]
    found = allocated(problem_of(losses, costs, [16.0]))
    assert found is not None
    assert found.choices.tolist() == [0, 1, 1]
    assert found.loss == pytest.approx(0.8)
    assert found.costs.tolist() == [16.0]
    assert allocated(problem_of(losses, costs, [11.9])) is None


def test_that_without_limits_or_layers_nothing_needs_to_be_lost() -> None:
    free = problem_of([[3.0, 1.0, 2.0]], [[[1.0], [9.0], [1.0]]], [np.inf])
    found = allocated(free)
    assert found is not None
    assert found.choices.tolist() == [1]
    none = allocated(problem_of([], [], [1.0]))
    assert none is not None
    assert none.loss == 0


@pytest.mark.parametrize(
    ("losses", "message"), [([[1.0], []], "no option"), ([[1.0], [np.nan]], "not finite")]
)
def test_that_problems_without_options_or_numbers_are_refused(
    losses: list[list[float]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        problem_of(losses, [[[1.0]] * len(one) for one in losses], [1.0])


def test_that_the_exact_solver_is_loaded_only_where_it_is_asked() -> None:
    script = (
        "import sys; from featherweight.engine.allocation.multipliers import allocated;"
        "from featherweight.engine.allocation.problem import problem_of;"
        "allocated(problem_of([[0, 1], [0, 2]], [[[2], [1]], [[2], [1]]], [3]));"
        "sys.exit('scipy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
