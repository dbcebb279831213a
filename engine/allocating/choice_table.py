"""The options that rules leave, as arrays for the knapsack."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from featherweight.engine.allocating.candidates import Group, Option
from featherweight.engine.allocation.problem import Floats
from featherweight.engine.errors import UserError
from featherweight.engine.methods.coding.ans import Ans
from featherweight.engine.options import SLOTS
from featherweight.engine.readings import RESOURCES, AllocationRules
from featherweight.engine.recipe import Choice
from featherweight.engine.results import Cost


@dataclass(frozen=True)
class Table:
    """Losses are (items, options), inf behind an item's last one; costs (resources, items, …).

    `unread` are fixed choices of layers that have no options.
    """

    unread: Mapping[str, Choice]
    names: list[str]
    options: list[tuple[Option, ...]]
    losses: Floats
    costs: Floats


def table_of(
    options: Mapping[str, tuple[Option, ...]], rules: AllocationRules, power: float
) -> Table:
    """Return what the layers may choose from, their losses being damages raised to a power.

    Raises UserError where no layer was read.
    """
    if not options:
        raise UserError("No layer of the network tells its shape, so nothing can be allocated.")
    kept = [_allowed(name, own, rules) for name, own in options.items()]
    widest = max(map(len, kept))
    losses = np.full((len(kept), widest), np.inf)
    costs = np.zeros((len(RESOURCES), len(kept), widest))
    for item, own in enumerate(kept):
        losses[item, : len(own)] = [option.damage**power for option in own]
        vectors = [vector_of(option.cost, option.latency) for option in own]
        costs[:, item, : len(own)] = np.asarray(vectors).T
    unread = {name: choice for name, choice in rules.fixed.items() if name not in options}
    return Table(unread, list(options), kept, losses, costs)


def vector_of(cost: Cost, latency: float) -> Floats:
    """Return a cost in the order of RESOURCES."""
    return np.asarray([cost.bits, cost.parameters, cost.macs, latency], dtype=np.float64)


def alike(one: Choice, other: Choice) -> bool:
    """Say whether two choices make the same network, however it is coded."""
    return all(one.setting(slot) == other.setting(slot) for slot in SLOTS if slot != "coding")


def methods_of(choice: Choice) -> set[str]:
    """Return the names of the methods of a choice."""
    return {setting.method for slot in SLOTS if (setting := choice.setting(slot)) is not None}


def is_free(group: Group, rules: AllocationRules) -> bool:
    """Say whether rules leave a group to choose."""
    held = {*rules.excluded, *rules.fixed}
    methods = {method for choice in group.choices for method in methods_of(choice)}
    return not held & set(group.layers) and (not rules.methods or methods <= set(rules.methods))


def held_option(group: Group, rules: AllocationRules) -> int:
    """Return the option of a group that its fixed layers have, 0 where they have none of them."""
    fixed = {name: rules.fixed[name] for name in group.layers if name in rules.fixed}
    for place, choice in enumerate(group.choices):
        if any(other.structure == choice.structure for other in fixed.values()):
            return place
    return 0


def _allowed(name: str, options: tuple[Option, ...], rules: AllocationRules) -> tuple[Option, ...]:
    if name in rules.excluded:
        return options[:1]
    if name in rules.fixed:
        same = [option for option in options if alike(option.choice, rules.fixed[name])]
        unread = Option(rules.fixed[name], 0.0, options[0].cost, options[0].latency, False)
        return (same[0] if same else unread,)
    if not rules.methods:
        return options
    allowed = {*rules.methods, Ans.name}
    return tuple(option for option in options if methods_of(option.choice) <= allowed)
