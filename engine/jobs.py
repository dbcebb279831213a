"""What a long computation tells while it runs, and how it learns that it should stop."""

import threading
import time
from collections.abc import Callable

from featherweight.engine.errors import CancelledError
from featherweight.engine.events import Event, JobStarted, Point, Progress

PROGRESS_INTERVAL = 0.05

# Called in loops; raises CancelledError where they should stop.
Check = Callable[[], None]


def unchecked() -> None:
    """Never stop."""


def silent(_: Event) -> None:
    """Drop an event."""


class Job:
    """One long computation: it counts steps, sends points, and stops when asked to.

    `emit` receives JobStarted, Progress (at most 20 a second, and the last one) and Point events
    with this job's `id`. `cancel` and `finish` may be called from any thread.
    """

    def __init__(self, emit: Callable[[Event], None] = silent, id: int = 0) -> None:  # noqa: A002
        self.id = id
        self._emit = emit
        self._cancelled = threading.Event()
        self._finishing = threading.Event()
        self._steps = 0
        self._step = 0
        self._first_step = 0
        self._first_point = 0
        self._began = time.monotonic()
        self._told = 0.0

    @property
    def step(self) -> int:
        """Steps finished so far."""
        return self._step

    def begin(self, steps: int, resumed_at: int = 0) -> None:
        """Say how many steps there are, and at which one the job goes on."""
        self._steps, self._step, self._first_step = steps, resumed_at, resumed_at
        self._began = time.monotonic()
        self._emit(JobStarted(id=self.id, steps=steps, resumed_at=resumed_at))

    def add(self, steps: int) -> None:
        """Say that there are so many steps more, the first of them where the job did not begin."""
        if self._steps:
            self._steps += steps
        else:
            self.begin(steps)

    def advance(self, stage: str, steps: int = 1) -> None:
        """Count finished steps of a stage, in words a person reads. Raises CancelledError."""
        self.check()
        self._step += steps
        now = time.monotonic()
        if now - self._told < PROGRESS_INTERVAL and self._step < self._steps:
            return
        self._told = now
        progress = Progress(
            id=self.id, step=self._step, steps=self._steps, stage=stage, left=self._left(now)
        )
        self._emit(progress)

    def point(self, series: str, step: int, value: float) -> None:
        """Send a point of a live chart."""
        step += self._first_point
        self._emit(Point(id=self.id, series=series, step=step, value=value))

    def shift_points(self, steps: int) -> None:
        """Let points from now on count their steps from so many on: after another training."""
        self._first_point += steps

    def check(self) -> None:
        """Raise CancelledError where the job was asked to stop; cheap, call it in every loop."""
        if self._cancelled.is_set():
            raise CancelledError

    def cancel(self) -> None:
        """Ask the job to stop at its next check."""
        self._cancelled.set()

    @property
    def finishing(self) -> bool:
        """Whether the recovery of the network was asked to end now."""
        return self._finishing.is_set()

    def finish(self) -> None:
        """Let the recovery end before its next step and the job go on with what it has.

        Masks and precisions still to come are put on at once. A recovery that has not begun takes
        no step; a job without one goes on as it would.
        """
        self._finishing.set()

    def _left(self, now: float) -> float | None:
        done = self._step - self._first_step
        if done <= 0 or now - self._began < 0.5:
            return None
        return (now - self._began) / done * max(self._steps - self._step, 0)
