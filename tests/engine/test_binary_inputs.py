"""Binary inputs: what they are exactly, their gradients, every file, and training with them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from featherweight.engine.applicability import chosen_methods
from featherweight.engine.binary_layers import BinaryInputs
from featherweight.engine.compression import constrain, restructured
from featherweight.engine.events import Source, TaskSource
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.jobs import Job
from featherweight.engine.methods.precision.binary import BinaryForm
from featherweight.engine.methods.structure.binary_inputs import XnorInputs
from featherweight.engine.network import Network, capture
from featherweight.engine.prediction import cost_of
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.recovering.fine_tuning import fine_tune
from featherweight.engine.task import read_task
from featherweight.engine.trainings import FineTuning
from featherweight.engine.weight_forms import CompactLayer, settle
from featherweight.engine.writing.archive import write_archive
from featherweight.engine.writing.exported_program import write_exported_program
from featherweight.engine.writing.onnx import write_onnx
from featherweight.engine.writing.onnx_half import write_half_onnx
from featherweight.engine.writing.safetensors import write_safetensors

TAKEN = [
    (nn.Linear(12, 7), torch.randn(2, 5, 12)),
    (nn.Linear(12, 7, bias=False), torch.randn(12)),
    (nn.Conv1d(6, 8, 5, stride=3, padding=2, padding_mode="circular"), torch.randn(2, 6, 17)),
    (nn.Conv2d(6, 9, 3, padding="same", dilation=2, groups=3), torch.randn(2, 6, 8, 8)),
    (nn.Conv2d(6, 6, 3, groups=6, bias=False), torch.randn(6, 8, 8)),
    (nn.Conv3d(4, 5, 2), torch.randn(2, 4, 3, 4, 5)),
]


class Mixed(nn.Module):
    """A convolution behind a batch norm, one behind a ReLU, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4)
        self.first, self.second = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 8, 3, 2)
        self.fc = nn.Linear(8 * 9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(self.norm(x)).relu()).relu()
        result: Tensor = self.fc(x.flatten(1))
        return result


def compressed(network: Network, layers: dict[str, str], precision: str = "binary") -> Network:
    """Give layers binary inputs around what each is mapped to, and a precision."""
    coupling = analyse(network)
    held = Setting(precision) if precision else None
    recipe = Recipe(
        layers={
            name: Choice(structure=Setting("binary_inputs", {"around": around}), precision=held)
            for name, around in layers.items()
        }
    )
    chosen = chosen_methods(network, coupling, recipe)
    made = restructured(network, coupling, chosen)
    constrain(made, chosen)
    return made


