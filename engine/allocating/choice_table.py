"""The options that rules leave, as arrays for the knapsack."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from featherweight.engine.allocating.candidates import Group, Option
from featherweight.engine.allocation.problem import Floats
from featherweight.engine.errors import UserError
from featherweight.engine.methods.coding.ans import Ans
from featherweight.engine.options import SLOTS
from featherweight.engine.readings import RESOURCES, AllocationRules
from featherweight.engine.recipe import Choice, Recipe
from featherweight.engine.results import Cost, Prediction


@dataclass(frozen=True)
class Whole:
    """What the source network costs in all, by what name its metric goes, and how recipes cost.

    `predict` raises UserError where a recipe cannot be carried out.
    """

    cost: Cost
    latency: float
    metric: str
    predict: Callable[[Recipe], Prediction]


@dataclass(frozen=True)
class Table:
    """Losses are (items, options), inf behind an item's last one; costs (resources, items, …).

    `unread` are fixed choices of which nothing was read: their layers have one option, which costs
    what is predicted and loses nothing, and all others cost what such channels leave of them.
    `rest` is what the network costs beside the layers that choose, in the order of RESOURCES.
    """

    unread: Mapping[str, Choice]
    names: list[str]
    options: list[tuple[Option, ...]]
    losses: Floats
    costs: Floats
    rest: Floats


def table_of(
    options: Mapping[str, tuple[Option, ...]],
    groups: Sequence[Group],
    rules: AllocationRules,
    power: float,
    whole: Whole,
) -> Table:
    """Return what the layers may choose from, their losses being damages raised to a power.

    What fixed layers lose with their whole group counts as read where the group was.

    Raises UserError where no layer tells its shape, or an unread choice cannot be carried out.
    """
    if not options:
        raise UserError("No layer of the network tells its shape, so nothing can be allocated.")
    fixed = {name: _alone(name, choice, groups) for name, choice in rules.fixed.items()}
    unread = {
        name: rules.fixed[name]
        for name, choice in fixed.items()
        if name not in rules.excluded and not choice.empty and not _same(options.get(name), choice)
    }
    told = whole.predict(Recipe(layers=unread)) if unread else None
    kept = [
        own[:1] if name in rules.excluded else _allowed(own, fixed.get(name), rules)
        for name, own in options.items()
    ]
    widest = max(map(len, kept))
    losses = np.full((len(kept), widest), np.inf)
    costs = np.zeros((len(RESOURCES), len(kept), widest))
    rest = vector_of(told.after if told else whole.cost, whole.latency)
    for item, (name, own) in enumerate(zip(options, kept, strict=True)):
        losses[item, : len(own)] = [option.damage**power for option in own]
        vectors = np.asarray([vector_of(option.cost, option.latency) for option in own])
        source = vector_of(options[name][0].cost, options[name][0].latency)
        after = told.layers.get(name) if told else None
        if after is not None and name in unread:
            source = vectors[0] = vector_of(after, source[-1])
        elif after is not None and after.parameters != options[name][0].cost.parameters:
            share = after.parameters / options[name][0].cost.parameters
            source, vectors = share * source, share * vectors
        rest -= source
        costs[:, item, : len(own)] = vectors.T
    return Table(unread, list(options), kept, losses, costs, rest)


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


def _allowed(
    options: tuple[Option, ...], fixed: Choice | None, rules: AllocationRules
) -> tuple[Option, ...]:
    if fixed is not None:
        return _same(options, fixed) or options[:1]
    if not rules.methods:
        return options
    allowed = {*rules.methods, Ans.name}
    return tuple(option for option in options if methods_of(option.choice) <= allowed)


def _same(options: tuple[Option, ...] | None, choice: Choice) -> tuple[Option, ...]:
    return tuple(option for option in options or () if alike(option.choice, choice))[:1]


def _alone(name: str, choice: Choice, groups: Sequence[Group]) -> Choice:
    """Return what of a choice concerns its layer alone: not the channels that its group loses."""
    together = any(
        name in group.layers and other.structure == choice.structure
        for group in groups
        for other in group.choices[1:]
    )
    return choice.replaced("structure", None) if together else choice
