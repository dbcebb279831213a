"""Readings along a curve made to rise."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from featherweight.engine.readings import Spread
from featherweight.engine.smoothing import smoothed

SPREADS = st.builds(Spread, st.floats(-1, 10), st.floats(0.01, 2))


@given(st.lists(SPREADS, min_size=1, max_size=12))
def test_that_smoothed_readings_are_the_nearest_that_never_fall(damages: list[Spread]) -> None:
    values = smoothed(damages)
    raw = np.array([spread.value for spread in damages])
    weights = np.array([spread.error**-2 for spread in damages])
    np.testing.assert_allclose(values, isotonic_regression(raw, weights=weights).x, atol=1e-9)


def test_that_readings_that_rise_stay_and_a_sure_one_draws_an_unsure_one() -> None:
    rising = [Spread(0.0, 0.0), Spread(0.1, 0.01), Spread(0.3, 0.1)]
    assert smoothed(rising) == (0.0, 0.1, 0.3)
    first, second = smoothed([Spread(1.0, 1.0), Spread(0.0, 0.1)])
    assert first == second
    assert abs(second - 1 / 101) < 1e-12
    assert smoothed([]) == ()