@settings(deadline=None)
@given(st.integers(2, 9), st.integers(0, 3), st.booleans(), st.integers(0, 2**31))
def test_that_channels_of_a_place_become_two_values_of_the_least_error(
    channels: int, spatial: int, centred: bool, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(2, channels, *(3, 2, 2)[:spatial], generator=random)
    made = BinaryInputs(channels, spatial, centred)(x)
    middle = x.mean(1, keepdim=True) if centred else torch.zeros_like(x[:, :1])
    apart, signed = x - middle, made - middle
    torch.testing.assert_close(signed.abs(), signed.abs()[:, :1].expand_as(x))
    signs = torch.where(apart < 0, -1.0, 1.0)
    best = (apart * signs).sum(1, keepdim=True) / channels
    torch.testing.assert_close(signed, signs * best)


def test_that_zero_counts_as_positive_and_a_place_of_zeros_stays_zero() -> None:
    x = torch.tensor([[0.0, -3.0, 1.0, -0.0], [0.0, 0.0, 0.0, 0.0]], requires_grad=True)
    made = BinaryInputs(4, centred=False)(x)
    made.sum().backward()
    assert made.tolist() == [[1.0, -1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_that_gradients_pass_straight_through_signs_and_are_cut_beyond_the_mean_size() -> None:
    x = torch.tensor([[0.5, -0.5, 2.0, -3.0]], requires_grad=True)
    sent = torch.tensor([[1.0, 10.0, 100.0, 1000.0]])
    (BinaryInputs(4, centred=False)(x) * sent).sum().backward()
    signs = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    # The mean size 1.5 depends on every input as well: it sends the same share to each of them.
    through_size = signs * (sent * signs).sum() / 4
    straight = sent * torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    assert x.grad is not None
    torch.testing.assert_close(x.grad, straight + through_size)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_that_gradients_are_the_same_at_every_scale_of_the_inputs(scale: float) -> None:
    x, sent = torch.randn(3, 16), torch.randn(3, 16)
    found = []
    for factor in (1.0, scale):
        scaled = (x * factor).requires_grad_()
        (BinaryInputs(16)(scaled) * sent).sum().backward()
        found.append(scaled.grad)
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)


def test_that_a_gradient_changes_no_bit_of_the_outputs() -> None:
    x = torch.randn(4, 6, 5, 5)
    layer = BinaryInputs(6, 2)
    assert torch.equal(layer(x), layer(x.clone().requires_grad_()))


@pytest.mark.parametrize(("layer", "x"), TAKEN)
def test_that_the_layer_runs_as_it_was_on_binary_inputs(layer: nn.Module, x: Tensor) -> None:
    inputs, same = XnorInputs(around="zero").rewritten(layer)
    axis = -1 - len(getattr(layer, "kernel_size", ()))
    expected = layer(torch.where(x < 0, -1.0, 1.0) * x.abs().mean(axis, keepdim=True))
    assert same is not layer
    torch.testing.assert_close(same(inputs(x)), expected)


@pytest.mark.parametrize(
    ("layer", "word"),
    [
        (nn.Embedding(8, 8), "whole numbers"),
        (nn.LSTM(8, 8), "recurrent"),
        (nn.ConvTranspose2d(8, 8, 2), "transposed"),
        (nn.LayerNorm(8), "linear layers"),
        (nn.Conv2d(1, 8, 3), "single input channel"),
    ],
)
def test_that_a_layer_whose_inputs_stay_is_locked_with_the_reason(
    layer: nn.Module, word: str
) -> None:
    assert word in XnorInputs.lock(layer)


def test_that_alone_it_changes_neither_parameters_nor_products_nor_bits() -> None:
    network = capture(Mixed().eval(), (torch.randn(1, 4, 8, 8),))
    made = compressed(network, dict.fromkeys(("first", "second", "fc"), "mean"), precision="")
    assert cost_of(made) == cost_of(network)


def test_that_xor_and_a_count_of_bits_give_the_outputs_of_binary_weights_and_inputs() -> None:
    network = capture(nn.Sequential(nn.Linear(128, 30, bias=False)), (torch.randn(3, 128),))
    made = compressed(network, {"0": "zero"})
    settle(made)
    layer = made.layer("0.1")
    assert isinstance(layer, CompactLayer)
    form = layer.forms["weight"]
    assert isinstance(form, BinaryForm)
    x = torch.randn(3, 128)
    weights, inputs = (
        np.packbits(signs, axis=1).view(np.uint64) for signs in (form.planes()[0], x.numpy() >= 0)
    )
    differing = np.bitwise_count(inputs[:, None] ^ weights).sum(2, dtype=np.int64)
    sizes = x.abs().mean(1, keepdim=True) * form.scales[:, 0]
    expected = sizes * torch.from_numpy(128 - 2 * differing)
    torch.testing.assert_close(made.outputs(x)[0], expected.float(), rtol=1e-5, atol=1e-5)


def test_that_binary_inputs_and_weights_go_into_every_file_and_back(tmp_path: Path) -> None:
    torch.manual_seed(2)
    network = capture(Mixed().eval(), (torch.randn(2, 4, 8, 8),))
    layers = {"first": "zero", "second": "mean", "fc": "mean"}
    made = compressed(network, layers)
    settle(made)
    path = tmp_path / "made.fwz"
    write_archive(made, {}, path)
    again = read_network(Source(path=str(path)))
    inputs = torch.randn(3, 4, 8, 8)
    torch.testing.assert_close(again.outputs(inputs), made.outputs(inputs), rtol=0, atol=0)
    exports = [
        write_onnx(made, tmp_path / "made.onnx", None, network, Job()),
        write_onnx(again, tmp_path / "again.onnx", None, None, Job()),
        write_exported_program(made, tmp_path / "made.pt2", Job()),
        write_safetensors(made, tmp_path / "made.safetensors", Job()),
    ]
    assert all(export.checks["relative_error"].value < 1e-4 for export in exports)
    assert "featherweight" not in (tmp_path / "made.py").read_text().partition("import")[2]


def test_that_signs_around_zero_survive_a_file_of_16_bit_floats(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = capture(nn.Sequential(nn.Linear(256, 30)), (torch.randn(2, 256),))
    made = compressed(network, {"0": "zero"})
    settle(made)
    half = write_half_onnx(made, tmp_path / "half.onnx", None, network, Job())
    assert half.checks["relative_error"].value < 0.01


def test_that_training_brings_back_what_binary_inputs_and_weights_lose(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    centres, labels = random.normal(size=(10, 32)), np.arange(2000) % 10
    x = (centres[labels] + random.normal(size=(2000, 32))).astype(np.float32)
    np.savez(tmp_path / "blobs.npz", images=x, labels=labels)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))
    network = capture(module, (torch.randn(2, 32),))
    task = read_task(TaskSource(data=str(tmp_path / "blobs.npz")), network)
    settings = FineTuning(epochs=8, learning_rate=2e-3, batch_size=64, optimizer="adamw")
    fine_tune(network, task, settings, 0, None, Job())
    made = compressed(network, {"0": "mean", "2": "mean"})
    before = task.evaluate(made)["top1"].value
    fine_tune(made, task, settings, 0, None, Job())
    settle(made)
    after = task.evaluate(made)["top1"].value
    assert after > before + 5
    assert after > 85
