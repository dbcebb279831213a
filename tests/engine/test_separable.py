"""Separable filters: a kernel's columns and rows, the nearest pair there is."""

import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.errors import CancelledError
from featherweight.engine.jobs import Job
from featherweight.engine.methods.structure.separable import Separable

TAKEN = [
    (nn.Conv2d(16, 24, 3, padding=1), torch.randn(2, 16, 8, 8)),
    (nn.Conv2d(3, 32, 7, stride=2, padding=3, bias=False), torch.randn(2, 3, 20, 20)),
    (nn.Conv2d(16, 12, (5, 3), stride=(3, 2), padding=(2, 0)), torch.randn(2, 16, 11, 9)),
    (nn.Conv2d(16, 12, (5, 3), dilation=(1, 2), padding="same"), torch.randn(2, 16, 8, 8)),
    (nn.Conv2d(8, 16, 3, padding=(2, 1), padding_mode="circular"), torch.randn(2, 8, 8, 8)),
    (nn.Conv2d(8, 16, 3, padding=1, padding_mode="reflect"), torch.randn(2, 8, 8, 8)),
    (nn.Conv2d(8, 24, 3, padding=1, groups=4), torch.randn(2, 8, 8, 8)),
]


def kernel_of(chain: nn.Sequential, groups: int = 1) -> Tensor:
    """Return the kernel that both convolutions stand for."""
    columns, rows = (part.get_parameter("weight").detach() for part in chain)
    pairs = zip(columns.chunk(groups), rows.chunk(groups), strict=True)
    return torch.cat([torch.einsum("rcy,nrx->ncyx", c[..., 0], r[:, :, 0]) for c, r in pairs])


def unfolded(kernel: Tensor) -> Tensor:
    """Return a kernel N×C×h×w as the matrix C·h by N·w."""
    return kernel.permute(1, 2, 0, 3).flatten(2).flatten(0, 1)


