"""The best use of a budget: the options of all layers as a knapsack, and a recipe of its solution.

Layers choose for themselves; channels that go from several layers together (a group) change what
the options of all layers around them cost. So groups and layers are decided by turns: layers by the
knapsack, with the shapes that the groups leave, then groups with what a stored weight of the layers
costs now. The best of what was found on the way is taken, the one without groups included.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from featherweight.engine.allocating.accuracy import AccuracyCurve
from featherweight.engine.allocating.budgets import limit_of, smallest, with_groups
from featherweight.engine.allocating.candidates import Group, Option
from featherweight.engine.allocating.choice_table import (
    Table,
    Whole,
    held_option,
    is_free,
    table_of,
    vector_of,
)
from featherweight.engine.allocating.losses import Losses
from featherweight.engine.allocation.frontier import frontier
from featherweight.engine.allocation.multipliers import allocated, least
from featherweight.engine.allocation.problem import Floats, Ints, problem_of
from featherweight.engine.errors import UserError
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.readings import (
    RESOURCES,
    Allocation,
    AllocationRules,
    Frontier,
    FrontierPoint,
    Limits,
    Resource,
)
from featherweight.engine.recipe import Recipe
from featherweight.engine.results import Cost

TURNS = 2
# Costs with fewer channels are told to a hundredth of the bits, and the limit must hold; in the
# order of RESOURCES.
GROUPED = np.asarray([0.985, 0.999, 0.999, 0.999])
TIGHTER = (1.0, 0.7, 0.45)
POINTS = 160
# Limits are kept with a margin where channels go.
ROOM = (1.0, 1.02, 1.1)
UNITS = {"bits": "stored bits", "parameters": "parameters", "macs": "MACs", "latency": "ms"}


class Allocator:
    """Allocates over the options of one network's layers; made anew where readings change."""

    def __init__(
        self,
        options: Mapping[str, tuple[Option, ...]],
        groups: Sequence[Group],
        whole: Whole,
        curve: AccuracyCurve | None,
        power: float = 1.0,
    ) -> None:
        """Allocate with damages that add up after they are raised to a power."""
        self._options = dict(options)
        self._groups = tuple(groups)
        self._whole = whole
        self._curve = curve
        self._power = power
        self.losses = Losses(self._options, self._groups, curve, power)

    @property
    def options(self) -> Mapping[str, tuple[Option, ...]]:
        """What every layer can choose from."""
        return self._options

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that choose."""
        return tuple(self._options)

    def with_factors(self, factors: Mapping[str, float]) -> "Allocator":
        """Return an allocator to which the damages of layers are so many times what was read."""
        options = {
            name: tuple(
                dataclasses.replace(option, damage=option.damage * factors.get(name, 1.0))
                for option in own
            )
            for name, own in self._options.items()
        }
        return Allocator(options, self._groups, self._whole, self._curve, self._power)

    def allocate(
        self, limits: Limits, rules: AllocationRules, least: Resource = "bits"
    ) -> Allocation:
        """Return the choices that lose least within limits, or with a drop those that cost least.

        Raises UserError where no choice keeps the limits, or no drop can be told.
        """
        self._check_timed(
            limits.latency is not None or (limits.drop is not None and least == "latency")
        )
        if limits.drop is not None:
            return smallest(self, limits, rules, least)
        table = self._table(rules)
        bounds = [limit_of(limits, resource) for resource in RESOURCES]
        best: Allocation | None = None
        for picked in self._turns(table, rules, bounds):
            margin = GROUPED if any(picked) else 1.0
            found = self._solved(table, list(margin * np.asarray(bounds)), picked)
            if found is not None and (best is None or found.damage < best.damage):
                best = found
            elif best is not None:
                break
        if best is None:
            raise self._too_tight(table, limits)
        return best

    def cheapest(
        self, limits: Limits, rules: AllocationRules, least: Resource, most: float
    ) -> Allocation | None:
        """Return what costs nearly the least within limits and a damage; None where nothing is.

        Groups stay as they are held.
        """
        held = tuple(held_option(group, rules) for group in self._groups)
        bounds = [limit_of(limits, resource) for resource in RESOURCES]
        return self._solved(self._table(rules), bounds, held, (RESOURCES.index(least), most))

    def groups_choose(self, rules: AllocationRules) -> bool:
        """Say whether rules leave a group of layers to choose."""
        return any(is_free(group, rules) for group in self._groups)

    def on_frontier(self, bits: float) -> Allocation:
        """Return the allocation at a point of the frontier of stored bits, or just above it.

        Raises UserError where there is none.
        """
        for room in ROOM:
            try:
                return self.allocate(Limits(bits=room * bits), AllocationRules())
            except UserError:
                continue
        return self.allocate(Limits(bits=2 * bits), AllocationRules())

    def frontier(
        self, resource: Resource, rules: AllocationRules, check: Check = unchecked
    ) -> Frontier:
        """Return the least damage for every budget of a resource.

        Raises UserError for unknowns, CancelledError.
        """
        self._check_timed(resource == "latency")
        table = self._table(rules)
        place = RESOURCES.index(resource)
        found = frontier(table.losses, table.costs[place])
        rest = table.rest[place]
        points = list(zip(found.costs + rest, self._damages(found.losses), strict=True))
        if self._groups:
            points = with_groups(self, (points[0][0], points[-1][0]), resource, rules, check)
        elif len(points) > POINTS:
            kept = np.unique(np.linspace(0, len(points) - 1, POINTS).round().astype(int))
            points = [points[each] for each in kept]
        return Frontier(
            resource=resource,
            points=tuple(self._point(float(budget), float(loss)) for budget, loss in points),
            source=float(vector_of(self._whole.cost, self._whole.latency)[place]),
            metric=self._whole.metric,
            basis="measured" if self._measured and not table.unread else "estimated",
        )

    def _check_timed(self, asked: bool) -> None:
        if asked and not self._whole.latency:
            raise UserError("The layers were not timed yet.", "Sweep once more with their latency.")

    def _damages(self, losses: Floats | float) -> Floats:
        return np.asarray(losses) ** (1 / self._power)

    @property
    def _measured(self) -> bool:
        known = [option.measured for options in self._options.values() for option in options]
        return all(known) and all(group.measured for group in self._groups)

    def _point(self, budget: float, loss: float) -> FrontierPoint:
        if self._curve is None:
            return FrontierPoint(budget, loss)
        drop = self._curve.drop(loss)
        return FrontierPoint(budget, loss, drop.value, drop.error)

    def _turns(
        self, table: Table, rules: AllocationRules, bounds: Sequence[float]
    ) -> Iterator[tuple[int, ...]]:
        """Give which option of every group to try: none first, then what taking turns leads to.

        What groups save is told as if each went alone, which is too much where two meet in one
        layer. So budgets are drawn tighter by and by.
        """
        none = tuple(held_option(group, rules) for group in self._groups)
        yield none
        open_groups = [place for place, group in enumerate(self._groups) if is_free(group, rules)]
        tried = {none}
        for share in TIGHTER if open_groups else ():
            picked = none
            for _ in range(TURNS):
                picked = self._regrouped(table, share * np.asarray(bounds), picked, open_groups)
                if picked in tried:
                    break
                tried.add(picked)
                yield picked

    def _regrouped(
        self,
        table: Table,
        bounds: Floats,
        picked: tuple[int, ...],
        open_groups: Sequence[int],
    ) -> tuple[int, ...]:
        """Return the groups' options where layers and groups choose together, shapes as now."""
        losses, costs = self._scaled(table, picked)
        chosen = self._cheapest(losses, costs, bounds - table.rest)
        rows = np.arange(len(table.names))
        spent = dict(zip(table.names, table.costs[:, rows, chosen].T, strict=True))
        known = [np.isfinite(row) for row in losses]
        all_losses = [list(row[each]) for row, each in zip(losses, known, strict=True)]
        all_costs = [costs[:, item, each].T.tolist() for item, each in enumerate(known)]
        free = bounds - table.rest
        for place in open_groups:
            group = self._groups[place]
            others = self._left([*picked[:place], 0, *picked[place + 1 :]])
            now = group.left[picked[place]]
            saved = np.asarray(
                [
                    sum(
                        (
                            spent[name] * others.get(name, 1.0) * (left.get(name, 1.0) - held)
                            for name in {*left, *now}
                            if (held := now.get(name, 1.0)) and name in spent
                        ),
                        np.zeros(len(RESOURCES)),
                    )
                    for left in group.left
                ]
            )
            # A knapsack's costs are not negative; what is added here is added to the limit.
            lowest = saved.min(0)
            free = free - lowest
            all_losses.append([damage**self._power for damage in group.damages])
            all_costs.append((saved - lowest).tolist())
        solved = allocated(problem_of(all_losses, all_costs, [float(each) for each in free]))
        found = list(picked)
        for at, place in enumerate(open_groups):
            strongest = int(np.argmax(self._groups[place].damages))
            found[place] = int(solved.choices[len(rows) + at]) if solved else strongest
        return tuple(found)

    def _cheapest(self, losses: Floats, costs: Floats, bounds: Floats) -> Ints:
        """Return the layers' options along the frontier of the limit that is furthest away."""
        shares = np.where(np.isfinite(losses), costs, np.inf).min(2).sum(1) / bounds
        worst = int(np.argmax(np.where(np.isfinite(bounds), shares, -np.inf)))
        found = frontier(losses, costs[worst])
        return found.choices(max(found.steps_within(float(bounds[worst])), 0))

    def _solved(
        self,
        table: Table,
        bounds: Sequence[float],
        picked: tuple[int, ...],
        goal: tuple[int, float] | None = None,
    ) -> Allocation | None:
        """Return the least loss within bounds, or the least of a resource within a damage."""
        losses, costs = self._scaled(table, picked)
        rest = table.rest
        known = np.isfinite(losses)
        problem = problem_of(
            [list(row[each]) for row, each in zip(losses, known, strict=True)],
            [costs[:, item, each].T.tolist() for item, each in enumerate(known)],
            [float(bound - own) for bound, own in zip(bounds, rest, strict=True)],
        )
        grouped = sum(
            group.damages[at] ** self._power for group, at in zip(self._groups, picked, strict=True)
        )
        if goal is None:
            solved = allocated(problem)
        else:
            solved = least(problem, goal[0], goal[1] ** self._power - grouped)
        if solved is None:
            return None
        places = [np.flatnonzero(each)[at] for each, at in zip(known, solved.choices, strict=True)]
        damage = float(self._damages(solved.loss + grouped))
        bits, parameters, macs, latency = solved.costs + rest
        cost = Cost(parameters=round(parameters), macs=round(macs), bits=round(bits))
        return Allocation(
            recipe=self._recipe(table, places, picked),
            damage=damage,
            cost=cost,
            drop=self.losses.drop(damage),
            latency=float(latency) if self._whole.latency else None,
            unread=tuple(table.unread),
        )

    def _recipe(self, table: Table, places: Sequence[int], picked: tuple[int, ...]) -> Recipe:
        recipe = Recipe(layers=dict(table.unread))
        for name, options, at in zip(table.names, table.options, places, strict=True):
            if name not in table.unread:
                recipe = recipe.with_choice(name, options[at].choice)
        for group, at in zip(self._groups, picked, strict=True):
            for name in group.layers if at else ():
                structure = group.choices[at].structure
                recipe = recipe.with_choice(
                    name, recipe.choice(name).replaced("structure", structure)
                )
        return recipe

    def _scaled(self, table: Table, picked: Sequence[int]) -> tuple[Floats, Floats]:
        """Return losses and costs with the shapes that the groups' options leave."""
        left = self._left(picked)
        if not left:
            return table.losses, table.costs
        share = np.asarray([left.get(name, 1.0) for name in table.names])
        pruned = {
            name
            for group, at in zip(self._groups, picked, strict=True)
            for name in (group.layers if at else ())
        }
        losses = table.losses.copy()
        for item, (name, options) in enumerate(zip(table.names, table.options, strict=True)):
            if name in pruned:
                # Channels go from the layer as it is: it cannot be a chain of factors too.
                taken = [option.choice.structure is not None for option in options]
                losses[item, : len(options)][taken] = np.inf
        return losses, table.costs * share[None, :, None]

    def _left(self, picked: Sequence[int]) -> dict[str, float]:
        left: dict[str, float] = {}
        for group, at in zip(self._groups, picked, strict=True):
            for name, share in group.left[at].items():
                left[name] = left.get(name, 1.0) * share
        return left

    def _table(self, rules: AllocationRules) -> Table:
        return table_of(self._options, self._groups, rules, self._power, self._whole)

    def _too_tight(self, table: Table, limits: Limits) -> UserError:
        least = np.where(np.isfinite(table.losses), table.costs, np.inf).min(2).sum(1)
        for resource, value, rest in zip(RESOURCES, least, table.rest, strict=True):
            limit = limit_of(limits, resource)
            if value + rest > limit and not self._groups:
                return UserError(
                    f"No choice gets below {value + rest:,.0f} {UNITS[resource]}; "
                    f"the limit is {limit:,.0f}.",
                    "Allow more, or read stronger settings.",
                )
        return UserError("No choice keeps all limits at once.", "Allow more of one of them.")
