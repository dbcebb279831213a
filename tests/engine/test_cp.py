"""CP: convolutions that stand for a sum of components, tame also where no best sum exists."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.errors import CancelledError
from featherweight.engine.jobs import Job
from featherweight.engine.methods.canonical import MOST_ENERGY, decompose
from featherweight.engine.methods.structure.cp import Cp
from featherweight.engine.methods.structure.separable import Separable
from featherweight.engine.methods.structure.tucker import Tucker

TAKEN = [
    (nn.Conv2d(16, 24, 3, padding=1), torch.randn(2, 16, 8, 8)),
    (nn.Conv2d(3, 32, 7, stride=2, padding=3, bias=False), torch.randn(2, 3, 20, 20)),
    (nn.Conv2d(16, 12, (5, 3), dilation=(1, 2), padding="same"), torch.randn(2, 16, 8, 8)),
    (nn.Conv2d(16, 12, (1, 3), stride=(2, 1), padding=(1, 0)), torch.randn(2, 16, 8, 8)),
    (nn.Conv2d(8, 16, 3, padding=1, padding_mode="circular"), torch.randn(2, 8, 8, 8)),
    (nn.Conv1d(12, 20, 5, stride=3), torch.randn(2, 12, 17)),
    (nn.Conv3d(6, 10, (2, 1, 3), padding=(1, 0, 1)), torch.randn(2, 6, 4, 4, 4)),
]
SPLIT = {"whole": (9,), "split": (3, 3)}


def kernel_of(chain: nn.Sequential) -> Tensor:
    """Return the kernel that the convolutions stand for."""
    first, *middle, last = (part.get_parameter("weight").detach() for part in chain)
    taps = middle[0]
    for more in middle[1:]:
        taps = taps * more
    return torch.einsum("nr,rc,r...->nc...", last.flatten(1), first.flatten(1), taps[:, 0])


def middle_of(layer: nn.Module) -> list[tuple[object, object, object]]:
    """Return kernel, stride and padding of what stands between the 1×1 convolutions."""
    _, *middle, _ = Cp(kernel="split").skeleton(layer)
    return [(part.kernel_size, part.stride, part.padding) for part in middle]


def rebuilt(factors: list[Tensor]) -> Tensor:
    """Return the kernel of a decomposition, N×C×taps."""
    outputs, inputs, *taps = factors
    along = taps[0] if len(taps) == 1 else torch.einsum("yr,xr->yxr", *taps).flatten(0, 1)
    return torch.einsum("nr,cr,tr->nct", outputs, inputs, along)


def energy(factors: list[Tensor]) -> float:
    """Return the squared norms of all components together."""
    squares = torch.stack([factor.square().sum(0) for factor in factors])
    return float(squares.prod(0).sum())


def planted(seed: int) -> Tensor:
    """Return a kernel 16×12×3×3 that is the sum of five components."""
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(size, 5, generator=generator) for size in (16, 12, 3, 3)]
    return torch.einsum("nr,cr,yr,xr->ncyx", *parts)


def relative_error(kernel: Tensor, made: Tensor) -> float:
    """Return how far a kernel is from another, in parts of the other."""
    distance = torch.linalg.vector_norm(kernel.double() - made.reshape(kernel.shape))
    return float(distance / torch.linalg.vector_norm(kernel.double()))


@pytest.mark.parametrize(("layer", "x"), TAKEN)
@pytest.mark.parametrize("kernel", ["whole", "split"])
@pytest.mark.parametrize("keep", [0.1, 0.6])
def test_that_the_chain_runs_as_the_kernel_it_stands_for(
    layer: nn.Module, x: Tensor, kernel: str, keep: float
) -> None:
    method = Cp(keep=keep, kernel="split" if kernel == "split" else "whole", rounds=2)
    chain = method.rewritten(layer)
    expected = torch.func.functional_call(layer, {"weight": kernel_of(chain)}, x)
    torch.testing.assert_close(chain(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("layer", "_x"), TAKEN)
@pytest.mark.parametrize("method", [Cp(keep=0.3), Cp(keep=1.0), Cp(keep=0.6, kernel="split")])
def test_that_the_chain_holds_no_more_than_the_kept_share(
    layer: nn.Module, _x: Tensor, method: Cp
) -> None:
    held = sum(part.get_parameter("weight").numel() for part in method.skeleton(layer))
    assert held <= method.keep * layer.get_parameter("weight").numel()


@pytest.mark.parametrize(("multiple", "rank"), [(1, 35), (8, 32), (64, 35)])
def test_that_a_larger_rank_is_rounded_down_to_a_multiple(multiple: int, rank: int) -> None:
    chain = Cp(keep=0.25, multiple=multiple).skeleton(nn.Conv2d(32, 40, 3))
    assert chain[0].get_parameter("weight").shape[0] == rank


@pytest.mark.parametrize(("layer", "_x"), TAKEN)
@pytest.mark.parametrize("method", [Cp(rounds=1), Cp(rounds=1, kernel="split")])
def test_that_the_skeleton_has_the_shapes_of_the_real_chain(
    layer: nn.Module, _x: Tensor, method: Cp
) -> None:
    skeleton, real = method.skeleton(layer), method.rewritten(layer)
    assert all(value.is_meta for value in skeleton.parameters())
    assert str(skeleton) == str(real)
    shapes = [
        {name: (value.shape, value.dtype) for name, value in chain.named_parameters()}
        for chain in (skeleton, real)
    ]
    assert shapes[0] == shapes[1]


def test_that_a_split_kernel_has_a_step_for_each_direction_of_more_taps() -> None:
    wide = nn.Conv2d(16, 24, (5, 3), stride=(2, 1), padding=(2, 1))
    assert middle_of(wide) == [((5, 1), (2, 1), (2, 0)), ((1, 3), (1, 1), (0, 1))]
    flat = nn.Conv2d(16, 24, (1, 3), stride=2, padding=(1, 1))
    assert middle_of(flat) == [((1, 3), (2, 2), (1, 1))]


@pytest.mark.parametrize("kernel", ["whole", "split"])
def test_that_planted_components_are_found_from_most_starts(kernel: str) -> None:
    kernels = [planted(seed) for seed in range(10)]
    errors = [relative_error(k, rebuilt(decompose(k, 5, SPLIT[kernel], 30))) for k in kernels]
    assert sum(error < 1e-6 for error in errors) >= 8


@pytest.mark.parametrize("kernel", ["whole", "split"])
def test_that_components_stay_tame_where_no_best_sum_exists(kernel: str) -> None:
    one, other = torch.eye(4)[0], torch.eye(4)[1]
    y, x = torch.eye(3)[0], torch.eye(3)[1]
    limit = sum(
        torch.einsum("n,c,y,x->ncyx", a, b, c, y)
        for a, b, c in ((one, one, x), (one, other, y), (other, one, y))
    )
    assert isinstance(limit, Tensor)
    factors = decompose(limit, 2, SPLIT[kernel], 50)
    norm = float(torch.linalg.vector_norm(limit)) ** 2
    assert all(bool(factor.isfinite().all()) for factor in factors)
    assert 2 * norm < energy(factors) <= MOST_ENERGY * norm
    assert relative_error(limit, rebuilt(factors)) < 0.05


def test_that_more_rounds_bring_a_trained_like_kernel_nearer() -> None:
    kernel = planted(3) + 0.3 * torch.randn(16, 12, 3, 3)
    errors = [relative_error(kernel, rebuilt(decompose(kernel, 8, (9,), n))) for n in (1, 3, 10)]
    assert all(later < earlier for earlier, later in pairwise(errors))


def test_that_every_further_share_brings_the_layer_nearer() -> None:
    layer = nn.Conv2d(16, 24, 3)
    weight = layer.weight.detach()
    errors = [
        relative_error(weight, kernel_of(Cp(keep=keep).rewritten(layer)))
        for keep in (0.1, 0.25, 0.5, 0.75, 1.0)
    ]
    assert errors == sorted(errors, reverse=True)


def test_that_it_is_nearer_than_tucker_and_separable_filters_of_its_size() -> None:
    layer = nn.Conv2d(32, 32, 3)
    layer.weight = nn.Parameter(layer.weight * torch.linspace(1, 0.1, 32)[:, None, None, None])
    weight = layer.weight.detach()
    found = kernel_of(Cp(keep=0.3).rewritten(layer))
    up, core, down = (part.get_parameter("weight") for part in Tucker(keep=0.3).rewritten(layer))
    tucker = torch.einsum("sr...,ns,rc->nc...", core, down.flatten(1), up.flatten(1)).detach()
    columns, rows = (p.get_parameter("weight") for p in Separable(keep=0.3).rewritten(layer))
    separable = torch.einsum("rcy,nrx->ncyx", columns[..., 0], rows[:, :, 0]).detach()
    others = (relative_error(weight, tucker), relative_error(weight, separable))
    assert relative_error(weight, found) < min(others)


@pytest.mark.parametrize("method", [Cp(), Cp(kernel="split")])
def test_that_a_kernel_of_zeros_stays_zero_and_finite(method: Cp) -> None:
    layer = nn.Conv2d(8, 8, 3)
    nn.init.zeros_(layer.weight)
    assert torch.equal(kernel_of(method.rewritten(layer)), torch.zeros(8, 8, 3, 3))


@pytest.mark.parametrize("method", [Cp(keep=1.0, rounds=30), Cp(keep=1.0, kernel="split")])
def test_that_dead_channels_and_more_components_than_needed_do_no_harm(method: Cp) -> None:
    layer = nn.Conv2d(8, 8, 3)
    with torch.no_grad():
        layer.weight[:, 3:] = 0
        layer.weight[5:] = 0
    assert relative_error(layer.weight.detach(), kernel_of(method.rewritten(layer))) < 1e-2


def test_that_the_layer_itself_is_unchanged_and_shares_nothing() -> None:
    layer = nn.Conv2d(8, 8, 3).eval()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    chain = Cp().rewritten(layer)
    with torch.no_grad():
        for value in chain.parameters():
            value.zero_()
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert not chain.training


def test_that_the_same_layer_gives_the_same_weights_again() -> None:
    layer = nn.Conv2d(12, 16, 3)
    one, other = Cp().rewritten(layer), Cp().rewritten(layer)
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)


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
    assert reason in Cp.lock(layer)
    assert Cp.lock(layer).endswith(".")


@pytest.mark.parametrize(("layer", "_x"), TAKEN)
def test_that_layers_it_takes_are_not_locked(layer: nn.Module, _x: Tensor) -> None:
    assert Cp.lock(layer) == ""


@pytest.mark.parametrize("stop", [2, 6, 40])
def test_that_a_cancel_between_two_steps_stops_the_method(stop: int) -> None:
    job, checks = Job(), []

    def check() -> None:
        checks.append(True)
        if len(checks) == stop:
            job.cancel()
        job.check()

    with pytest.raises(CancelledError):
        Cp().rewritten(nn.Conv2d(8, 8, 3), check)
    assert len(checks) == stop
