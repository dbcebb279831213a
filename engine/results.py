"""What a run of a recipe gave: figures before and after, side by side with what was predicted."""

from typing import Literal

from msgspec import Struct

from featherweight.engine.figures import Figure
from featherweight.engine.ledger import Ledger
from featherweight.engine.options import Slot
from featherweight.engine.recipe import Recipe


class Cost(Struct, frozen=True, kw_only=True):
    """What a layer or a network costs: counts, and stored bits of its tensors without container."""

    parameters: int
    macs: int
    bits: int


class Prediction(Struct, frozen=True, kw_only=True):
    """What a recipe would give, layer by layer and in all, without running it.

    `exact` is False where a coder's or a clustering's outcome is known only by running it.
    """

    layers: dict[str, Cost]
    before: Cost
    after: Cost
    exact: bool


class BreakEven(Struct, frozen=True, kw_only=True):
    """From where on a method gains nothing as its strength moves.

    `at` is the last strength at which it gains, None where it gains at none; `above` says that
    strengths above it gain nothing, else those below.
    """

    at: float | None
    above: bool = True


class Suggestion(Struct, frozen=True, kw_only=True):
    """A strength that the weights themselves suggest, and what says so."""

    strength: float
    why: str


class StrengthTrace(Struct, frozen=True, kw_only=True):
    """What one method does to one layer as its strength moves, the other slots as they are.

    `points` are (strength, relative squared error), rising in strength; more of them come while it
    is computed. Errors are of the outputs on inputs from the data (`of` is outputs), or of the
    weights, and `reason` says why there are none. `now` is the error of the present choice.
    `smaller` and `faster` say where the layer stops getting smaller in bits, or cheaper in MACs,
    than without the method; None where it never stops or nobody can tell beforehand. `without_data`
    says that the method asks for more of the data than was measured for this.
    """

    layer: str
    slot: Slot
    method: str
    points: tuple[tuple[float, float], ...] = ()
    now: float | None = None
    of: Literal["outputs", "weights"] = "weights"
    reason: str = ""
    smaller: BreakEven | None = None
    faster: BreakEven | None = None
    suggestions: tuple[Suggestion, ...] = ()
    without_data: bool = False


class Measures(Struct, frozen=True, kw_only=True):
    """The figures of one network, by name: parameters, macs, bytes, latency, top1, top5, loss …"""

    figures: dict[str, Figure]


class Control(Struct, frozen=True, kw_only=True):
    """A network trained beside a result for comparison, with what was measured of it.

    `dense` is the original with the same training, `hard labels` the same compressed network
    without a teacher. `curve` is as in the result.
    """

    kind: Literal["dense", "hard labels"]
    figures: dict[str, Figure]
    curve: tuple[tuple[int, float, float], ...] = ()


class Result(Struct, frozen=True, kw_only=True):
    """A compressed network on disk with everything that is known of it.

    `archive` is the path of the coded archive that holds the network, relative to the folder of
    results. `parent` is the identity of the result it was made from, empty for the source network.
    `curve` are (step, loss, accuracy 0 to 1) as measured while it recovered.
    """

    identity: str
    name: str
    parent: str
    recipe: Recipe
    archive: str
    before: Measures
    after: Measures
    predicted: Cost
    ledger: Ledger
    created: str
    curve: tuple[tuple[int, float, float], ...] = ()
    controls: tuple[Control, ...] = ()


class Flip(Struct, frozen=True, kw_only=True):
    """A sample by its number that two networks put into different classes; `label` is its own."""

    sample: int
    label: int
    before: int
    after: int


class Picture(Struct, frozen=True, kw_only=True):
    """A sample as an image: `pixels` are height x width x channels (1 or 3) bytes of 0 to 255."""

    sample: int
    width: int
    height: int
    channels: int
    pixels: bytes


class LayerShare(Struct, frozen=True, kw_only=True):
    """The bytes of an exported file that belong to one layer."""

    layer: str
    bytes: int


class Export(Struct, frozen=True, kw_only=True):
    """What was written and what was checked of it.

    `checks` are figures by name (relative error, label agreement, bytes, latency, speedup …);
    `notes` are sentences: what a form gains, what fell back and why.
    """

    path: str
    format: str
    checks: dict[str, Figure]
    shares: tuple[LayerShare, ...]
    notes: tuple[str, ...] = ()
