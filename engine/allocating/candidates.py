"""What every layer can choose from, made of the readings of an atlas.

A layer's options are the choices that were read of it alone, and those put together of two or three
of them in different slots: their damages add up, times what the outputs of the layer alone say, and
times what measured pairs of the same methods came to. Channels that go from several layers together
are a group, an item of its own.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from featherweight.engine.allocating.layer_costs import LayerCosts
from featherweight.engine.allocating.layer_errors import LayerErrors
from featherweight.engine.errors import UserError
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.structure.channel_pruning import ChannelPruning
from featherweight.engine.options import SLOTS, Slot
from featherweight.engine.readings import Reading
from featherweight.engine.recipe import Choice, Setting
from featherweight.engine.results import Cost

# Slots in which one choice goes with one of another; codings come by themselves.
TOGETHER: tuple[tuple[Slot, ...], ...] = (("structure", "precision"), ("sparsity", "precision"))
Pair = tuple[str, ...]


@dataclass(frozen=True)
class Option:
    """One choice of one layer: the damage it does alone, and what the layer then costs."""

    choice: Choice
    damage: float
    cost: Cost
    latency: float
    measured: bool = True


@dataclass(frozen=True)
class Group:
    """Layers that lose channels together: settings, their damages, and which share of each layer.

    `left` has for every option the share of parameters that stays, of each layer that changes.
    """

    layers: tuple[str, ...]
    choices: tuple[Choice, ...]
    damages: tuple[float, ...]
    left: tuple[Mapping[str, float], ...]
    measured: bool = True


def slots_of(choice: Choice) -> tuple[Slot, ...]:
    """Return the slots that change what a layer computes."""
    return tuple(slot for slot in SLOTS if slot != "coding" and choice.setting(slot) is not None)


def is_pruning(choice: Choice) -> bool:
    """Say whether a choice takes channels away."""
    return choice.structure is not None and choice.structure.method == ChannelPruning.name


def layer_options(
    readings: Iterable[Reading],
    costs: LayerCosts,
    errors: LayerErrors,
    times: float,
    factors: Mapping[Pair, float],
    check: Check = unchecked,
) -> tuple[Option, ...]:
    """Return the options of one layer, the first of which leaves it as it is.

    `times` are the milliseconds it takes now, `factors` by which sums of damages are multiplied, by
    the names of the methods. Choices that do not go together are left out. Raises CancelledError.
    """
    known = [reading for reading in readings if reading.damage and not is_pruning(reading.choice)]
    singles: dict[Slot, list[Reading]] = {slot: [] for slot in SLOTS}
    for reading in known:
        if len(slots := slots_of(reading.choice)) == 1:
            singles[slots[0]].append(reading)
    told = {_key(reading.choice): reading for reading in known}
    plain, cost = costs.cheapest(Choice(), check)
    found = [Option(plain, 0.0, cost, times)]
    for parts in _combinations(singles):
        check()
        choice = _joined(parts)
        joint = told.get(_key(choice))
        sources = (joint,) if joint else parts
        factor = 1.0
        if joint is None and len(parts) > 1:
            grown = errors.growth([part.choice for part in parts], choice, check)
            factor = grown * factors.get(_names(choice), 1.0)
        damage = factor * sum(max(each.damage.value, 0.0) for each in sources if each.damage)
        try:
            cheapest, cost = costs.cheapest(choice, check)
        except UserError:
            continue
        measured = all(each.basis == "measured" for each in sources)
        found.append(Option(cheapest, damage, cost, _time(times, parts), measured))
    return tuple(found)


def pair_factors(
    readings: Sequence[Reading], errors: Callable[[str], LayerErrors], check: Check = unchecked
) -> dict[Pair, float]:
    """Return by how much measured choices of several slots lose more than is told of their parts.

    The median over layers, by the names of the methods; never under a half or over four.
    """
    alone = {
        (reading.layers, _key(reading.choice)): reading.damage.value
        for reading in readings
        if reading.damage and len(slots_of(reading.choice)) == 1
    }
    ratios: dict[Pair, list[float]] = {}
    for reading in readings:
        slots = slots_of(reading.choice)
        if reading.damage is None or len(slots) < 2 or len(reading.layers) > 1:
            continue
        parts = [Choice().replaced(slot, reading.choice.setting(slot)) for slot in slots]
        keys = [(reading.layers, _key(part)) for part in parts]
        if all(key in alone for key in keys) and (total := sum(alone[key] for key in keys)) > 0:
            told = total * errors(reading.layers[0]).growth(parts, reading.choice, check)
            ratios.setdefault(_names(reading.choice), []).append(reading.damage.value / told)
    return {names: min(max(float(np.median(found)), 0.5), 4.0) for names, found in ratios.items()}


def _combinations(singles: Mapping[Slot, Sequence[Reading]]) -> Iterable[tuple[Reading, ...]]:
    for slot in ("structure", "sparsity", "precision"):
        yield from ((reading,) for reading in singles[slot])
    for slots in TOGETHER:
        yield from itertools.product(*(singles[slot] for slot in slots))


def _joined(parts: Sequence[Reading]) -> Choice:
    choice = Choice()
    for part in parts:
        for slot in SLOTS:
            if (setting := part.choice.setting(slot)) is not None:
                choice = choice.replaced(slot, setting)
    return choice


def _time(times: float, parts: Sequence[Reading]) -> float:
    """Return milliseconds: what each part takes of the time, the others take of what is left."""
    shares = (1 + part.latency / times for part in parts if part.latency is not None and times)
    return times * math.prod(max(share, 0.01) for share in shares)


def _names(choice: Choice) -> Pair:
    settings: list[Setting | None] = [choice.setting(slot) for slot in slots_of(choice)]
    return tuple(setting.method for setting in settings if setting)


def _key(choice: Choice) -> bytes:
    return msgspec.json.encode(choice)
