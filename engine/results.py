"""What a run of a recipe gave: figures before and after, side by side with what was predicted."""

from msgspec import Struct

from featherweight.engine.figures import Figure
from featherweight.engine.ledger import Ledger
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


class Measures(Struct, frozen=True, kw_only=True):
    """The figures of one network, by name: parameters, macs, bytes, latency, top1, top5, loss …"""

    figures: dict[str, Figure]


class Result(Struct, frozen=True, kw_only=True):
    """A compressed network on disk with everything that is known of it.

    `archive` is the path of the coded archive that holds the network, relative to the folder of
    results. `parent` is the identity of the result it was made from, empty for the source network.
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
