"""Budgets as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherweight.engine.readings import RESOURCES, Resource
from featherweight.gui.budget_text import budget_words, ratio_words, read_budget

SOURCE = 8e6


@pytest.mark.parametrize(
    ("text", "resource", "budget"),
    [
        ("300 kB", "bits", 2.4e6),
        ("1.5mb", "bits", 1.2e7),
        ("512", "bits", 4096.0),
        ("800 bit", "bits", 800.0),
        ("1/8", "bits", 1e6),
        ("3 / 4", "macs", 6e6),
        ("12.5 %", "parameters", 1e6),
        ("4×", "bits", 2e6),
        ("4x", "latency", 2e6),
        ("9\u202f408", "parameters", 9408.0),
        ("23.5 k", "parameters", 23500.0),
        (".8 ms", "latency", 0.8),
        ("800 μs", "latency", 0.8),
        ("2 s", "latency", 2000.0),
    ],
)
def test_that_a_budget_is_read_in_any_way_that_people_write_it(
    text: str, resource: Resource, budget: float
) -> None:
    assert read_budget(text, resource, SOURCE) == pytest.approx(budget)


@pytest.mark.parametrize(
    "text", ["", "small", "0", "0x", "1/0", "1/", "1//2", "1/2k", "-3 kB", "3 ms", "nan", "1.2.3"]
)
def test_that_what_is_no_budget_is_refused(text: str) -> None:
    assert read_budget(text, "bits", SOURCE) is None


@pytest.mark.parametrize("resource", RESOURCES)
@given(exponent=st.floats(3, 9))
def test_that_a_budget_as_it_is_shown_can_be_written_again(
    resource: Resource, exponent: float
) -> None:
    budget = 10**exponent * (1e-4 if resource == "latency" else 1)
    written = read_budget(budget_words(resource, budget), resource, SOURCE)
    assert written == pytest.approx(budget, rel=0.04)


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.125, "1/8"), (0.334, "1/3"), (0.47, "47 %"), (0.9, "90 %"), (0.0625, "1/16"), (1, "100 %")],
)  # fmt: skip
def test_that_a_share_of_the_source_is_said_as_people_say_it(share: float, words: str) -> None:
    assert ratio_words(share) == words
