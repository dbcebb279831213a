"""What the equivariance of a layer says to a person: how far off, and which method it suits."""

from collections.abc import Iterable, Mapping

from featherweight.engine.layer import Equivariance
from featherweight.gui import wording

# Below it the filters are enough like each other's images for a method that ties them.
NEAR = 0.3
SUITS = {
    "horizontal flip": "rotations",
    "vertical flip": "rotations",
    "rotation by 90°": "rotations",
    "negation": "negation",
    "shift of the bias": "multi_bias",
}


def equivariance_facts(found: Iterable[Equivariance], titles: Mapping[str, str]) -> dict[str, str]:
    """Return a line for each transformation; `titles` are those of the methods by name."""
    return {
        one.transformation[0].upper() + one.transformation[1:]: _line(one, titles) for one in found
    }


def _line(one: Equivariance, titles: Mapping[str, str]) -> str:
    error = "exact" if one.error < 1e-5 else f"off by {wording.percent(one.error)}"
    title = titles.get(SUITS.get(one.transformation, ""), "")
    return f"{error}; {title} suits it" if title and one.error < NEAR else error
