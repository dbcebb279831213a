"""The strengths at which a curve is computed, and in which order."""

from typing import TypeVar

import msgspec
from torch import nn

from featherweight.engine.methods.method import FactorMethod, Method
from featherweight.engine.methods.structure.best_structure import BestStructure
from featherweight.engine.options import Option, Scalar, Slot
from featherweight.engine.recipe import Recipe, Setting

M = TypeVar("M", bound=Method)

POINTS = 10
# As sliders do, ranges of several orders of magnitude are divided by factors.
BENT = 500


def strength_of(method: Method | None) -> Option | None:
    """Return the option that is a method's strength, None where it is no number."""
    if method is None:
        return None
    option = next((o for o in method.description().options if o.name == method.strength), None)
    if option is None or option.kind == "switch":
        return None
    numbers = all(isinstance(choice, int | float) for choice in option.choices)
    return option if option.kind != "choice" or numbers else None


def grid(option: Option) -> list[float]:
    """Return the strengths of a curve, rising: every choice, or about ten over the range."""
    if option.kind == "choice":
        return sorted(float(choice) for choice in option.choices)
    low, high = option.minimum or 0.0, option.maximum or 1.0
    steps = [place / (POINTS - 1) for place in range(POINTS)]
    if high - low >= BENT and low > 0:
        found = [low * (high / low) ** step for step in steps]
    elif high - low >= BENT:
        found = [low + (high - low) * step**3 for step in steps]
    else:
        found = [low + (high - low) * step for step in steps]
    places = 0 if option.kind == "integer" else 3
    return sorted({round(strength, places) for strength in found})


def in_order(layer: nn.Module, method: Method, option: Option) -> list[float]:
    """Return the strengths of a curve, those that are cheap to compute first.

    Of structures these hold the fewest weights; elsewhere the nearest to the default come first.
    """
    strengths = grid(option)
    if isinstance(method, FactorMethod) and not isinstance(method, BestStructure):
        held = {}
        for strength in strengths:
            chain = moved(method, option, strength).skeleton(layer)
            held[strength] = sum(value.numel() for value in chain.parameters())
        return sorted(strengths, key=lambda strength: held[strength])
    return sorted(strengths, key=lambda strength: abs(strength - float(option.default)))


def as_value(option: Option, strength: float) -> Scalar:
    """Return a strength as the value of its option."""
    if option.kind == "choice":
        return next(choice for choice in option.choices if choice == strength)
    return round(strength) if option.kind == "integer" else strength


def moved(method: M, option: Option, strength: float) -> M:
    """Return a method with another strength."""
    return msgspec.structs.replace(method, **{option.name: as_value(option, strength)})


def with_strength(recipe: Recipe, name: str, slot: Slot, option: Option, strength: float) -> Recipe:
    """Return a recipe with another strength in a slot of a layer, and of its whole pool."""
    before = recipe.choice(name).setting(slot)
    assert before is not None
    after = Setting(before.method, before.options | {option.name: as_value(option, strength)})
    for other, choice in recipe.layers.items():
        if choice.setting(slot) == before:
            recipe = recipe.with_choice(other, choice.replaced(slot, after))
    return recipe