@pytest.mark.parametrize(("layer", "x"), TAKEN)
@pytest.mark.parametrize("keep", [0.1, 0.5, 1.0])
def test_that_both_run_as_the_kernel_they_stand_for(
    layer: nn.Conv2d, x: Tensor, keep: float
) -> None:
    chain = Separable(keep=keep).rewritten(layer)
    kernel = kernel_of(chain, layer.groups)
    expected = torch.func.functional_call(layer, {"weight": kernel}, x)
    torch.testing.assert_close(chain(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("layer", "_x"), TAKEN)
@pytest.mark.parametrize("keep", [0.3, 0.6, 1.0])
def test_that_both_hold_no_more_than_the_kept_share(
    layer: nn.Module, _x: Tensor, keep: float
) -> None:
    chain = Separable(keep=keep).rewritten(layer)
    held = sum(part.get_parameter("weight").numel() for part in chain)
    assert held <= keep * layer.get_parameter("weight").numel()


@pytest.mark.parametrize(("multiple", "rank"), [(1, 26), (8, 24), (64, 26)])
def test_that_a_larger_rank_is_rounded_down_to_a_multiple(multiple: int, rank: int) -> None:
    chain = Separable(keep=0.5, multiple=multiple).skeleton(nn.Conv2d(32, 40, 3))
    assert chain[0].get_parameter("weight").shape[0] == rank


@pytest.mark.parametrize(("layer", "_x"), TAKEN)
def test_that_the_skeleton_has_the_shapes_of_the_real_pair(layer: nn.Module, _x: Tensor) -> None:
    method = Separable(keep=0.4)
    skeleton, real = method.skeleton(layer), method.rewritten(layer)
    assert all(value.is_meta for value in skeleton.parameters())
    assert str(skeleton) == str(real)
    shapes = [
        {name: (value.shape, value.dtype) for name, value in chain.named_parameters()}
        for chain in (skeleton, real)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("keep", [0.1, 0.4, 0.9])
def test_that_the_error_is_the_energy_of_the_values_left_out(keep: float) -> None:
    layer = nn.Conv2d(16, 24, (5, 3))
    weight = layer.weight.detach()
    chain = Separable(keep=keep).rewritten(layer)
    rank = chain[0].get_parameter("weight").shape[0]
    left_out = torch.linalg.norm(torch.linalg.svdvals(unfolded(weight))[rank:])
    error = torch.linalg.norm(weight - kernel_of(chain))
    torch.testing.assert_close(error, left_out, rtol=1e-4, atol=1e-6)


def test_that_planted_separable_filters_are_recovered_exactly() -> None:
    layer, x = nn.Conv2d(16, 24, 3, stride=2, padding=1), torch.randn(2, 16, 9, 9)
    planted = torch.einsum("rcy,nrx->ncyx", torch.randn(6, 16, 3), torch.randn(24, 6, 3))
    layer.weight = nn.Parameter(planted)
    chain = Separable(keep=6 * 3 * (16 + 24) / planted.numel()).rewritten(layer)
    assert chain[0].get_parameter("weight").shape == (6, 16, 3, 1)
    torch.testing.assert_close(chain(x), layer(x), rtol=1e-4, atol=1e-3)


def test_that_a_single_sobel_filter_per_channel_needs_one_column_each() -> None:
    layer = nn.Conv2d(4, 4, 3, bias=False)
    sobel = torch.tensor([1.0, 2.0, 1.0])[:, None] * torch.tensor([1.0, 0.0, -1.0])
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        for channel in range(4):
            layer.weight[channel, channel] = sobel
    chain = Separable(keep=4 * 3 * (4 + 4) / 144).rewritten(layer)
    torch.testing.assert_close(kernel_of(chain), layer.weight.detach(), rtol=1e-5, atol=1e-6)


def test_that_every_further_share_brings_the_layer_nearer() -> None:
    layer = nn.Conv2d(16, 24, 3)
    weight = layer.weight.detach()
    errors = [
        float(torch.linalg.norm(weight - kernel_of(Separable(keep=keep).rewritten(layer))))
        for keep in (0.1, 0.25, 0.5, 0.75, 1.0)
    ]
    assert errors == sorted(errors, reverse=True)


def test_that_a_kernel_of_zeros_stays_zero_and_finite() -> None:
    layer = nn.Conv2d(8, 8, 3)
    nn.init.zeros_(layer.weight)
    assert torch.equal(kernel_of(Separable().rewritten(layer)), torch.zeros(8, 8, 3, 3))


def test_that_the_layer_itself_is_unchanged_and_shares_nothing() -> None:
    layer = nn.Conv2d(8, 8, 3).eval()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    chain = Separable().rewritten(layer)
    with torch.no_grad():
        for value in chain.parameters():
            value.zero_()
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert not chain.training


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Linear(8, 8), "two dimensions"),
        (nn.Conv1d(8, 8, 3), "two dimensions"),
        (nn.ConvTranspose2d(8, 8, 3), "two dimensions"),
        (nn.Conv2d(8, 8, 1), "nothing to separate"),
        (nn.Conv2d(8, 8, (1, 3)), "nothing to separate"),
        (nn.Conv2d(8, 8, 3, groups=8), "one channel"),
        (nn.Conv2d(1, 1, 2), "too small"),
    ],
)
def test_that_layers_it_cannot_take_are_locked_with_the_reason(
    layer: nn.Module, reason: str
) -> None:
    assert reason in Separable.lock(layer)
    assert Separable.lock(layer).endswith(".")


@pytest.mark.parametrize(("layer", "_x"), TAKEN)
def test_that_layers_it_takes_are_not_locked(layer: nn.Module, _x: Tensor) -> None:
    assert Separable.lock(layer) == ""


def test_that_a_cancelled_job_stops_before_the_pair_is_found() -> None:
    job = Job()
    job.cancel()
    with pytest.raises(CancelledError):
        Separable().rewritten(nn.Conv2d(8, 8, 3), job.check)
