"""What the window knows of the job that runs, or of the last one that ended."""

from typing import Literal

from msgspec import Struct, field

from featherweight.engine.events import JobStarted, Point, Progress

JobKind = Literal["compress", "export", "sensitivity", "sweep", "refine", "blame", "rate", "flips"]
JobState = Literal["running", "cancelling", "cancelled", "interrupted", "failed", "done"]


class Job(Struct, kw_only=True):
    """A job with its progress and the points of its live charts, by series as (step, value).

    `cancelled` was asked for, `interrupted` is the engine's death; both can be resumed where the
    job compresses or sweeps, unless it was `discarded`. `left` are estimated seconds, None while
    unknown. `finishing` is a training that was asked to end with what it has.
    """

    request: int
    kind: JobKind
    name: str
    state: JobState = "running"
    step: int = 0
    steps: int = 0
    stage: str = ""
    left: float | None = None
    resumed_at: int = 0
    discarded: bool = False
    finishing: bool = False
    points: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        """Whether the engine still works on it."""
        return self.state in ("running", "cancelling")

    @property
    def resumable(self) -> bool:
        """Whether starting it again goes on where it was stopped."""
        stopped = self.state in ("cancelled", "interrupted") and not self.discarded
        return self.kind in ("compress", "sweep") and stopped

    @property
    def share(self) -> float:
        """How much is done, 0 to 1."""
        return min(self.step / self.steps, 1.0) if self.steps else 0.0

    def begin(self, event: JobStarted) -> None:
        """Note how much there is to do, and where the job goes on."""
        self.steps = event.steps
        self.step = self.resumed_at = event.resumed_at

    def add_point(self, event: Point) -> bool:
        """Add a point of a chart; False where the job went back and later points had to go."""
        points = self.points.setdefault(event.series, [])
        kept = len(points)
        while kept and points[kept - 1][0] >= event.step:
            kept -= 1
        went_on = kept == len(points)
        points[kept:] = [(event.step, event.value)]
        return went_on

    def advance(self, event: Progress) -> None:
        """Note how far the job is."""
        self.step, self.steps = event.step, event.steps
        self.stage, self.left = event.stage, event.left
