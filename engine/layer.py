"""A layer as plain data: what a table row and a details panel show of it."""

from msgspec import Struct

from featherweight.engine.figures import Figure


class Layer(Struct, frozen=True, kw_only=True):
    """One layer of a network.

    Shapes are of the example input, batch first. `macs` and `activations` (elements of its outputs)
    are for one sample; `macs` is None where nobody could count them. `weights` maps the name of
    each parameter inside the layer to its shape. `bits` is what all its tensors take as they are,
    running statistics and the like included. `coupled` names the layers that lose channels
    together with this one. `locks` maps a method to the reason why it cannot take the layer.
    `latency` is measured (median of one call, at the example's batch) and `share` its part of the
    sum over all layers, 0 to 1; both None until measured. `sensitivity` is the estimated rise of
    the loss were its weights alone held in 4-bit integers, None until asked for; then a layer that
    it cannot be told of has the reason in `sensitivity_lock`.
    """

    name: str
    kind: str
    summary: str
    weights: dict[str, tuple[int, ...]]
    parameters: int
    macs: int | None
    activations: int
    bits: int = 0
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    calls: int = 1
    coupled: tuple[str, ...] = ()
    locks: dict[str, str] = {}
    latency: Figure | None = None
    share: float | None = None
    sensitivity: Figure | None = None
    sensitivity_lock: str = ""


class GraphNode(Struct, frozen=True, kw_only=True):
    """A call of a layer, or an operation that joins or reshapes what flows between layers.

    `name` is unique; the first call of a layer has the layer's own. `path` is the module that the
    node lies in, empty for the network itself. `layer` names the row of the table that computes it,
    empty where none does. `then` lists the element-wise functions applied to its result.
    """

    name: str
    kind: str
    path: str = ""
    layer: str = ""
    then: tuple[str, ...] = ()


class NetworkSummary(Struct, frozen=True, kw_only=True):
    """A whole network as plain data.

    `uncounted` lists the operations whose MACs are not in `macs`, in words; `graph_lock` is the
    reason why the network could not be captured as a graph (then only methods that replace one
    layer apply), empty where it could; `forms` are then the formats that it can be exported in.
    `notes` are sentences the reader wants to pass on.
    `nodes`, in an order in which they can be computed, and `edges` between their names are the
    graph as a person would draw it; empty where there is none.
    """

    path: str
    format: str
    layers: tuple[Layer, ...]
    parameters: int
    macs: int
    input_shapes: tuple[tuple[int, ...], ...]
    output_shapes: tuple[tuple[int, ...], ...]
    file_bytes: int
    uncounted: tuple[str, ...] = ()
    graph_lock: str = ""
    forms: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    nodes: tuple[GraphNode, ...] = ()
    edges: tuple[tuple[str, str], ...] = ()


class Histogram(Struct, frozen=True):
    """Counts of values between `edges` (one edge more than counts)."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class Equivariance(Struct, frozen=True):
    """How far a layer is from following a transformation of its input: 0 is exactly, 1 not at all.

    The error is relative and takes the best permutation of the output channels.
    """

    transformation: str
    error: float


class LayerDetails(Struct, frozen=True, kw_only=True):
    """What is computed only for the layer a person looks at.

    `spectrum` holds the singular values of the weight seen as a matrix (outputs by the rest),
    largest first, empty where it has none; where `spectrum_estimated`, all but the leading ones are
    drawn from an estimate of their density. `suggested_rank` is how many of them stand out from the
    noise of the others, None where there are none. `equivariance` is simulated on noise, empty for
    layers that nothing is transformed for. Statistics are of the layer's main weight.
    """

    name: str
    mean: float
    deviation: float
    minimum: float
    maximum: float
    zeros: float
    histogram: Histogram
    spectrum: tuple[float, ...]
    spectrum_estimated: bool = False
    suggested_rank: int | None = None
    equivariance: tuple[Equivariance, ...] = ()
