"""Tucker-2: three convolutions near the one they stand for, as near as their ranks allow."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.errors import CancelledError
from featherweight.engine.jobs import Job
from featherweight.engine.methods.structure.tucker import Tucker, decompose

TAKEN = [
    (nn.Conv2d(16, 24, 3, padding=1), torch.randn(2, 16, 8, 8)),
    (nn.Conv2d(3, 32, 7, stride=2, padding=3, bias=False), torch.randn(2, 3, 20, 20)),
    (nn.Conv2d(16, 12, (1, 3), dilation=(1, 2), padding="same"), torch.randn(2, 16, 8, 8)),
    (nn.Conv2d(8, 16, 3, padding=1, padding_mode="circular"), torch.randn(2, 8, 8, 8)),
    (nn.Conv1d(12, 20, 5, stride=3), torch.randn(2, 12, 17)),
    (nn.Conv3d(6, 10, 2), torch.randn(2, 6, 4, 4, 4)),
]


def kernel_of(chain: nn.Sequential) -> Tensor:
    """Return the kernel that three convolutions stand for."""
    first, core, last = (part.get_parameter("weight").detach() for part in chain)
    return rebuilt(last.flatten(1), core, first.flatten(1).T)


def rebuilt(left: Tensor, core: Tensor, right: Tensor) -> Tensor:
    """Return the kernel of a decomposition."""
    return torch.einsum("ns,sr...,cr->nc...", left, core, right)


def error(kernel: Tensor, ranks: tuple[int, int], sweeps: int) -> float:
    """Return how far a decomposition is from its kernel, relative."""
    made = rebuilt(*decompose(kernel, ranks, sweeps))
    return float(torch.linalg.vector_norm(kernel - made) / torch.linalg.vector_norm(kernel))


def planted(ranks: tuple[int, int]) -> Tensor:
    """Return a kernel 20×16×3×3 of ranks."""
    core = torch.randn(*ranks, 3, 3, dtype=torch.float64)
    left = torch.randn(20, ranks[0], dtype=torch.float64)
    return rebuilt(left, core, torch.randn(16, ranks[1], dtype=torch.float64))


@pytest.mark.parametrize(("layer", "x"), TAKEN)
@pytest.mark.parametrize("keep", [0.1, 0.5, 1.0])
def test_that_the_chain_runs_as_the_kernel_it_stands_for(
    layer: nn.Module, x: Tensor, keep: float
) -> None:
    chain = Tucker(keep=keep).rewritten(layer)
    kernel = kernel_of(chain)
    expected = torch.func.functional_call(layer, {"weight": kernel}, x)
    torch.testing.assert_close(chain(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("layer", "_x"), TAKEN)
@pytest.mark.parametrize("keep", [0.3, 0.6, 1.0])
def test_that_the_chain_holds_no_more_than_the_kept_share(
    layer: nn.Module, _x: Tensor, keep: float
) -> None:
    chain = Tucker(keep=keep).rewritten(layer)
    held = sum(part.get_parameter("weight").numel() for part in chain)
    assert held <= keep * layer.get_parameter("weight").numel()


@pytest.mark.parametrize(("layer", "_x"), TAKEN)
def test_that_the_skeleton_has_the_shapes_of_the_real_chain(layer: nn.Module, _x: Tensor) -> None:
    method = Tucker(keep=0.4)
    skeleton, real = method.skeleton(layer), method.rewritten(layer)
    assert all(value.is_meta for value in skeleton.parameters())
    assert str(skeleton) == str(real)
    shapes = [
        {name: (value.shape, value.dtype) for name, value in chain.named_parameters()}
        for chain in (skeleton, real)
    ]
    assert shapes[0] == shapes[1]


def test_that_full_ranks_give_the_kernel_back() -> None:
    assert error(torch.randn(20, 16, 3, 3, dtype=torch.float64), (20, 16), sweeps=0) < 1e-12


@pytest.mark.parametrize("sweeps", [0, 3])
def test_that_planted_ranks_are_recovered_exactly(sweeps: int) -> None:
    kernel = planted((6, 4))
    assert error(kernel, (6, 4), sweeps) < 1e-12
    assert error(kernel, (5, 4), sweeps) > 1e-3
    assert error(kernel, (6, 3), sweeps) > 1e-3


def test_that_higher_ranks_never_raise_the_error() -> None:
    kernel = torch.randn(20, 16, 3, 3, dtype=torch.float64)
    errors = [error(kernel, (5 * step, 4 * step), sweeps=3) for step in range(1, 5)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > errors[-1]


@pytest.mark.parametrize("seed", range(5))
def test_that_no_sweep_raises_the_error(seed: int) -> None:
    torch.manual_seed(seed)
    kernel = planted((9, 7)) + torch.randn(20, 16, 3, 3, dtype=torch.float64)
    errors = [error(kernel, (5, 4), sweeps) for sweeps in range(6)]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(errors))
    assert errors[3] < errors[0]


def test_that_every_further_share_brings_the_layer_nearer() -> None:
    layer = nn.Conv2d(16, 24, 3)
    weight = layer.weight.detach()
    errors = [
        float(torch.linalg.vector_norm(weight - kernel_of(Tucker(keep=keep).rewritten(layer))))
        for keep in (0.1, 0.25, 0.5, 0.75, 1.0)
    ]
    assert errors == sorted(errors, reverse=True)


def test_that_a_kernel_of_zeros_stays_zero_and_finite() -> None:
    layer = nn.Conv2d(8, 8, 3)
    nn.init.zeros_(layer.weight)
    assert torch.equal(kernel_of(Tucker().rewritten(layer)), torch.zeros(8, 8, 3, 3))


def test_that_the_layer_itself_is_unchanged_and_shares_nothing() -> None:
    layer = nn.Conv2d(8, 8, 3).eval()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    chain = Tucker().rewritten(layer)
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
        (nn.Conv2d(8, 8, 3, groups=8), "groups"),
        (nn.Conv2d(1, 1, 3), "too small"),
    ],
)
def test_that_layers_it_cannot_take_are_locked_with_the_reason(
    layer: nn.Module, reason: str
) -> None:
    assert reason in Tucker.lock(layer)
    assert Tucker.lock(layer).endswith(".")


@pytest.mark.parametrize(("layer", "_x"), TAKEN)
def test_that_layers_it_takes_are_not_locked(layer: nn.Module, _x: Tensor) -> None:
    assert Tucker.lock(layer) == ""


def test_that_a_cancel_between_two_sweeps_stops_the_method() -> None:
    job, checks = Job(), []

    def check() -> None:
        checks.append(True)
        if len(checks) == 6:
            job.cancel()
        job.check()

    with pytest.raises(CancelledError):
        Tucker(sweeps=50).rewritten(nn.Conv2d(8, 8, 3), check)
    assert len(checks) == 6


def test_that_both_ranks_are_rounded_down_to_the_multiple() -> None:
    layer = nn.Conv2d(64, 96, 3)
    for multiple in (1, 8, 16):
        core = Tucker(keep=0.5, multiple=multiple).skeleton(layer)[1].get_parameter("weight")
        assert [size % multiple for size in core.shape[:2]] == [0, 0]
    colours = Tucker().skeleton(nn.Conv2d(3, 64, 7))[1].get_parameter("weight")
    assert tuple(colours.shape[:2]) == (16, 3)
