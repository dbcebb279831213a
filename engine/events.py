"""What the engine process says to a front end, and where networks and tasks come from: plain data.

`requests` are what it is asked. A frame is four bytes of length (big endian) and one member of a
union, encoded with msgpack. Every request has an `id` chosen by the asker; every event that answers
it carries that id.
"""

import re
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import msgspec
from msgspec import Struct

from featherweight.engine.layer import LayerDetails, NetworkSummary
from featherweight.engine.options import MethodDescription, number, words
from featherweight.engine.readings import (
    Allocation,
    Frontier,
    Guilt,
    Reading,
    RecipeLoss,
    SweepEstimate,
    SweepPlan,
    SweepSummary,
)
from featherweight.engine.results import Export, Flip, Picture, Prediction, Result, StrengthTrace

Dtype = Literal["float32", "int64"]
ExportFormat = Literal["onnx", "onnx16", "pt2", "safetensors", "archive"]
PROTOCOL = 1
LARGEST_FRAME = 256 * 1024 * 1024
_LIBRARY_NAME = re.compile(r"[A-Za-z_]\w+(?:\.\w+)*:[A-Za-z_][\w.]*", re.ASCII)


class Source(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a network comes from.

    `factory` is `module:callable` (or `path/to/file.py:callable`) for files that hold weights only.
    `trust` names the modules whose code the person allowed for this file. `input_shapes` are
    example shapes, batch first, for files that do not tell them; `input_dtypes` go with them, and
    `input_names`, empty where an input goes by its position: keywords of the network, or keys and
    positions in what it takes, like `batch.mask` and `pair.0`.
    `input_values` are inputs by name that keep one value, like a sample rate.
    """

    path: str
    factory: str = ""
    trust: tuple[str, ...] = ()
    input_shapes: tuple[tuple[int, ...], ...] = ()
    input_dtypes: tuple[Dtype, ...] = ()
    input_names: tuple[str, ...] = ()
    input_values: tuple[tuple[str, float], ...] = ()


def is_library_name(path: str) -> bool:
    """Say whether a path is no file but the name of a library's network: `timm:resnet18`."""
    return _LIBRARY_NAME.fullmatch(path) is not None and not Path(path).exists()


class TaskSource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the network is for. Without data a task is `fidelity` on random inputs of its shapes."""

    kind: Literal["classification", "fidelity"] = "classification"
    data: str = ""
    trust: tuple[str, ...] = ()


class TaskSummary(Struct, frozen=True, kw_only=True):
    """What was found: sample counts, the classes (0 without labels), and what is measured.

    `class_names` are those of the classes from 0 on, empty where the data does not name them.
    """

    source: TaskSource
    recovery_samples: int
    measure_samples: int
    classes: int
    metrics: tuple[str, ...]
    class_names: tuple[str, ...] = ()


class IntegerOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an ONNX file computes 8-bit layers in integers, where it does."""

    ranges: Annotated[
        Literal["percentile", "error", "entropy", "min-max"],
        words(
            "Ranges",
            "How far integers reach in what flows between 8-bit layers: a share of the values, the "
            "least squared error, the least divergence (entropy), or from the least to the "
            "largest value.",
        ),
    ] = "error"
    percentile: Annotated[
        float,
        number("Percentile", "Below which share of the values a range ends.", 99.9, 99.999, "%"),
    ] = 99.99
    activation_bits: Annotated[
        Literal["auto", "8", "7"],
        words(
            "Activation bits",
            "7 keep sums exact on processors without 8-bit dot products; auto looks at this one. "
            "Choose 7 for a file that runs on other computers too.",
        ),
    ] = "auto"


class Event(Struct, frozen=True, kw_only=True, tag=True):
    """Base of everything that the engine says. `id` is the request it answers, 0 for none."""

    id: int = 0


class Started(Event, frozen=True, kw_only=True):
    """The process runs and reads requests; torch is still being imported."""

    protocol: int = PROTOCOL
    pid: int = 0


class Ready(Event, frozen=True, kw_only=True):
    """The engine is warm; these methods exist."""

    methods: tuple[MethodDescription, ...]


class Opened(Event, frozen=True, kw_only=True):
    """The network is open."""

    network: NetworkSummary


class TrustNeeded(Event, frozen=True, kw_only=True):
    """The file needs code that nobody has allowed; nothing of it was run."""

    path: str
    names: tuple[str, ...]
    why: str


class TaskReady(Event, frozen=True, kw_only=True):
    """The task's data is read."""

    task: TaskSummary


class LatencyMeasured(Event, frozen=True, kw_only=True):
    """Median milliseconds of every layer, by name, and of one whole batch of `batch` samples."""

    layers: dict[str, float]
    total: float
    batch: int


class SensitivityEstimated(Event, frozen=True, kw_only=True):
    """The estimated rise of the task's loss with each layer alone in 4-bit integers, by name.

    `reasons` are of the layers that it cannot be told of. `loss` names the loss in words,
    `samples` is how many of the task's samples were asked.
    """

    layers: dict[str, float]
    reasons: dict[str, str]
    loss: str
    samples: int


class Described(Event, frozen=True, kw_only=True):
    """Details of one layer."""

    details: LayerDetails


class Predicted(Event, frozen=True, kw_only=True):
    """The predicted cost of a recipe."""

    prediction: Prediction


class StrengthTraced(Event, frozen=True, kw_only=True):
    """What is known so far of one layer."""

    trace: StrengthTrace


class TraceEnded(Event, frozen=True, kw_only=True):
    """All was told of a TraceStrength."""


class SweepPlanned(Event, frozen=True, kw_only=True):
    """A plan, and what it would take."""

    plan: SweepPlan
    estimate: SweepEstimate


class ReadingsTaken(Event, frozen=True, kw_only=True):
    """Readings of a sweep under way; a later one of the same layers and choice takes its place."""

    readings: tuple[Reading, ...]


class SweepEnded(Event, frozen=True, kw_only=True):
    """All was read that a plan asks for."""

    summary: SweepSummary


class Allocated(Event, frozen=True, kw_only=True):
    """The best use of a budget."""

    allocation: Allocation


class FrontierTraced(Event, frozen=True, kw_only=True):
    """The best for every budget of one resource."""

    frontier: Frontier


class LossPredicted(Event, frozen=True, kw_only=True):
    """What a recipe is predicted to lose."""

    loss: RecipeLoss


class GuiltyFound(Event, frozen=True, kw_only=True):
    """The layers of a recipe that lose more than predicted, the worst first."""

    layers: tuple[Guilt, ...]


class JobStarted(Event, frozen=True, kw_only=True):
    """A job runs. `steps` is the total that Progress counts to; `resumed_at` where it goes on."""

    steps: int
    resumed_at: int = 0


class Progress(Event, frozen=True, kw_only=True):
    """How far a job is: at most 20 a second. `left` are estimated seconds, None while unknown."""

    step: int
    steps: int
    stage: str
    left: float | None = None


class Point(Event, frozen=True, kw_only=True):
    """A point of a live chart at training step `step`.

    Series: `loss` of a batch; `accuracy` (0 to 1) of the recovering network, `held` of it on the
    samples held out, `control` and `labels` of those trained beside it (dense, without a teacher),
    and of the `source`, once; `rate`, the learning rate; `bits`, stored bits of the forms as they
    are; `density`, the share of weights that are not zero.
    """

    series: str
    step: int
    value: float


class Compressed(Event, frozen=True, kw_only=True):
    """A compression job is done."""

    result: Result


class LearningRateFound(Event, frozen=True, kw_only=True):
    """Losses by learning rate, rising, as (rate, loss), and the rate that they speak for."""

    points: tuple[tuple[float, float], ...]
    suggestion: float


class FlipsFound(Event, frozen=True, kw_only=True):
    """The samples whose class a result changed, in the order of the data; `of` were compared."""

    flips: tuple[Flip, ...]
    of: int


class SamplesShown(Event, frozen=True, kw_only=True):
    """Pictures of samples to measure on; a sample that is no image has none."""

    pictures: tuple[Picture, ...]


class Exported(Event, frozen=True, kw_only=True):
    """An export job is done."""

    export: Export


class Cancelled(Event, frozen=True, kw_only=True):
    """A job stopped because it was asked to; started again, it goes on from its last checkpoint."""

    step: int


class Failed(Event, frozen=True, kw_only=True):
    """A request could not be done. `hint` is the mend; `details` is for a log, not for a dialog."""

    message: str
    hint: str = ""
    details: str = ""


AnyEvent = (
    Started
    | Ready
    | Opened
    | TrustNeeded
    | TaskReady
    | LatencyMeasured
    | SensitivityEstimated
    | Described
    | Predicted
    | StrengthTraced
    | TraceEnded
    | SweepPlanned
    | ReadingsTaken
    | SweepEnded
    | Allocated
    | FrontierTraced
    | LossPredicted
    | GuiltyFound
    | JobStarted
    | Progress
    | Point
    | Compressed
    | LearningRateFound
    | FlipsFound
    | SamplesShown
    | Exported
    | Cancelled
    | Failed
)

_encoder = msgspec.msgpack.Encoder()


def frame(message: Struct) -> bytes:
    """Return a request or an event as one frame."""
    body = _encoder.encode(message)
    return len(body).to_bytes(4, "big") + body


def read_frame(stream: BinaryIO) -> bytes | None:
    """Read the body of the next frame; None where the stream ended. Blocks."""
    header = stream.read(4)
    if len(header) < 4:
        return None
    size = int.from_bytes(header, "big")
    if size > LARGEST_FRAME:
        raise ValueError(f"a frame of {size} bytes is larger than any message")
    body = stream.read(size)
    return body if len(body) == size else None
