"""What a sweep reads and what an allocation makes of it, as plain data.

An atlas is a set of readings: of every layer with every choice that was tried on it alone.
"""

from typing import Annotated, Literal

from msgspec import Struct

from featherweight.engine.figures import Basis
from featherweight.engine.options import number
from featherweight.engine.recipe import Choice, Recipe
from featherweight.engine.results import Cost

Resource = Literal["bits", "parameters", "macs", "latency"]
RESOURCES: tuple[Resource, ...] = ("bits", "parameters", "macs", "latency")
# KL divergence in nats a sample where outputs are a distribution, else ‖Δ‖²/‖outputs‖².
DamageOf = Literal["divergence", "output error"]


class SweepPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to try: every choice on every one of the layers that can take it, empty for all layers.

    `latency` also times each changed layer in ONNX Runtime.
    """

    choices: tuple[Choice, ...]
    layers: tuple[str, ...] = ()
    samples: Annotated[
        int, number("Samples", "At most so many samples are read for a setting.", 1, 1_000_000)
    ] = 2000
    latency: bool = False


class SweepEstimate(Struct, frozen=True, kw_only=True):
    """What a plan would take: how many readings are missing and how many are there already.

    `seconds` of one processor, with the machine as it is now, and `memory` in bytes. `damage` and
    `metric` say what readings are of, the metric is empty where nothing counts labels.
    """

    missing: int
    known: int
    seconds: float
    memory: int
    damage: DamageOf
    metric: str


class Spread(Struct, frozen=True):
    """A mean and its standard error."""

    value: float
    error: float


class Reading(Struct, frozen=True, kw_only=True):
    """What the network loses where only `layers` are changed, each by `choice`.

    There are several layers where they are coupled and must change together. `damage` is of the
    outputs, `loss` by how much the loss rises, `metric` by how many points the accuracy falls; all
    are means over `samples` with their standard errors, of an `estimated` reading of none. `cost`
    is by how much the whole network changes (negative where it gets smaller), `latency` by how many
    milliseconds its layers do. With a `reason` the reading failed, which the sentence explains.
    """

    layers: tuple[str, ...]
    choice: Choice
    basis: Basis
    samples: int = 0
    damage: Spread | None = None
    loss: Spread | None = None
    metric: Spread | None = None
    cost: Cost | None = None
    latency: float | None = None
    reason: str = ""


class SweepSummary(Struct, frozen=True, kw_only=True):
    """What a sweep ended with: readings in all, how many were there before, and how many failed."""

    readings: int
    known: int
    failed: int
    samples: int
    damage: DamageOf
    metric: str


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the compressed network may cost at most: None where that does not matter.

    `bits` are stored bits of all tensors, `bytes` those of the whole file before any recovery,
    `latency` milliseconds of all layers, `drop` points of the metric.
    """

    bits: float | None = None
    bytes: float | None = None
    parameters: float | None = None
    macs: float | None = None
    latency: float | None = None
    drop: float | None = None


class AllocationRules(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an allocation must leave alone.

    `fixed` layers keep their choice, `excluded` ones stay as they are in the source; where
    `methods` is not empty, only these are used.
    """

    fixed: dict[str, Choice] = {}
    excluded: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()


class Allocation(Struct, frozen=True, kw_only=True):
    """The best known use of a budget: a recipe, and what it is predicted to cost and to lose.

    `drop` is the predicted fall of the metric in points, None while too little is known.
    `measured` says that the damage is that of this very network, measured, not a sum of readings.
    `unread` are fixed layers of whose choices nothing was read: what they lose is left out.
    `bytes` is the size of the file, where that was limited.
    """

    recipe: Recipe
    damage: float
    cost: Cost
    drop: Spread | None = None
    latency: float | None = None
    measured: bool = False
    unread: tuple[str, ...] = ()
    bytes: int | None = None


class RecipeLoss(Struct, frozen=True, kw_only=True):
    """What a recipe is predicted to lose, without any recovery.

    `damage` adds up what its choices lose alone, `drop` is in points of the metric, None while too
    little is known. `unread` are the layers of whose choices nothing was read, left out of both.
    """

    damage: float
    drop: Spread | None = None
    unread: tuple[str, ...] = ()


class FrontierPoint(Struct, frozen=True):
    """The least damage, and the predicted drop in points with its error, at one budget."""

    budget: float
    damage: float
    drop: float | None = None
    error: float = 0.0


class Frontier(Struct, frozen=True, kw_only=True):
    """The best for every budget of one resource, rising in budget; `source` is what it costs now.

    `metric` names what drops, `basis` is measured where every reading was.
    """

    resource: Resource
    points: tuple[FrontierPoint, ...]
    source: float
    metric: str
    basis: Basis


class Guilt(Struct, frozen=True):
    """A layer whose choice costs more than was predicted.

    `predicted` is what its readings said, `found` by how much the damage falls where this layer
    alone is put back; `milder` is a choice that would cost less, None where there is none.
    """

    layer: str
    predicted: float
    found: float
    milder: Choice | None = None
