"""What a layer follows, on layers of which it is known by how they were made."""

import pytest
import torch
from torch import nn

from featherweight.engine.inspecting.equivariance import MOST_CHANNELS, equivariance


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(5)


def errors(layer: nn.Module, x: torch.Tensor | None = None) -> dict[str, float]:
    return {found.transformation: found.error for found in equivariance(layer, x)}


def with_kernel(kernel: torch.Tensor) -> nn.Conv2d:
    layer = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[-1], padding=1)
    layer.weight = nn.Parameter(kernel)
    return layer


def test_that_a_convolution_follows_translations_and_little_else() -> None:
    found = errors(nn.Conv2d(4, 8, 3))
    assert found["translation"] < 1e-6
    assert all(error > 0.2 for name, error in found.items() if name != "translation")


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_that_borders_and_strides_do_not_hide_translations(stride: int, mode: str) -> None:
    layer = nn.Conv2d(3, 5, 3, padding=1, stride=stride, padding_mode=mode)
    assert errors(layer)["translation"] < 1e-6


def test_that_filters_and_their_quarter_turns_follow_rotations() -> None:
    base = torch.randn(3, 4, 3, 3)
    found = errors(with_kernel(torch.cat([base.rot90(turn, (-2, -1)) for turn in range(4)])))
    assert found["rotation by 90°"] < 1e-6
    assert found["horizontal flip"] > 0.2


def test_that_mirrored_filters_follow_flips() -> None:
    base = torch.randn(4, 3, 3, 3)
    found = errors(with_kernel(torch.cat([base, base.flip(-1)])))
    assert found["horizontal flip"] < 1e-6
    assert found["vertical flip"] > 0.2


def test_that_opposite_filters_follow_negation() -> None:
    base = torch.randn(4, 3, 3, 3)
    assert errors(with_kernel(torch.cat([base, -base])))["negation"] < 1e-6


def test_that_round_filters_nearly_follow_turns_by_odd_angles_and_white_ones_do_not() -> None:
    steps = torch.linspace(-1.5, 1.5, 5)
    round_filter = torch.exp(-(steps[:, None] ** 2 + steps[None] ** 2))
    smooth = errors(with_kernel(round_filter.expand(1, 1, 5, 5).clone()))
    rough = errors(with_kernel(torch.randn(6, 1, 5, 5)))
    assert smooth["rotation by 45°"] < 0.1 < rough["rotation by 45°"]
    assert smooth["scale by 1.5"] < rough["scale by 1.5"]


def test_that_filters_with_a_twin_follow_shifts_of_the_bias() -> None:
    base = torch.randn(4, 3, 3, 3)
    layer = with_kernel(torch.cat([base, base]))
    assert errors(layer)["shift of the bias"] < 1e-6
    assert errors(with_kernel(base))["shift of the bias"] > 0.2


def test_that_a_linear_layer_is_asked_what_concerns_no_places() -> None:
    base = torch.randn(6, 10)
    layer = nn.Linear(10, 12)
    layer.weight = nn.Parameter(torch.cat([base, -base]))
    found = errors(layer)
    assert list(found) == ["negation", "shift of the bias"]
    assert found["negation"] < 1e-6


@pytest.mark.parametrize(
    "layer",
    [nn.Conv1d(3, 4, 5, stride=2), nn.Conv3d(2, 4, 3, padding=1), nn.Conv2d(8, 8, 3, groups=8)],
)
def test_that_other_convolutions_are_told_too(layer: nn.Module) -> None:
    assert errors(layer)["translation"] < 1e-6


def test_that_given_inputs_count_instead_of_noise() -> None:
    layer = nn.Conv2d(2, 4, 3, padding=1)
    still = torch.randn(3, 2, 1, 1).expand(3, 2, 12, 12)
    assert errors(layer, still)["horizontal flip"] < errors(layer)["horizontal flip"]


def test_that_nothing_is_told_of_other_layers_or_of_more_channels_than_can_be_waited_for() -> None:
    assert equivariance(nn.Embedding(4, 4)) == ()
    assert equivariance(nn.Linear(2, MOST_CHANNELS + 1)) == ()
