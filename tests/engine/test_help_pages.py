"""Every method has its page, and the page tells what the method really has."""

import re

import pytest

from featherweight.engine.methods.registry import methods
from featherweight.resources.help.pages import method_page

HEADINGS = ["What it does", "Formula", "When to use it", "When not to", "Options", "Paper"]
# What fits beside the list of methods without scrolling sideways.
WIDEST_FORMULA = 76


def section(page: str, heading: str) -> str:
    return page.partition(f"## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("method", list(methods()))
def test_that_a_methods_page_has_its_parts_and_its_title(method: str) -> None:
    page = method_page(method)
    assert page.splitlines()[0] == f"# {methods()[method].title}"
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == HEADINGS
    assert all(section(page, heading).strip() for heading in HEADINGS[:-2])
    formula = section(page, "Formula")
    assert formula.count("```") == 2
    assert max(map(len, formula.partition("```")[2].partition("```")[0].splitlines())) <= (
        WIDEST_FORMULA
    )


@pytest.mark.parametrize("method", list(methods()))
def test_that_a_methods_page_tells_every_option_it_has_and_no_other(method: str) -> None:
    told = re.findall(r"^- \*\*(.*?)\*\*:", section(method_page(method), "Options"), re.MULTILINE)
    assert told == [option.title for option in methods()[method].description().options]


def test_that_an_unknown_method_has_no_page() -> None:
    assert method_page("../pages") == ""
    assert method_page("magic") == ""
