"""What flows between 8-bit layers, rounded while a network trains as its ONNX file will round it.

Jacob et al.: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference (2018). Ranges are those that an export would choose on the same samples before the
training, and stay: weights get used to them, and to learn them too gave no more accuracy in twice
the time. They are part of the network: its archive and its ONNX file have them.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, fx, nn

from featherweight.engine.applicability import Chosen
from featherweight.engine.errors import UserError
from featherweight.engine.events import IntegerOptions
from featherweight.engine.jobs import Check
from featherweight.engine.lifting import place
from featherweight.engine.methods.method import PrecisionMethod
from featherweight.engine.methods.precision.integer import Integer, TrainableInteger
from featherweight.engine.network import Network
from featherweight.engine.recovering.gradual import GradualForm
from featherweight.engine.recovering.whole_biases import align_biases, called_layer
from featherweight.engine.rounded_layers import RoundedActivation
from featherweight.engine.task import Task
from featherweight.engine.trainings import FineTuning
from featherweight.engine.weight_forms import CompactLayer, WeightForm
from featherweight.engine.writing.activation_ranges import Observed, chosen_range
from featherweight.engine.writing.batch_norm_folding import NORMS
from featherweight.engine.writing.calibration import calibration_batches
from featherweight.engine.writing.integer_sums import sums_exactly
from featherweight.engine.writing.onnx_activations import MOST_VALUES
from featherweight.engine.writing.onnx_weights import takes_bytes

TO_FLOAT = "Or set the activations of the recovery to float."
MULTIPLYING = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
LIMITS = ("aten.relu", "aten.relu_", "aten.relu6", "aten.hardtanh", "aten.hardtanh_", "aten.clamp")


class FittedRounding(nn.Module):
    """Rounds what flows through it, float32 of any shape, once it knows the range; before, not."""

    def __init__(self) -> None:
        super().__init__()
        self.scale: Tensor
        self.zero: Tensor
        self.register_buffer("scale", torch.tensor(0.0))
        self.register_buffer("zero", torch.tensor(0))
        # Processors that sum 8-bit products in 16 bits leave room for 7.
        self.top = 255 if sums_exactly() else 127
        self.observed: Observed | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the numbers rounded, of the same shape."""
        if self.observed is not None:
            values = x.detach().reshape(-1)
            self.observed.add(values[:: -(-values.numel() // MOST_VALUES)].numpy())
        return self.settled()(x) if self.scale else x

    @torch.no_grad()
    def fit(self) -> None:
        """Take the range of what was observed, as an export would."""
        assert self.observed is not None
        found = chosen_range(self.observed, IntegerOptions(), self.top)
        self.scale.fill_(found.scale)
        self.zero.fill_(found.zero)
        self.observed = None

    def settled(self) -> RoundedActivation:
        """Return what rounds to the same numbers for good."""
        return RoundedActivation(float(self.scale), int(self.zero), self.top)


def put_roundings(network: Network) -> None:
    """Put roundings, ranges still unknown, around the layers that a file computes in integers.

    They are where an export puts them: on what flows into these layers, and on what leaves them
    behind a batch norm and a limit such as ReLU, but not on outputs of the network. Those of an
    earlier training go. Raises UserError where there is no such layer.
    """
    assert isinstance(network.module, fx.GraphModule)
    _drop_roundings(network)
    nodes = list(dict.fromkeys(_places(network)))
    if not nodes:
        raise _no_integers()
    for node in nodes:
        _put(network, node)
    network.graph.lint()
    network.module.recompile()


def rounds(recovery: FineTuning | None) -> bool:
    """Say whether a training rounds activations."""
    return recovery is not None and recovery.epochs > 0 and recovery.activations == "8 bits"


def check_roundable(
    network: Network, chosen: Mapping[str, Chosen], recovery: FineTuning | None
) -> None:
    """Raise UserError where activations are to be rounded and no chosen layer is in integers."""
    if not rounds(recovery):
        return
    if not isinstance(network.module, fx.GraphModule):
        raise UserError(
            f"Activations cannot be rounded in training: {network.graph_lock}.",
            "Set the activations of the recovery to float.",
        )
    layers = ((network.layer(name), methods.precision) for name, methods in chosen.items())
    if not any(
        isinstance(layer, MULTIPLYING) and _gives_bytes(precision, layer.weight.shape)
        for layer, precision in layers
    ):
        raise _no_integers()


def _no_integers() -> UserError:
    return UserError(
        "Activations take 8 bits in training, and no layer computes in 8-bit integers.",
        "Give a linear layer or a convolution the precision integer with 8 bits and a scale for "
        f"each channel. {TO_FLOAT}",
    )


def fit_roundings(network: Network, task: Task, check: Check) -> None:
    """Let the roundings of a network, if any, find their ranges on recovery data, in eval mode.

    None of them rounds before all have.
    """
    found = list(_roundings(network))
    if not found:
        return
    for _, rounding in found:
        rounding.scale.zero_()
        rounding.observed = Observed()
    network.module.eval()
    with torch.no_grad():
        for inputs in calibration_batches(task, check):
            network.outputs(*inputs)
    for _, rounding in found:
        rounding.fit()


def settle_roundings(network: Network) -> None:
    """Put what rounds for good in the place of every trainable rounding, in place.

    Weights are settled already. Biases become the whole numbers that a file holds.
    """
    found = list(_roundings(network))
    for name, rounding in found:
        place(network.module, name, rounding.settled())
    if found:
        align_biases(network)


def _roundings(network: Network) -> Iterator[tuple[str, FittedRounding]]:
    for name, module in network.module.named_modules():
        if isinstance(module, FittedRounding):
            yield name, module


def _places(network: Network) -> Iterator[fx.Node]:
    (output,) = network.graph.find_nodes(op="output")
    for node in network.graph.nodes:
        if not _in_integers(network, node):
            continue
        for value in (node.args[0], _result(network, node)):
            if isinstance(value, fx.Node) and output not in value.users:
                yield value


def _in_integers(network: Network, node: fx.Node) -> bool:
    """Say whether a node calls a layer that a file computes in integers."""
    layer = called_layer(network, node)
    if not isinstance(layer, CompactLayer) or layer.inner_type not in MULTIPLYING:
        return False
    weight = layer.held().get("weight")
    padding = getattr(layer.settings, "padding_mode", "zeros")
    return weight is not None and padding == "zeros" and _in_bytes(weight)


def _in_bytes(form: WeightForm) -> bool:
    if isinstance(form, GradualForm):
        return _gives_bytes(form.precision, form.shape)
    if not isinstance(form, TrainableInteger):
        return False
    return form.scales.ndim == 1 and takes_bytes(form.bits, form.shape)


def _gives_bytes(precision: PrecisionMethod | None, shape: Sequence[int]) -> bool:
    if not isinstance(precision, Integer) or precision.granularity == "group":
        return False
    return takes_bytes(precision.bits, shape)


def _result(network: Network, node: fx.Node) -> fx.Node:
    """Return what leaves a layer: behind a batch norm and a limit that alone read it."""
    follower = _only_user(node)
    if isinstance(called_layer(network, follower), NORMS) and follower is not None:
        node, follower = follower, _only_user(follower)
    limits = follower is not None and str(follower.target).rpartition(".")[0] in LIMITS
    return follower if follower is not None and limits else node


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _put(network: Network, node: fx.Node) -> None:
    name = f"rounded_{node.name}"
    while hasattr(network.module, name):
        name += "_"
    place(network.module, name, FittedRounding())
    before = network.graph.find_nodes(op="placeholder")[-1] if node.op == "placeholder" else node
    with network.graph.inserting_after(before):
        made = network.graph.call_module(name, (node,))
    node.replace_all_uses_with(made, delete_user_cb=lambda user: user is not made)


def _drop_roundings(network: Network) -> None:
    for node in list(network.graph.find_nodes(op="call_module")):
        if isinstance(called_layer(network, node), RoundedActivation):
            node.replace_all_uses_with(node.args[0])
            network.graph.erase_node(node)
