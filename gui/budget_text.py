"""Budgets as people write and read them: 300 kB, 1.2 M, 0.8 ms, 1/8, 25 %, 4×."""

import re

from featherweight.engine.readings import Resource
from featherweight.gui import wording

TITLES: dict[Resource, str] = {
    "bits": "Stored size",
    "parameters": "Parameters",
    "macs": "MACs",
    "latency": "Latency",
}
EXAMPLES: dict[Resource, str] = {
    "bits": "300 kB",
    "parameters": "120 k",
    "macs": "1.5 M",
    "latency": "0.8 ms",
}
_BYTES = {"": 8.0, "bit": 1.0, "b": 8.0, "kb": 8e3, "mb": 8e6, "gb": 8e9}
_COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_TIMES = {"": 1.0, "ms": 1.0, "µs": 1e-3, "us": 1e-3, "s": 1e3}
_UNITS: dict[Resource, dict[str, float]] = {
    "bits": _BYTES,
    "parameters": _COUNTS,
    "macs": _COUNTS,
    "latency": _TIMES,
}
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?|\.\d+)([^\d.].*)?")


def budget_words(resource: Resource, value: float) -> str:
    """Return a budget with its unit, in three or four digits."""
    if resource == "bits":
        return wording.bits(value)
    return wording.milliseconds(value) if resource == "latency" else wording.count(value)


def read_budget(text: str, resource: Resource, source: float) -> float | None:
    """Return what was written in the unit of a resource, None where it is no budget.

    Ratios and percents are of what the `source` network costs.
    """
    found = _WRITTEN.fullmatch(re.sub(r"\s", "", text.replace("μ", "µ")).lower())
    if found is None:
        return None
    number, unit = float(found[1]), found[2] or ""
    if unit == "%":
        budget = source * number / 100
    elif unit in ("x", "×"):
        budget = source / number if number else 0.0
    elif unit.startswith("/") and _WRITTEN.fullmatch(unit[1:]):
        below = float(unit[1:]) if unit[1:].replace(".", "", 1).isdigit() else 0.0
        budget = source * number / below if below else 0.0
    elif unit in _UNITS[resource]:
        budget = number * _UNITS[resource][unit]
    else:
        return None
    return budget if budget > 0 else None


def ratio_words(share: float) -> str:
    """Return a share of the source as people say it: 1/8 where it is one of a whole, else 23 %."""
    parts = 1 / share if share > 0 else 0.0
    if share < 0.75 and abs(parts - round(parts)) < 0.02 * parts:
        return f"1/{round(parts)}"
    return wording.percent(share, 1 if share < 0.1 else 0)
