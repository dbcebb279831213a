"""What is said of flipped samples."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from featherweight.engine.results import Flip
from featherweight.gui.item_models.flip_words import FlipCounts, chance, counted, headline, verdict


@given(st.integers(0, 400), st.integers(0, 400))
def test_that_chance_is_the_exact_test_of_a_fair_coin(lost: int, won: int) -> None:
    total = lost + won
    expected = binomtest(lost, total, 0.5).pvalue if total else 1.0
    assert chance(lost, won) == pytest.approx(expected, rel=1e-9)


def test_that_flips_are_counted_by_what_became_of_them() -> None:
    flips = [Flip(sample=at, label=1, before=b, after=a) for at, (b, a) in enumerate(
        [(1, 0), (1, 2), (0, 1), (0, 2)]
    )]  # fmt: skip
    assert counted(flips, 9) == FlipCounts(lost=2, won=1, moved=1, of=9)


@pytest.mark.parametrize(
    ("counts", "labelled", "first", "second"),
    [
        (
            FlipCounts(37, 21, 12, 2000), True,
            "37 of 2,000 went from right to wrong, 21 from wrong to right (measured)",
            "The difference, \u22120.80 points, is more than chance (McNemar, p = 0.048)."
            " 12 more went from one wrong class to another.",
        ),
        (
            FlipCounts(5, 1, 0, 1000), True,
            "5 of 1,000 went from right to wrong, 1 from wrong to right (measured)",
            "The difference, \u22120.40 points, is within chance (McNemar, p = 0.22).",
        ),
        (
            FlipCounts(0, 40, 0, 2000), True,
            "0 of 2,000 went from right to wrong, 40 from wrong to right (measured)",
            "The difference, +2.00 points, is more than chance (McNemar, p < 0.001).",
        ),
        (FlipCounts(0, 0, 0, 50), True, "None of 50 samples has another class (measured)", ""),
        (
            FlipCounts(7, 0, 0, 50), False,
            "7 of 50 have another class than from the original network (measured)", "",
        ),
        (
            FlipCounts(7, 3, 1, 50), False,
            "7 of 50 left the original's class, 3 came back to it (measured)",
            "The difference, \u22128.00 points, is within chance (McNemar, p = 0.34)."
            " 1 more went between two other classes.",
        ),
    ],
)  # fmt: skip
def test_that_the_lines_tell_how_many_flipped_and_whether_that_is_chance(
    counts: FlipCounts, labelled: bool, first: str, second: str
) -> None:
    assert headline(counts, labelled) == first
    assert verdict(counts, labelled) == second
