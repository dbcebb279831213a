"""One sweep: estimates of everything first, then readings on growing subsets until all are done.

Within a subset those come first that could change an allocation most.

What is done is told by the store alone, so a sweep that was stopped goes on where it was.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from featherweight.engine.atlas.changes import Change
from featherweight.engine.atlas.costs import ChangeCosts
from featherweight.engine.atlas.damage import NOT_FINITE, Sums
from featherweight.engine.atlas.estimates import estimated
from featherweight.engine.atlas.ground import Ground
from featherweight.engine.atlas.latencies import Latencies
from featherweight.engine.atlas.levels import HOPELESS, going_on, levels
from featherweight.engine.atlas.order import portions
from featherweight.engine.atlas.store import Line, ReadingStore
from featherweight.engine.errors import UserError
from featherweight.engine.jobs import Job
from featherweight.engine.readings import Reading

Tell = Callable[[tuple[Reading, ...]], None]
TELL_INTERVAL = 0.05
# Sums over fewer samples are not worth a line on disk.
FEWEST_KEPT = 16
# So few settings are read before gradients would tell of them.
FEWEST_ESTIMATED = 8
COUNTING, READING = "Counting what choices cost", "Reading what layers lose"
TIMING = "Timing changed layers"


@dataclass(frozen=True)
class Standing:
    """How far a sweep is: the samples of every change that is done, and which are still `active`.

    These are read up to `level` samples next, all before any of them goes on.
    """

    done: dict[Change, int]
    active: list[Change]
    level: int


class Sweep:
    """Reads all changes of a plan into a store and tells them, `tell` at most 20 times a second."""

    def __init__(
        self, ground: Ground, changes: Sequence[Change], samples: int, store: ReadingStore
    ) -> None:
        self.changes = changes
        self.samples = min(samples, len(ground.order))
        self._ground, self._store = ground, store
        self._expected: dict[Change, float] = {}
        # Those that turn out to fail count too, so that what was decided before them stays.
        self._items = len({change.layers for change in changes})

    def standing(self) -> Standing:
        """Return how far the store is. What costs are unknown is not done."""
        store, kind = self._store, self._ground.meter.damage
        active = [one for one in self.changes if not (one.reason or store.reason(one.key))]
        known: dict[Change, int] = {}
        costs = {one: store.cost(one.key) for one in active}
        counted = {one: cost for one, cost in costs.items() if cost is not None}
        level, started = 0, len(active) == len(counted)
        for level in levels(self.samples):
            if not started or any(store.sums(one.key, level) is None for one in active):
                break
            known.update(dict.fromkeys(active, level))
            spreads = {
                one: self._ground.meter.losses(store.latest(one.key, samples)).damage
                for one, samples in known.items()
            }
            last = level == self.samples
            on = set() if last else set(going_on(spreads, counted, kind, self._items))
            active = [one for one in active if one in on]
            if not active:
                break
        done = {one: samples for one, samples in known.items() if one not in set(active)}
        return Standing(done, active, level)

    @property
    def untimed(self) -> int:
        """How many changes have no latency."""
        keys = [one.key for one in self.changes if not one.reason]
        return sum(1 for key in keys if self._store.latency(key) is None)

    def reading(self, change: Change, samples: int) -> Reading | None:
        """Return what the store knows of a change from at most so many samples."""
        reason = change.reason or self._store.reason(change.key)
        whole = Reading(
            layers=change.layers,
            choice=change.choice,
            basis="measured",
            cost=self._store.cost(change.key),
            latency=self._store.latency(change.key),
            reason=reason,
        )
        if reason:
            return whole
        sums = self._store.latest(change.key, samples)
        return self._filled(whole, sums) if sums.samples else None

    def run(
        self, costs: ChangeCosts, latencies: Latencies | None, job: Job, tell: "Telling"
    ) -> None:
        """Read what is missing; with `latencies` also time it. Raises UserError, CancelledError."""
        ends = self._ends()
        stages = len(ends) + (1 if latencies is None else 2)
        job.add(len(self.changes) * stages)
        self._count(costs, job)
        standing = self.standing()
        self._tell_known(standing, tell)
        self._tell_estimates(standing, job, tell)
        while standing.active:
            began = max(level for level in (0, *levels(self.samples)) if level < standing.level)
            start = began
            for part in self._portions(standing):
                start = began
                for end in (end for end in ends if began < end <= standing.level):
                    self._read(range(start, end), part, job, tell)
                    start = end
            before, standing = standing.active, self.standing()
            active = set(standing.active)
            finished = [one for one in before if one not in active]
            self._ground.forget(finished)
            left = sum(1 for end in ends if end > start)
            job.advance(READING, left * len(finished))
        if latencies is not None:
            self._time(latencies, standing, job, tell)
        tell.flush()

    def _ends(self) -> list[int]:
        """Return after how many samples sums are kept: within and at every level."""
        found, start, step = [], 0, max(self._ground.chunk, FEWEST_KEPT)
        for level in levels(self.samples):
            found += [*range(start + step, level, step), level]
            start = level
        return found

    def _portions(self, standing: Standing) -> list[list[Change]]:
        """Return what is read next in portions, by damages as they are known so far."""
        damages = dict(self._expected)
        for one in standing.active:
            if (sums := self._store.latest(one.key, standing.level)).samples:
                damages[one] = self._ground.meter.losses(sums).damage.value
        counted = ((one, self._store.cost(one.key)) for one in standing.active)
        costs = {one: cost for one, cost in counted if cost is not None}
        known = {one: damage for one, damage in damages.items() if one in costs}
        return portions(list(costs), known, costs, HOPELESS[self._ground.meter.damage])

    def _count(self, costs: ChangeCosts, job: Job) -> None:
        """Predict what every change costs that is not known yet."""
        for change in self.changes:
            job.check()
            key = change.key
            if not change.reason and not self._store.reason(key) and self._store.cost(key) is None:
                try:
                    line = Line(key, cost=costs.added(change, job.check))
                except UserError as error:
                    line = Line(key, reason=str(error))
                self._store.add(line)
            job.advance(COUNTING)

    def _read(self, places: range, active: Iterable[Change], job: Job, tell: "Telling") -> None:
        store = self._store
        missing = [
            one
            for one in active
            if store.sums(one.key, places.stop) is None and not store.reason(one.key)
        ]
        job.advance(READING, len(list(active)) - len(missing))
        if not missing:
            return
        for change, found in self._ground.read(places, missing, job):
            base = store.sums(change.key, places.start) or Sums()
            if isinstance(found, str):
                store.add(Line(change.key, reason=found))
            elif found.finite:
                store.add(Line(change.key, sums=base.plus(found)))
            else:
                store.add(Line(change.key, reason=NOT_FINITE))
            if (reading := self.reading(change, places.stop)) is not None:
                tell.add(reading)
            job.advance(READING)

    def _time(self, latencies: Latencies, standing: Standing, job: Job, tell: "Telling") -> None:
        """Time what was read and was not timed before, once nothing else computes."""
        for change, samples in standing.done.items():
            if self._store.latency(change.key) is None:
                added = latencies.added(change, job)
                if added is not None:
                    self._store.add(Line(change.key, latency=added))
                if (reading := self.reading(change, samples)) is not None:
                    tell.add(reading)
            job.advance(TIMING)

    def _tell_known(self, standing: Standing, tell: "Telling") -> None:
        for change in self.changes:
            samples = standing.done.get(change, standing.level)
            if (reading := self.reading(change, samples)) is not None:
                tell.add(reading)
        tell.flush()

    def _tell_estimates(self, standing: Standing, job: Job, tell: "Telling") -> None:
        known = standing.level
        blank = [one for one in standing.active if not self._store.latest(one.key, known).samples]
        if len(blank) < FEWEST_ESTIMATED:
            return
        for change, losses in estimated(self._ground, blank, job):
            self._expected[change] = losses.damage.value
            tell.add(
                Reading(
                    layers=change.layers,
                    choice=change.choice,
                    basis="estimated",
                    damage=losses.damage,
                    loss=losses.loss,
                    cost=self._store.cost(change.key),
                )
            )
        tell.flush()

    def _filled(self, reading: Reading, sums: Sums) -> Reading:
        losses = self._ground.meter.losses(sums)
        return msgspec.structs.replace(
            reading,
            samples=sums.samples,
            damage=losses.damage,
            loss=losses.loss,
            metric=losses.metric,
        )


class Telling:
    """Passes readings on in portions, so that a front end is told often and not all the time."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._pending: list[Reading] = []
        self._told = 0.0

    def add(self, reading: Reading) -> None:
        """Pass a reading on, now or a little later."""
        self._pending.append(reading)
        if time.monotonic() - self._told >= TELL_INTERVAL:
            self.flush()

    def flush(self) -> None:
        """Pass on what waits."""
        if self._pending:
            self._tell(tuple(self._pending))
            self._pending.clear()
            self._told = time.monotonic()
