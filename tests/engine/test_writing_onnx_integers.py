"""Activations in integers: the ranges they get, and what the file computes with them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from featherweight.engine.command_line import MENDABLE, main
from featherweight.engine.events import IntegerOptions
from featherweight.engine.methods.precision.integer import Integer
from featherweight.engine.network import capture
from featherweight.engine.weight_forms import CompactLayer, settle
from featherweight.engine.writing.activation_ranges import (
    Observed,
    chosen_range,
    range_between,
    squared_error,
)
from featherweight.engine.writing.onnx_activations import quantize_activations
from featherweight.engine.writing.onnx_export import export
from featherweight.engine.writing.onnx_weights import multiply_out, needed_opset, put_weights

VALUES = arrays(np.float32, st.integers(1, 60), elements=st.floats(-1e6, 1e6, width=32))
WAYS = ("min-max", "percentile", "entropy", "error")


def observed(*batches: npt.NDArray[np.floating]) -> Observed:
    found = Observed()
    for batch in batches:
        found.add(batch)
    return found


@given(st.lists(VALUES, min_size=1, max_size=5))
def test_that_a_histogram_is_the_same_in_batches_and_at_once(
    batches: list[npt.NDArray[np.float32]],
) -> None:
    apart, together = observed(*batches), observed(np.concatenate(batches))
    whole = np.concatenate(batches)
    assert (apart.low, apart.high) == (min(whole.min(), 0.0), max(whole.max(), 0.0))
    assert (apart.low, apart.high) == (together.low, together.high)
    assert apart.zeros == together.zeros == (whole == 0).sum()
    assert apart.counts.sum() + apart.zeros == whole.size
    assert np.array_equal(apart.counts[apart.counts > 0], together.counts[together.counts > 0])


def test_that_quantiles_of_a_histogram_are_those_of_the_values() -> None:
    values = np.random.default_rng(0).normal(0.5, 2.0, 100_000)
    seen = observed(values[:10], values[10:])
    for share in (0.001, 0.25, 0.5, 0.999):
        assert abs(seen.quantile(share) - np.quantile(values, share)) < 0.02


@pytest.mark.parametrize("top", [127, 255])
@pytest.mark.parametrize("way", WAYS)
def test_that_every_way_encloses_zero_and_stays_within_the_ends(way: str, top: int) -> None:
    values = np.random.default_rng(0).standard_t(3, 50_000).clip(-3.0, None)
    options = IntegerOptions(ranges=way, percentile=99.9)
    found = chosen_range(observed(values), options, top)
    assert 0 <= found.zero <= top
    assert found.scale * top <= values.max() - values.min() + 1e-6
    if way == "min-max":
        assert found.scale * top == pytest.approx(values.max() - values.min())
    else:
        assert found.scale * top < 0.98 * (values.max() - values.min())


def test_that_the_least_error_is_less_than_that_of_the_other_ways() -> None:
    values = np.random.default_rng(1).laplace(0.0, 1.0, 50_000).clip(0.0, None)
    seen = observed(values)
    errors = {
        way: squared_error(seen, chosen_range(seen, IntegerOptions(ranges=way), 127))
        for way in WAYS
    }
    assert min(errors, key=errors.__getitem__) == "error"
    exact = np.rint(values / (found := range_between(0.0, seen.high, 127)).scale) * found.scale
    assert errors["min-max"] == pytest.approx(((values - exact) ** 2).sum(), rel=0.02)


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU6(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.ReLU(),
        nn.Conv2d(16, 8, 1),
        nn.Flatten(),
        nn.Linear(8 * 64, 10),
    ).eval()


def quantized(
    module: nn.Sequential, options: IntegerOptions, bits: int
) -> tuple[onnx.ModelProto, set[str], Mapping[str, npt.NDArray[np.float32]], torch.Tensor]:
    """Return the model, the layers in integers, the inputs it was calibrated on, and outputs."""
    network = capture(module, (torch.zeros(1, 3, 8, 8),))
    for name in ("0", "2", "4", "6"):
        layer = network.layer(name)
        form = Integer().trainable(layer.get_parameter("weight"), None)
        network.replace(name, CompactLayer(layer, {"weight": form}))
    settle(network)
    exported = export(network, needed_opset(network))
    put_weights(exported.model, exported.forms)
    inputs = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 4
    batches = {exported.inputs[0]: inputs.numpy()}
    kept = quantize_activations(exported.model, [batches], options, bits)
    multiply_out(exported.model, kept)
    with torch.no_grad():
        return exported.model, kept, batches, network.outputs(inputs)[0]


@pytest.mark.parametrize("way", WAYS)
def test_that_layers_between_limits_run_in_integers(way: str, tmp_path: Path) -> None:
    model, kept, inputs, outputs = quantized(small_network(), IntegerOptions(ranges=way), 8)
    assert len(kept) == 4
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("QLinearConv") == 3
    assert not {"Conv", "Clip", "Relu"} & set(kinds)
    difference = torch.from_numpy(session.run(None, dict(inputs))[0]) - outputs
    assert difference.square().mean() < 1e-3 * outputs.square().mean()


def test_that_seven_bits_are_not_left_within_the_calibrated_range() -> None:
    options = IntegerOptions(ranges="min-max")
    model, _, inputs, outputs = quantized(small_network(), options, 7)
    names = [
        node.input[0]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and ".dequantized" in node.output[0]
    ]
    names = [name for name in names if not name.endswith(".integers")]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    exact, *found = onnxruntime.InferenceSession(model.SerializeToString()).run(None, dict(inputs))
    assert len(found) == 5
    assert all(values.dtype == np.uint8 for values in found)
    assert all(100 < values.max() <= 128 for values in found)
    beyond = {name: 3 * values for name, values in inputs.items()}
    _, *found = onnxruntime.InferenceSession(model.SerializeToString()).run(None, beyond)
    ended = next(values for name, values in zip(names, found, strict=True) if "ended" in name)
    assert ended.max() == 127
    difference = torch.from_numpy(exact) - outputs
    assert difference.square().mean() < 2e-3 * outputs.square().mean()


def test_that_a_row_without_weight_keeps_no_layer_in_floats() -> None:
    module = small_network()
    with torch.no_grad():
        module[0].weight[3] = 1e-20
        module[0].bias[3] = 2.0
    model, kept, inputs, outputs = quantized(module, IntegerOptions(), 8)
    assert len(kept) == 4
    session = onnxruntime.InferenceSession(model.SerializeToString())
    difference = torch.from_numpy(session.run(None, dict(inputs))[0]) - outputs
    assert difference.square().mean() < 1e-3 * outputs.square().mean()


def test_that_the_command_line_refuses_a_percentile_out_of_range(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["export", "a.onnx", "b.onnx", "--percentile", "50"]) == MENDABLE
    assert "percentile is between 99.9 and 99.999" in capsys.readouterr().err
