"""What a front end asks of the engine process: plain data, answered by `events`."""

from msgspec import Struct

from featherweight.engine.events import ExportFormat, IntegerOptions, Source, TaskSource
from featherweight.engine.options import Slot
from featherweight.engine.readings import AllocationRules, Limits, Resource, SweepPlan
from featherweight.engine.recipe import Recipe


class Request(Struct, frozen=True, kw_only=True, tag=True):
    """Base of everything that a front end asks."""

    id: int


class OpenNetwork(Request, frozen=True, kw_only=True):
    """Read a network; answered by Opened, TrustNeeded or Failed."""

    source: Source


class SetTask(Request, frozen=True, kw_only=True):
    """Read the task's data; answered by TaskReady, TrustNeeded or Failed."""

    task: TaskSource


class MeasureLatency(Request, frozen=True, kw_only=True):
    """Time every layer of the open network; answered by LatencyMeasured."""


class EstimateSensitivity(Request, frozen=True, kw_only=True):
    """Estimate how sensitive every layer is, on the task: a job; see SensitivityEstimated."""


class DescribeLayer(Request, frozen=True, kw_only=True):
    """Compute histogram, statistics and spectrum of one layer; answered by Described."""

    layer: str


class Predict(Request, frozen=True, kw_only=True):
    """Predict the cost of a recipe; answered by Predicted. `layers` limits the per-layer part."""

    recipe: Recipe
    layers: tuple[str, ...] = ()


class TraceStrength(Request, frozen=True, kw_only=True):
    """Ask how far off layers are as the strength in one slot moves; only the newest is answered.

    Answered by StrengthTraced, again and again, and in the end by TraceEnded; an older one that was
    under way by Cancelled, as is one that a measurement of times begins beside.
    """

    recipe: Recipe
    layers: tuple[str, ...]
    slot: Slot


class Compress(Request, frozen=True, kw_only=True):
    """Run a recipe on the open network: a job. `folder` holds results and checkpoints.

    The same recipe started again in the same folder goes on where it was cancelled or killed.
    """

    recipe: Recipe
    name: str
    folder: str


class FindLearningRate(Request, frozen=True, kw_only=True):
    """Try rising learning rates on a compressed network: a job; see LearningRateFound."""

    recipe: Recipe


class FindFlips(Request, frozen=True, kw_only=True):
    """Compare the classes of two networks sample by sample: a job; see FlipsFound.

    `before` and `after` are archives of results; empty for the source network.
    """

    after: str
    before: str = ""


class ShowSamples(Request, frozen=True, kw_only=True):
    """Ask for pictures of samples to measure on, by their numbers; see SamplesShown."""

    samples: tuple[int, ...]


class ExportResult(Request, frozen=True, kw_only=True):
    """Write a result (its archive's path; empty for the source network) to a file: a job."""

    archive: str
    format: ExportFormat
    path: str
    integers: IntegerOptions = IntegerOptions()


class PlanSweep(Request, frozen=True, kw_only=True):
    """Ask what a sweep would take; without a plan also for a sensible one. See SweepPlanned.

    What the folder `store` has need not be read; without it, what the newest sweep's folder has.
    """

    plan: SweepPlan | None = None
    store: str = ""


class Sweep(Request, frozen=True, kw_only=True):
    """Read what is missing of a plan: a job that tells ReadingsTaken and ends with SweepEnded.

    `store` is the folder in which readings are kept; what it has of the plan is told at once.
    Cancelled and started again it goes on where it was.
    """

    plan: SweepPlan
    store: str


class Allocate(Request, frozen=True, kw_only=True):
    """Ask for the best choices within limits; only the newest is answered, by Allocated.

    Without a limit on the drop the damage is the least within the limits; with one, `least` is
    what becomes as small as it can.
    """

    limits: Limits
    rules: AllocationRules = AllocationRules()
    least: Resource = "bits"


class TraceFrontier(Request, frozen=True, kw_only=True):
    """Ask for the frontier of one resource; only the newest is answered, by FrontierTraced."""

    resource: Resource
    rules: AllocationRules = AllocationRules()


class PredictLoss(Request, frozen=True, kw_only=True):
    """Ask what a recipe would lose by the readings; only the newest is answered: LossPredicted."""

    recipe: Recipe


class RefineAllocation(Request, frozen=True, kw_only=True):
    """Correct an allocation with the real network in the loop: a job; see Allocated."""

    limits: Limits
    rules: AllocationRules = AllocationRules()
    least: Resource = "bits"


class FindGuilty(Request, frozen=True, kw_only=True):
    """Name the layers of a recipe that lose more than was predicted: a job; see GuiltyFound."""

    recipe: Recipe


class Cancel(Request, frozen=True, kw_only=True):
    """Ask the job that was started by request `job` to stop."""

    job: int


class Finish(Request, frozen=True, kw_only=True):
    """Ask the recovery in job `job` to end now and go on with what it has; see `Job.finish`."""

    job: int


AnyRequest = (
    OpenNetwork
    | SetTask
    | MeasureLatency
    | EstimateSensitivity
    | DescribeLayer
    | Predict
    | TraceStrength
    | Compress
    | FindLearningRate
    | FindFlips
    | ShowSamples
    | ExportResult
    | PlanSweep
    | Sweep
    | Allocate
    | TraceFrontier
    | PredictLoss
    | RefineAllocation
    | FindGuilty
    | Cancel
    | Finish
)
