"""What a session asks of allocations, for one network with its task and the readings it has."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from featherweight.engine.allocating.accuracy import Tried
from featherweight.engine.allocating.allocator import Allocator
from featherweight.engine.allocating.budgets import spent
from featherweight.engine.allocating.candidates import is_pruning, slots_of
from featherweight.engine.allocating.comparing import Comparison
from featherweight.engine.allocating.planner import Metric, Planner
from featherweight.engine.allocating.refining import Wish, refined
from featherweight.engine.allocating.true_networks import Truth, guilty, tried_out
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
    RecipeLoss,
    Resource,
)
from featherweight.engine.recipe import Choice, Recipe
from featherweight.engine.writing.files import make_folder, write_file

# Frontiers are looked at in so many places for combinations to read.
BUDGETS = 10
TIGHTENINGS = 4
# So many samples decide between whole networks, at first and in the end, and so many tell how the
# metric falls with the damage.
CHOOSING, SURE, JUDGING = 1024, 4096, 2000


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
        self._planner, self._readings, self._metric = planner, readings, Metric(metric)
        self._chooses, self._judges = chooses, judges
        self._tried: tuple[Tried, ...] = ()
        # By how many bits the newest file was larger than what is predicted of its tensors.
        self._container = 0.0

    def allocate(
        self, limits: Limits, rules: AllocationRules, least: Resource, job: Job
    ) -> Allocation:
        """Return the best choices within limits. Raises UserError where there are none."""
        return self._kept(self._allocator(job.check), limits, rules, least, job)

    def frontier(self, resource: Resource, rules: AllocationRules, job: Job) -> Frontier:
        """Return the least damage for every budget. Raises UserError where nothing was read."""
        return self._allocator(job.check).frontier(resource, rules, job.check)

    def loss(self, recipe: Recipe, job: Job) -> RecipeLoss:
        """Return what a recipe is predicted to lose. Raises UserError where nothing was read."""
        return self._allocator(job.check).losses.of(recipe)

    def refine(
        self, limits: Limits, rules: AllocationRules, least: Resource, job: Job
    ) -> Allocation:
        """Return an allocation corrected by the real network. Raises UserError, CancelledError."""
        wish = Wish(
            limits,
            rules,
            least,
            lambda allocator, kept: self._kept(allocator, limits, kept, least, job),
            lambda recipe: self._chooses.truth(recipe, CHOOSING, job),
            lambda recipe: self._chooses.truth(recipe, SURE, job),
        )
        return refined(self._allocator(job.check), wish, job)

    def blame(self, recipe: Recipe, job: Job) -> tuple[Guilt, ...]:
        """Name the layers that lose more than predicted. Raises UserError, CancelledError."""

        def measure(tried: Recipe) -> Truth:
            return self._chooses.truth(tried, CHOOSING, job)

        return guilty(recipe, self._allocator(job.check), measure, job)

    @property
    def latency(self) -> float:
        """Milliseconds of all layers as they are; zero while they were not timed."""
        return self._planner.latency

    def time_layers(self, folder: Path, integers: bool, check: Check) -> None:
        """Time every layer as it is. Raises UserError, CancelledError."""
        self._planner.time_layers(folder, integers, check)

    def combinations(self, check: Check) -> tuple[tuple[str, Choice], ...]:
        """Return layers with the choices of several slots that the frontier of single ones has.

        Damages that add up are the first guess; what is read of these says how they really do.
        They are told of the single readings alone, so that a second sweep finds the same.
        """
        singles = [each for each in self._readings() if len(slots_of(each.choice)) == 1]
        allocator = self._planner.allocator(singles, (), self._metric, check)
        if not allocator.options:
            return ()
        points = allocator.frontier("bits", AllocationRules(), check).points
        found: dict[str, tuple[str, Choice]] = {}
        for point in points[:: max(1, len(points) // BUDGETS)]:
            check()
            made = allocator.on_frontier(point.budget)
            for name, choice in made.recipe.layers.items():
                plain = choice.replaced("coding", None)
                if len(slots_of(plain)) > 1 and not is_pruning(plain):
                    found[f"{name} {plain!r}"] = name, plain
        return tuple(found.values())

    def calibrate(self, kept: Path, job: Job) -> None:
        """Learn how the metric falls with the damage, from whole networks of the frontier.

        What was measured is kept in the file `kept`. Raises UserError, CancelledError.
        """
        asked = self._planner.allocator(self._readings(), (), self._metric, job.check)
        if not asked.options:
            return
        known = _read(kept)
        most = self._judges.most(JUDGING, job) if known is None else known.most
        truths = {} if known is None else known.truths

        def measure(recipe: Recipe) -> Truth:
            key = msgspec.json.encode(recipe).decode()
            if key not in truths:
                truths[key] = self._judges.truth(recipe, JUDGING, job)
                make_folder(kept.parent)
                write_file(kept, msgspec.json.encode(_Tried(most, truths)))
            return truths[key]

        self._tried = tried_out(asked, measure, job)
        self._metric = Metric(self._metric.name, most)

    def _kept(
        self,
        allocator: Allocator,
        limits: Limits,
        rules: AllocationRules,
        least: Resource,
        job: Job,
    ) -> Allocation:
        """Return an allocation whose file is within the limit, where there is one on its size.

        The file is made and counted, because what describes its tensors takes room as well.
        """
        most = limits.bytes
        if most is None:
            return self._counted(allocator, limits, rules, least)
        bits = 8 * most - self._container
        for _ in range(TIGHTENINGS):
            within = bits if limits.bits is None else min(bits, limits.bits)
            told = msgspec.structs.replace(limits, bits=within)
            found = self._counted(allocator, told, rules, least)
            size = self._chooses.file_bytes(found.recipe, job)
            self._container = 8 * size - found.cost.bits
            if size <= most:
                return msgspec.structs.replace(found, bytes=size)
            bits -= 8 * (size - most)
        raise UserError(
            f"No file was found that keeps within {most:,.0f} bytes.", "Allow a little more."
        )

    def _counted(
        self, allocator: Allocator, limits: Limits, rules: AllocationRules, least: Resource
    ) -> Allocation:
        found = allocator.allocate(limits, rules, least)
        for _ in range(TIGHTENINGS):
            # Where channels go, what layers cost is told by shares: the whole is counted once more.
            if not any(is_pruning(choice) for choice in found.recipe.layers.values()):
                break
            found = msgspec.structs.replace(
                found, cost=self._planner.prediction(found.recipe).after
            )
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


@dataclass(frozen=True)
class _Tried:
    """By how many points the metric can fall, and what networks lose, by their recipe."""

    most: float
    truths: dict[str, Truth]


def _read(path: Path) -> _Tried | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Tried)
    except (OSError, msgspec.MsgspecError):
        # A file that is missing or damaged is measured again.
        return None
