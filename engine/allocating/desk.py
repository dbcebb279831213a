"""What a session asks of allocations, for one network with its task and the readings it has."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from featherweight.engine.allocating.accuracy import Tried
from featherweight.engine.allocating.allocator import Allocator
from featherweight.engine.allocating.budgets import spent
from featherweight.engine.allocating.candidates import is_pruning, slots_of
from featherweight.engine.allocating.comparing import Comparison
from featherweight.engine.allocating.planner import Planner
from featherweight.engine.allocating.true_networks import Truth, guilty, refined, tried_out
from featherweight.engine.errors import UserError
from featherweight.engine.jobs import Check, Job, unchecked
from featherweight.engine.readings import (
    RESOURCES,
    Allocation,
    AllocationRules,
    Frontier,
    Guilt,
    Limits,
    Reading,
    Resource,
)
from featherweight.engine.recipe import Choice, Recipe
from featherweight.engine.writing.files import make_folder, write_file

# Frontiers are looked at in so many places for combinations to read.
BUDGETS = 10
TIGHTENINGS = 4


class AllocationDesk:
    """Answers for one network and task; questions may come from several threads.

    `readings` gives what is known just now. `chooses` compares on the samples that may decide
    between networks, `judges` on those that results are judged by: only how the metric falls with
    the damage is learned from them.
    """

    def __init__(
        self,
        planner: Planner,
        readings: Callable[[], Sequence[Reading]],
        chooses: Comparison,
        judges: Comparison,
        metric: str,
    ) -> None:
        self._planner, self._readings, self._metric = planner, readings, metric
        self._chooses, self._judges = chooses, judges
        self._tried: tuple[Tried, ...] = ()

    def allocate(self, limits: Limits, rules: AllocationRules, least: Resource) -> Allocation:
        """Return the best choices within limits. Raises UserError where there are none."""
        return self._counted(self._allocator(), limits, rules, least)

    def frontier(self, resource: Resource, rules: AllocationRules) -> Frontier:
        """Return the least damage for every budget. Raises UserError where nothing was read."""
        return self._allocator().frontier(resource, rules)

    def refine(self, limits: Limits, rules: AllocationRules, job: Job) -> Allocation:
        """Return an allocation corrected by the real network. Raises UserError, CancelledError."""

        def allocate(allocator: Allocator) -> Allocation:
            return self._counted(allocator, limits, rules, "bits")

        return refined(self._allocator(job.check), allocate, self._chosen_by(job), job)

    def blame(self, recipe: Recipe, job: Job) -> tuple[Guilt, ...]:
        """Name the layers that lose more than predicted. Raises UserError, CancelledError."""
        return guilty(recipe, self._allocator(job.check), self._chosen_by(job), job)

    @property
    def latency(self) -> float:
        """Milliseconds of all layers as they are; zero while they were not timed."""
        return self._planner.latency

    def time_layers(self, folder: Path, integers: bool, check: Check) -> None:
        """Time every layer as it is. Raises UserError, CancelledError."""
        self._planner.time_layers(folder, integers, check)

    def combinations(self, check: Check) -> dict[str, tuple[Choice, ...]]:
        """Return, by layer, the choices of several slots that the frontier of single ones has.

        Damages that add up are the first guess; what is read of these says how they really do.
        They are told of the single readings alone, so that a second sweep finds the same.
        """
        singles = [each for each in self._readings() if len(slots_of(each.choice)) == 1]
        allocator = self._planner.allocator(singles, (), self._metric, check)
        if not allocator.options:
            return {}
        points = allocator.frontier("bits", AllocationRules()).points
        found: dict[str, dict[str, Choice]] = {}
        for point in points[:: max(1, len(points) // BUDGETS)]:
            check()
            made = allocator.on_frontier(point.budget)
            for name, choice in made.recipe.layers.items():
                plain = choice.replaced("coding", None)
                if len(slots_of(plain)) > 1 and not is_pruning(plain):
                    found.setdefault(name, {})[repr(plain)] = plain
        return {name: tuple(choices.values()) for name, choices in found.items()}

    def calibrate(self, kept: Path, job: Job) -> None:
        """Learn how the metric falls with the damage, from whole networks of the frontier.

        What was measured is kept in the file `kept`. Raises UserError, CancelledError.
        """
        truths = _read(kept)
        asked = self._planner.allocator(self._readings(), (), self._metric, job.check)
        if not asked.options:
            return

        def measure(recipe: Recipe) -> Truth:
            key = msgspec.json.encode(recipe).decode()
            if key not in truths:
                truths[key] = self._judges.truth(recipe, job)
                make_folder(kept.parent)
                write_file(kept, msgspec.json.encode(truths))
            return truths[key]

        self._tried = tried_out(asked, measure, job)

    def _counted(
        self, allocator: Allocator, limits: Limits, rules: AllocationRules, least: Resource
    ) -> Allocation:
        found = allocator.allocate(limits, rules, least)
        for _ in range(TIGHTENINGS):
            # Where channels go, what layers cost is told by shares: the whole is counted once more.
            if not any(is_pruning(choice) for choice in found.recipe.layers.values()):
                break
            found = msgspec.structs.replace(found, cost=self._planner.cost(found.recipe))
            over = {
                resource: spent(found, resource) / limit
                for resource in RESOURCES
                if (limit := getattr(limits, resource)) is not None
            }
            if max(over.values(), default=0.0) <= 1:
                break
            tighter = {
                resource: getattr(limits, resource) / max(share, 1.0) ** 1.5
                for resource, share in over.items()
            }
            found = allocator.allocate(msgspec.structs.replace(limits, **tighter), rules, least)
        return found

    def _allocator(self, check: Check = unchecked) -> Allocator:
        if not any(reading.damage for reading in self._readings()):
            raise UserError("Nothing has been read of this network yet.", "Run the sweep first.")
        return self._planner.allocator(self._readings(), self._tried, self._metric, check)

    def _chosen_by(self, job: Job) -> Callable[[Recipe], Truth]:
        return lambda recipe: self._chooses.truth(recipe, job)


def _read(path: Path) -> dict[str, Truth]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Truth])
    except (OSError, msgspec.MsgspecError):
        # A file that is missing or damaged is measured again.
        return {}
