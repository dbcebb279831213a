"""Rounded activations: what QuantizeLinear and DequantizeLinear are, and written as these."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper
from torch import Tensor, nn

from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.lifting import place
from featherweight.engine.methods.precision.integer import Integer
from featherweight.engine.network import Network, capture
from featherweight.engine.results import Export
from featherweight.engine.rounded_layers import RoundedActivation
from featherweight.engine.weight_forms import CompactLayer, settle
from featherweight.engine.writing.activation_ranges import Range
from featherweight.engine.writing.onnx_activations import put_pairs, quantize_within
from featherweight.engine.writing.onnx_export import Exported, export, traced
from featherweight.engine.writing.onnx_roundings import take_roundings
from featherweight.engine.writing.onnx_weights import multiply_out, needed_opset, put_weights

FLOATS = arrays(np.float32, 40, elements=st.floats(-600, 600, width=32))
STEPS = st.floats(2.0**-10, 8.0, width=32)


def pair(scale: float, zero: int, top: int) -> onnxruntime.InferenceSession:
    """Return a session of nothing but a pair around one value."""
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [40]) for name in "xy"]
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "pair", sides[:1], sides[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    put_pairs(model, {"x": Range(scale, zero, top)}, {"x"}, set())
    return onnxruntime.InferenceSession(model.SerializeToString())


@given(FLOATS, STEPS, st.integers(0, 255), st.sampled_from([127, 255]), st.booleans())
def test_that_torch_and_onnx_runtime_round_to_the_same_numbers(
    values: np.ndarray, scale: float, zero: int, top: int, halves: bool
) -> None:
    zero = min(zero, top)
    if halves:
        values = (np.rint(values) + np.float32(0.5)) * np.float32(scale)
    (wanted,) = pair(scale, zero, top).run(None, {"x": values})
    found = RoundedActivation(scale, zero, top)(torch.from_numpy(values)).numpy()
    assert np.array_equal(found, wanted)


def test_that_gradients_pass_straight_through_where_no_end_is_reached() -> None:
    x = torch.tensor([-3.0, -0.9, 0.3, 1.4, 40.0], requires_grad=True)
    rounded = RoundedActivation(0.25, 4, 127)
    y = rounded(x)
    y.backward(torch.arange(1.0, 6.0))
    assert torch.equal(y, rounded(x.detach()))
    assert torch.equal(x.grad, torch.tensor([0.0, 2.0, 3.0, 4.0, 0.0]))


@pytest.mark.parametrize(
    "numbers", [(0.0, 0, 255), (0.1, 9, 8), (0.1, 0, 256), (float("inf"), 0, 9)]
)
def test_that_numbers_which_eight_bits_cannot_hold_are_refused(
    numbers: tuple[float, int, int],
) -> None:
    with pytest.raises(ValueError, match="8 bits"):
        RoundedActivation(*numbers)


def rounded(module: nn.Module, example: Tensor, ranges: dict[str, RoundedActivation]) -> Network:
    """Return a network in which these values, by their nodes, are rounded; layers are in 8 bits."""
    network = capture(module, (example,))
    for name, layer in list(network.layers()):
        if not Integer.lock(layer):
            form = Integer().trainable(layer.get_parameter("weight"), None)
            network.replace(name, CompactLayer(layer, {"weight": form}))
    settle(network)
    nodes = {node.name: node for node in network.graph.nodes}
    for name, layer in ranges.items():
        place(network.module, f"rounded_{name}", layer)
        with network.graph.inserting_after(nodes[name]):
            made = network.graph.call_module(f"rounded_{name}", (nodes[name],))
        nodes[name].replace_all_uses_with(made, delete_user_cb=lambda user, made=made: user != made)
    network.module.recompile()
    return network


def chain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU6(), nn.Conv2d(16, 8, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(8 * 16, 10),
    ).eval()  # fmt: skip


def run(model: onnx.ModelProto, inputs: Tensor) -> Tensor:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    (found,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    return torch.from_numpy(found)


INPUTS = 2 * torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(1))
# The second reaches beyond what ReLU6 lets through, the last to less than it does.
REACHING = {
    "input_1": RoundedActivation(2.0**-5, 128, 255),
    "hardtanh": RoundedActivation(3 / 64, 0, 255),
    "relu": RoundedActivation(2.0**-7, 0, 255),
}


@pytest.mark.parametrize("exporter", [lambda network: export(network, 20), traced])
def test_that_both_exporters_write_what_is_found_as_roundings(
    exporter: Callable[[Network], Exported],
) -> None:
    scaled_by_one = {**REACHING, "relu": RoundedActivation(1.0, 3, 127)}
    model = exporter(rounded(chain(), torch.zeros(2, 3, 8, 8), scaled_by_one)).model
    found = take_roundings(model)
    wanted = {(layer.scale, layer.zero, layer.top) for layer in scaled_by_one.values()}
    assert {(of.scale, of.zero, of.top) for of in found.values()} == wanted
    assert not {"Round", "Div"} & {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("top", [255, 127])
def test_that_a_file_in_integers_computes_what_torch_does(top: int) -> None:
    ranges = {
        name: RoundedActivation(layer.scale * 255 / top, layer.zero * top // 255, top)
        for name, layer in REACHING.items()
    }
    network = rounded(chain(), torch.zeros(2, 3, 8, 8), ranges)
    exported = export(network, needed_opset(network))
    found = take_roundings(exported.model)
    put_weights(exported.model, exported.forms)
    kept = quantize_within(exported.model, found)
    multiply_out(exported.model, kept)
    # What flows into the last layer is flat, and not rounded once more.
    assert kept == {"0.weight", "2.weight"}
    outputs = network.outputs(INPUTS)[0].detach()
    difference = (run(exported.model, INPUTS) - outputs).abs()
    # A few land on the other side of a half; without the ends all would be far off.
    assert difference.median() < 1e-3 * outputs.abs().max()
    assert difference.max() < 0.02 * outputs.abs().max()


def test_that_floats_between_roundings_keep_all_their_digits() -> None:
    network = rounded(chain(), torch.zeros(2, 3, 8, 8), REACHING)
    exported = export(network, needed_opset(network))
    found = take_roundings(exported.model)
    put_weights(exported.model, exported.forms)
    multiply_out(exported.model, set())
    put_pairs(exported.model, found, set(found), set())
    outputs = network.outputs(INPUTS)[0].detach()
    difference = (run(exported.model, INPUTS) - outputs).abs()
    assert difference.median() < 1e-5 * outputs.abs().max()


def test_that_arithmetic_which_others_read_too_is_left_as_it_is() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 6)
            self.rounding = RoundedActivation(0.5, 4, 15)

        def forward(self, x: Tensor) -> Tensor:
            inner = self.fc(x)
            coarse = torch.round(inner / 3.0).clamp(-2, 700) * 3.0
            return self.rounding(inner) + inner + coarse

    network = capture(Both().eval(), (torch.zeros(2, 6),))
    exported = export(network, 20)
    assert take_roundings(exported.model) == {}
    x = torch.randn(8, 6)
    torch.testing.assert_close(run(exported.model, x), network.outputs(x)[0].detach())


def test_that_every_file_has_the_rounding(
    in_every_file: Callable[..., dict[str, Export]], tmp_path: Path
) -> None:
    module = chain()
    # Sums of such weights are exact in any order: nothing lands on the other side of a half.
    with torch.no_grad():
        for value in module.parameters():
            value.copy_((64 * value).round() / 64)
    network = rounded(module, torch.zeros(2, 3, 8, 8), REACHING)
    in_every_file(network, {}, tmp_path, (INPUTS[:2],))
    assert "RoundedActivation(scale=0.046875" in (tmp_path / "made.py").read_text()


def test_that_channels_pass_a_rounding_as_they_are() -> None:
    network = rounded(chain(), torch.zeros(2, 3, 8, 8), REACHING)
    for name, layer in list(network.layers()):
        network.replace(name, layer.plain())
    assert {found.layers[0] for found in analyse(network).sets} == {"0", "2"}
