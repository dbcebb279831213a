"""The atlas of a network on a task: which layer can take what, read and kept."""

import hashlib
import time
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import torch

from featherweight.engine.atlas.changes import Change, Changes, key_of
from featherweight.engine.atlas.costs import ChangeCosts
from featherweight.engine.atlas.damage import Meter
from featherweight.engine.atlas.default_plan import default_plan
from featherweight.engine.atlas.ground import Ground
from featherweight.engine.atlas.latencies import Latencies
from featherweight.engine.atlas.sensitivity import samples_digest
from featherweight.engine.atlas.store import ReadingStore
from featherweight.engine.atlas.sweep import Sweep, Tell, Telling
from featherweight.engine.inspecting.coupling import Coupling
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network, fingerprint
from featherweight.engine.prediction import Predictor
from featherweight.engine.readings import Reading, SweepEstimate, SweepPlan, SweepSummary
from featherweight.engine.recipe import Choice, Recipe
from featherweight.engine.task import Task

VERSION = 1
# Of all samples, the share on which a setting is read before it is done, and the seconds in which
# one is made and counted: as met on a residual network of 20 layers.
SHARE, MAKING = 0.2, 0.05
# Timing a changed layer takes at most so many seconds, none where its like was timed before.
TIMING = 0.2
# So many samples at once are timed for an estimate.
TIMED = 16


class Atlas:
    """Readings of one network on one task. Questions may come while a sweep runs.

    `readings` are those of all its sweeps by `key_of` their layers and choice, the newest of each;
    estimated ones are among them until they are measured.
    """

    def __init__(
        self, network: Network, coupling: Coupling, predictor: Predictor, task: Task
    ) -> None:
        self.task, self._predictor = task, predictor
        self._costs: ChangeCosts | None = None
        self._changes = Changes(network, coupling)
        self._ground: Ground | None = None
        self._folder, self._kept = "", ReadingStore()
        self.readings: dict[str, Reading] = {}

    @property
    def meter(self) -> Meter:
        """What measures damage, and names it and the metric."""
        return self._at_work.meter

    def plan(self) -> SweepPlan:
        """Return a sensible plan: the choices of several families that its layers can take."""
        whole = default_plan()
        taken = [change.choice for change in self._changes.of(whole)]
        kept = tuple(choice for choice in whole.choices if choice in taken)
        return SweepPlan(choices=kept)

    def estimate(self, plan: SweepPlan, store: str = "") -> SweepEstimate:
        """Return what a plan would take beyond what a store has, without one the newest sweep's.

        One small batch is timed. Raises UserError where the plan names what is not there.
        """
        changes = self._changes.of(plan)
        sweep = self._sweep(changes, plan, self._store(store or self._folder))
        standing = sweep.standing()
        ground, samples = self._at_work, sweep.samples
        seconds, shares = self._timed(standing.active)
        reads = max(SHARE * samples, min(samples, 1)) * seconds
        return SweepEstimate(
            missing=len(standing.active),
            known=len(changes) - len(standing.active),
            seconds=(reads * (sum(shares) + 2) + MAKING * len(shares) if shares else 0.0)
            + (TIMING * sweep.untimed if plan.latency else 0.0),
            memory=self._memory(ground),
            damage=self.meter.damage,
            metric=self.meter.metric,
        )

    def sweep(self, plan: SweepPlan, store: str, job: Job, tell: Tell) -> SweepSummary:
        """Read what a store lacks of a plan, and tell readings as they come.

        The store is a folder. What it has is told first, then estimates of all that is missing.
        Raises UserError, CancelledError.
        """
        changes = self._changes.of(plan)
        self._folder, self._kept = store, self._store(store)
        sweep = self._sweep(changes, plan, self._kept)
        known = len(changes) - len(sweep.standing().active)
        found = self._run(sweep, plan, job, tell)
        return SweepSummary(
            readings=len(found),
            known=known,
            failed=sum(1 for reading in found if reading.reason),
            samples=sweep.samples,
            damage=self.meter.damage,
            metric=self.meter.metric,
        )

    def sweep_more(
        self, pairs: Iterable[tuple[str, Choice]], plan: SweepPlan, job: Job, tell: Tell
    ) -> None:
        """Go on with the newest sweep: read layers with choices of their own, as its plan says.

        Raises UserError, CancelledError.
        """
        self._run(self._sweep(self._changes.single(pairs), plan, self._kept), plan, job, tell)

    def _run(self, sweep: Sweep, plan: SweepPlan, job: Job, tell: Tell) -> list[Reading]:
        folder, latencies = Path(self._folder) if self._folder else None, None
        if plan.latency:
            latencies = Latencies(self._changes, self.task, folder)
        if self._costs is None:
            self._costs = ChangeCosts(self._changes, self._predictor)
        sweep.run(self._costs, latencies, job, Telling(self._keeping(tell)))
        done = sweep.standing().done
        final = [sweep.reading(change, done.get(change, 0)) for change in sweep.changes]
        found = [reading for reading in final if reading is not None]
        self._keep(tuple(found))
        return found

    def _keeping(self, tell: Tell) -> Tell:
        def told(readings: tuple[Reading, ...]) -> None:
            self._keep(readings)
            tell(readings)

        return told

    def _keep(self, readings: tuple[Reading, ...]) -> None:
        # Another thread may be looking at the former ones.
        told = {key_of(reading.layers, reading.choice): reading for reading in readings}
        self.readings = self.readings | told

    def _sweep(self, changes: tuple[Change, ...], plan: SweepPlan, store: ReadingStore) -> Sweep:
        return Sweep(self._at_work, changes, plan.samples, store)

    def _store(self, folder: str) -> ReadingStore:
        return ReadingStore(Path(folder) / f"{self._name}.jsonl") if folder else ReadingStore()

    @cached_property
    def _name(self) -> str:
        """What tells this network on this task from others; all weights are read for it."""
        recipe, task = Recipe(), self.task
        asked = (
            VERSION,
            fingerprint(self._changes.network),
            samples_digest(task),
            len(task.recovery),
            task.probabilities,
            recipe.calibration,
            recipe.seed,
        )
        return hashlib.blake2b(repr(asked).encode(), digest_size=12).hexdigest()

    @property
    def _at_work(self) -> Ground:
        if self._ground is None:
            self._ground = Ground(self._changes, self.task)
        return self._ground

    def _timed(self, changes: list[Change]) -> tuple[float, list[float]]:
        """Return the seconds of one sample in the source, and the share of it that changes run."""
        ground = self._at_work
        replay, inputs = ground.replay, self.task.reference.example
        if self.task.fixed_batch is None:
            inputs, _ = self.task.recovery.batch(ground.order[: min(TIMED, ground.chunk)])
        samples = len(inputs[0])
        if replay.whole:
            with torch.no_grad():
                began = time.thread_time()
                ground.source.outputs(*inputs)
            return (time.thread_time() - began) / samples, [1.0] * len(changes)
        times = [0.0]
        for _ in replay.walk(inputs, range(replay.end)):
            times.append(time.thread_time())
        begins, whole = times[1:], max(times[-1] - times[1], 1e-9)
        places = [replay.position(change.layers) for change in changes]
        return whole / samples, [(times[-1] - begins[place]) / whole for place in places]

    def _memory(self, ground: Ground) -> int:
        held = sum(value.nbytes for value in self._changes.network.module.parameters())
        return 2 * ground.live_bytes * ground.chunk + 2 * held
