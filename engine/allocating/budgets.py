"""Budgets that are found by trying others: the smallest within a drop, and frontiers of groups."""

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from featherweight.engine.errors import UserError
from featherweight.engine.jobs import Check
from featherweight.engine.readings import RESOURCES, Allocation, AllocationRules, Limits, Resource

if TYPE_CHECKING:
    from featherweight.engine.allocating.allocator import Allocator

HALVINGS, BUDGETS = 14, 16


def smallest(
    allocator: "Allocator", limits: Limits, rules: AllocationRules, least: Resource
) -> Allocation:
    """Return the allocation of least cost whose predicted drop is within its limit.

    Raises UserError where there is none, or no drop can be told.
    """
    assert limits.drop is not None
    most = allocator.losses.damage_at(limits.drop)
    free = msgspec.structs.replace(limits, drop=None)
    best = allocator.allocate(free, rules)
    if best.damage > most:
        raise UserError(
            f"No choice keeps the drop within {limits.drop:g} points.",
            "Allow a larger one, or read more settings.",
        )
    if not allocator.groups_choose(rules):
        return allocator.cheapest(free, rules, least, most) or best
    low, high = 0.0, spent(best, least)
    # Damage rises as the budget falls.
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        tried = msgspec.structs.replace(free, **{least: min(limit_of(limits, least), middle)})
        try:
            found = allocator.allocate(tried, rules)
        except UserError:
            low = middle
            continue
        if found.damage <= most:
            best, high = found, min(middle, spent(found, least))
        else:
            low = middle
    return best


def with_groups(
    allocator: "Allocator",
    reach: tuple[float, float],
    resource: Resource,
    rules: AllocationRules,
    check: Check,
) -> list[tuple[float, float]]:
    """Return budgets and damages of whole allocations; groups go below the layers' own reach."""
    low, high = reach
    found: list[tuple[float, float]] = []
    for budget in np.geomspace(max(low / 4, 1e-9), max(high, 1e-9), BUDGETS):
        check()
        try:
            made = allocator.allocate(Limits(**{resource: float(budget)}), rules)
        except UserError:
            continue
        found.append((spent(made, resource), made.damage))
    kept: list[tuple[float, float]] = []
    for budget, loss in sorted(found):
        if not kept or loss < kept[-1][1]:
            kept.append((budget, loss))
    return kept


def spent(allocation: Allocation, resource: Resource) -> float:
    """Return what an allocation takes of a resource."""
    if resource == "latency":
        return allocation.latency or 0.0
    return float(getattr(allocation.cost, resource))


def limit_of(limits: Limits, resource: Resource) -> float:
    """Return a limit, infinite where there is none."""
    assert resource in RESOURCES
    value: float | None = getattr(limits, resource)
    return math.inf if value is None else value
