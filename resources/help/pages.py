"""The help pages, found by the name of what they are about."""

from functools import cache
from importlib.resources import files


@cache
def method_page(name: str) -> str:
    """Return the page of a method, in Markdown; empty where there is none."""
    page = files("featherweight.resources.help.methods").joinpath(f"{name}.md")
    return page.read_text("utf-8") if page.is_file() else ""
