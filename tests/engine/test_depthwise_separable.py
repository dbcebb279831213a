"""Depthwise separable: the nearest pair of a depthwise and a 1×1 convolution."""

import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.errors import CancelledError
from featherweight.engine.jobs import Job
from featherweight.engine.methods.structure.depthwise_separable import DepthwiseSeparable

TAKEN = [
    (nn.Conv2d(16, 24, 3, padding=1), torch.randn(2, 16, 8, 8)),
    (nn.Conv2d(3, 32, 7, stride=2, padding=3, bias=False), torch.randn(2, 3, 20, 20)),
    (nn.Conv2d(1, 16, 3, stride=2), torch.randn(2, 1, 9, 9)),
    (nn.Conv2d(16, 12, (1, 3), dilation=(1, 2), padding="same"), torch.randn(2, 16, 8, 8)),
    (nn.Conv2d(8, 16, 3, padding=1, padding_mode="circular"), torch.randn(2, 8, 8, 8)),
    (nn.Conv2d(8, 24, 3, groups=4), torch.randn(2, 8, 8, 8)),
    (nn.Conv1d(12, 20, 5, stride=3), torch.randn(2, 12, 17)),
    (nn.Conv3d(6, 10, 2), torch.randn(2, 6, 4, 4, 4)),
]


def kernel_of(chain: nn.Sequential, layer: nn.Module) -> Tensor:
    """Return the kernel that both convolutions stand for."""
    alone, across = (part.get_parameter("weight").detach() for part in chain)
    groups = chain[1].groups
    assert isinstance(groups, int)
    inputs = layer.get_parameter("weight").shape[1]
    taps = alone.reshape(groups, inputs, -1, *alone.shape[2:])
    mixed = across.reshape(groups, -1, inputs, taps.shape[2])
    return torch.einsum("gct...,gnct->gnc...", taps, mixed).flatten(0, 1)


def error(layer: nn.Module, multiplier: int) -> float:
    """Return how far the pair's kernel is from the layer's."""
    chain = DepthwiseSeparable(multiplier=multiplier).rewritten(layer)
    made = kernel_of(chain, layer)
    return float(torch.linalg.vector_norm(layer.get_parameter("weight").detach() - made))


@pytest.mark.parametrize(("layer", "x"), TAKEN)
@pytest.mark.parametrize("multiplier", [1, 2, 3])
def test_that_both_run_as_the_kernel_they_stand_for(
    layer: nn.Module, x: Tensor, multiplier: int
) -> None:
    chain = DepthwiseSeparable(multiplier=multiplier).rewritten(layer)
    kernel = kernel_of(chain, layer)
    expected = torch.func.functional_call(layer, {"weight": kernel}, x)
    torch.testing.assert_close(chain(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("layer", "_x"), TAKEN)
@pytest.mark.parametrize("multiplier", [1, 3])
def test_that_both_hold_fewer_weights_whatever_the_multiplier(
    layer: nn.Module, _x: Tensor, multiplier: int
) -> None:
    chain = DepthwiseSeparable(multiplier=multiplier).rewritten(layer)
    held = sum(part.get_parameter("weight").numel() for part in chain)
    assert held < layer.get_parameter("weight").numel()


def test_that_a_multiplier_of_one_holds_what_a_mobile_network_does() -> None:
    chain = DepthwiseSeparable().rewritten(nn.Conv2d(64, 128, 3))
    sizes = [part.get_parameter("weight").numel() for part in chain]
    assert sizes == [64 * 9, 64 * 128]


@pytest.mark.parametrize(("outputs", "most"), [(2, 1), (4, 2), (8, 3), (64, 3)])
def test_that_a_narrow_layer_takes_no_more_kernels_than_save_weights(
    outputs: int, most: int
) -> None:
    chain = DepthwiseSeparable(multiplier=3).skeleton(nn.Conv2d(5, outputs, 3))
    assert chain[0].get_parameter("weight").shape[0] == 5 * most


@pytest.mark.parametrize(("layer", "_x"), TAKEN)
def test_that_the_skeleton_has_the_shapes_of_the_real_pair(layer: nn.Module, _x: Tensor) -> None:
    method = DepthwiseSeparable(multiplier=2)
    skeleton, real = method.skeleton(layer), method.rewritten(layer)
    assert all(value.is_meta for value in skeleton.parameters())
    assert str(skeleton) == str(real)
    shapes = [
        {name: (value.shape, value.dtype) for name, value in chain.named_parameters()}
        for chain in (skeleton, real)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("multiplier", [1, 2, 3])
def test_that_the_error_is_the_energy_of_the_values_left_out(multiplier: int) -> None:
    layer = nn.Conv2d(6, 20, 3)
    slices = layer.weight.detach().flatten(2).transpose(0, 1)
    left_out = torch.linalg.svdvals(slices)[:, multiplier:]
    assert error(layer, multiplier) == pytest.approx(float(torch.linalg.norm(left_out)), rel=1e-4)


@pytest.mark.parametrize("planted", [1, 3])
def test_that_planted_kernels_are_recovered_exactly(planted: int) -> None:
    layer = nn.Conv2d(10, 24, 3)
    parts = torch.randn(24, 10, planted), torch.randn(10, planted, 3, 3)
    layer.weight = nn.Parameter(torch.einsum("nct,ctyx->ncyx", *parts))
    scale = float(torch.linalg.vector_norm(layer.weight.detach()))
    assert error(layer, planted) < 1e-5 * scale
    assert planted == 1 or error(layer, planted - 1) > 1e-2 * scale


def test_that_every_further_kernel_brings_the_layer_nearer() -> None:
    layer = nn.Conv2d(16, 24, 3)
    errors = [error(layer, multiplier) for multiplier in range(1, 4)]
    assert errors == sorted(errors, reverse=True)


def test_that_a_kernel_of_zeros_stays_zero_and_finite() -> None:
    layer = nn.Conv2d(8, 8, 3)
    nn.init.zeros_(layer.weight)
    assert error(layer, 1) == 0


def test_that_the_layer_itself_is_unchanged_and_shares_nothing() -> None:
    layer = nn.Conv2d(8, 8, 3).eval()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    chain = DepthwiseSeparable().rewritten(layer)
    with torch.no_grad():
        for value in chain.parameters():
            value.zero_()
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert not chain.training


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Linear(8, 8), "takes convolutions"),
        (nn.ConvTranspose2d(8, 8, 3), "takes convolutions"),
        (nn.Conv2d(8, 8, 1), "SVD takes it"),
        (nn.Conv2d(8, 16, 3, groups=8), "depthwise already"),
        (nn.Conv2d(8, 1, 3), "too small"),
    ],
)
def test_that_layers_it_cannot_take_are_locked_with_the_reason(
    layer: nn.Module, reason: str
) -> None:
    assert reason in DepthwiseSeparable.lock(layer)
    assert DepthwiseSeparable.lock(layer).endswith(".")


@pytest.mark.parametrize(("layer", "_x"), TAKEN)
def test_that_layers_it_takes_are_not_locked(layer: nn.Module, _x: Tensor) -> None:
    assert DepthwiseSeparable.lock(layer) == ""


def test_that_a_cancel_between_two_channels_stops_the_method() -> None:
    job, checks = Job(), []

    def check() -> None:
        checks.append(True)
        if len(checks) == 6:
            job.cancel()
        job.check()

    with pytest.raises(CancelledError):
        DepthwiseSeparable().rewritten(nn.Conv2d(8, 8, 3), check)
    assert len(checks) == 6
