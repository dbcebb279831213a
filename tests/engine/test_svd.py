"""SVD: the best layer of its rank, really smaller, and the same layer wherever it can be."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.errors import CancelledError
from featherweight.engine.evidence import Evidence, InputMoments
from featherweight.engine.jobs import Job
from featherweight.engine.methods.structure.svd import Svd

POINTWISE = nn.Conv2d(12, 20, 1, stride=2, padding=1)
TAKEN = [
    (nn.Linear(24, 40), torch.randn(3, 24)),
    (nn.Linear(40, 24, bias=False), torch.randn(3, 5, 40)),
    (POINTWISE, torch.randn(2, 12, 7, 7)),
    (nn.Conv1d(12, 20, 1, padding="same", padding_mode="reflect"), torch.randn(2, 12, 7)),
    (nn.Conv3d(12, 20, 1), torch.randn(2, 12, 3, 3, 3)),
]


def weight_of(chain: nn.Sequential) -> Tensor:
    """Return the matrix that two factors stand for."""
    first, second = (part.get_parameter("weight").detach().flatten(1) for part in chain)
    return second @ first


def low_rank(outputs: int, inputs: int, rank: int) -> nn.Linear:
    """Return a linear layer whose weight has a rank."""
    layer = nn.Linear(inputs, outputs)
    layer.weight = nn.Parameter(torch.randn(outputs, rank) @ torch.randn(rank, inputs))
    return layer


@pytest.mark.parametrize(("layer", "x"), TAKEN)
@pytest.mark.parametrize("keep", [0.2, 0.5, 1.0])
def test_that_the_factors_run_as_the_layer_of_their_product(
    layer: nn.Module, x: Tensor, keep: float
) -> None:
    chain = Svd(keep=keep).rewritten(layer)
    weight = layer.get_parameter("weight")
    product = weight_of(chain).reshape(weight.shape)
    expected = torch.func.functional_call(layer, {"weight": product}, x)
    torch.testing.assert_close(chain(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("layer", "_x"), TAKEN)
@pytest.mark.parametrize("keep", [0.1, 0.5, 1.0])
def test_that_the_factors_hold_no_more_than_the_kept_share(
    layer: nn.Module, _x: Tensor, keep: float
) -> None:
    chain = Svd(keep=keep).rewritten(layer)
    held = sum(part.get_parameter("weight").numel() for part in chain)
    assert held <= max(keep * layer.get_parameter("weight").numel(), 64)
    assert weight_of(chain).shape == layer.get_parameter("weight").flatten(1).shape


@pytest.mark.parametrize(("layer", "_x"), TAKEN)
def test_that_the_skeleton_has_the_shapes_of_the_real_factors(layer: nn.Module, _x: Tensor) -> None:
    method = Svd(keep=0.4)
    skeleton, real = method.skeleton(layer), method.rewritten(layer)
    assert all(value.is_meta for value in skeleton.parameters())
    assert str(skeleton) == str(real)
    shapes = [
        {name: (value.shape, value.dtype) for name, value in chain.named_parameters()}
        for chain in (skeleton, real)
    ]
    assert shapes[0] == shapes[1]


def test_that_a_planted_rank_is_recovered_exactly() -> None:
    layer, x = low_rank(60, 40, 8), torch.randn(5, 40)
    chain = Svd(keep=8 * 100 / 2400).rewritten(layer)
    assert chain[0].get_parameter("weight").shape == (8, 40)
    torch.testing.assert_close(chain(x), layer(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(30, 50), (50, 30)])
def test_that_the_error_is_the_energy_of_the_values_left_out(shape: tuple[int, int]) -> None:
    layer = nn.Linear(shape[1], shape[0])
    weight = layer.weight.detach()
    values = torch.linalg.svdvals(weight)
    for keep in (0.1, 0.4, 0.9):
        chain = Svd(keep=keep).rewritten(layer)
        rank = chain[0].get_parameter("weight").shape[0]
        error = torch.linalg.norm(weight - weight_of(chain))
        torch.testing.assert_close(error, torch.linalg.norm(values[rank:]), rtol=1e-4, atol=1e-6)


def test_that_both_factors_carry_the_same_energy() -> None:
    first, second = (
        torch.linalg.norm(part.get_parameter("weight").flatten(1))
        for part in Svd().rewritten(nn.Linear(30, 50))
    )
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)


def test_that_a_weight_of_zeros_stays_zero_and_finite() -> None:
    layer = nn.Linear(12, 9)
    nn.init.zeros_(layer.weight)
    chain = Svd().rewritten(layer)
    assert torch.equal(weight_of(chain), torch.zeros(9, 12))
    torch.testing.assert_close(chain(torch.ones(1, 12))[0], layer.bias)


def test_that_the_layer_itself_is_unchanged_and_shares_nothing() -> None:
    layer = nn.Linear(24, 40).eval()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    chain = Svd().rewritten(layer)
    with torch.no_grad():
        for value in chain.parameters():
            value.zero_()
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert not chain.training


def test_that_the_stride_stands_where_it_saves_most() -> None:
    first, second = Svd().rewritten(POINTWISE)
    assert (first.stride, first.padding) == ((2, 2), (1, 1))
    assert (second.stride, second.padding) == ((1, 1), (0, 0))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Conv2d(8, 8, 3), "kernel 1 only"),
        (nn.Conv2d(8, 8, 1, groups=8), "groups"),
        (nn.ConvTranspose2d(8, 8, 1), "transposed"),
        (nn.BatchNorm2d(8), "linear and recurrent layers"),
        (nn.LSTM(1, 8), "too small"),
        (nn.Linear(1, 50), "too small"),
        (nn.Linear(2, 2), "too small"),
    ],
)
def test_that_layers_it_cannot_take_are_locked_with_the_reason(
    layer: nn.Module, reason: str
) -> None:
    assert reason in Svd.lock(layer)
    assert Svd.lock(layer).endswith(".")


@pytest.mark.parametrize(("layer", "_x"), TAKEN)
def test_that_layers_it_takes_are_not_locked(layer: nn.Module, _x: Tensor) -> None:
    assert Svd.lock(layer) == ""


def test_that_a_cancelled_job_stops_before_the_factors_are_found() -> None:
    job = Job()
    job.cancel()
    with pytest.raises(CancelledError):
        Svd().rewritten(nn.Linear(24, 40), job.check)


SCRIPT = """
import hashlib, torch
from torch import nn
from featherweight.engine.methods.structure.svd import Svd
from featherweight.engine.methods.structure.tucker import Tucker
torch.manual_seed(5)
digest = hashlib.sha256()
for method, layer in ((Svd(), nn.Linear(96, 130)), (Tucker(), nn.Conv2d(24, 40, 3))):
    for value in method.rewritten(layer).parameters():
        digest.update(value.detach().numpy().tobytes())
print(digest.hexdigest())
"""


def test_that_another_process_finds_the_same_bytes() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(found) == 1


def moments_of(inputs: Tensor, widest: int = 10**6) -> InputMoments:
    """Return the moments of inputs, (rows, columns), in blocks of `widest` columns."""
    blocks = tuple((part.T @ part / len(inputs))[None] for part in inputs.split(widest, dim=1))
    return InputMoments(1, blocks, inputs.mean(0, keepdim=True))


def uneven(rows: int, columns: int) -> Tensor:
    """Return inputs of which few directions are strong and one column is dead."""
    strengths = torch.logspace(0, -2, columns)
    inputs = (torch.randn(rows, columns) * strengths) @ torch.randn(columns, columns) + 0.3
    inputs[:, 0] = 0
    return inputs


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (40, 40)])
def test_that_factors_by_outputs_are_the_nearest_in_outputs_of_their_rank(
    shape: tuple[int, int], bias: bool
) -> None:
    inputs = uneven(400, shape[1])
    layer = nn.Linear(shape[1], shape[0], bias=bias)
    evidence = {"weight": Evidence(moments_of(inputs))}
    method = Svd(keep=0.4, metric="outputs", multiple=1)
    by_outputs, by_weights = method.informed(layer, evidence), method.rewritten(layer)
    rank = by_outputs[0].get_parameter("weight").shape[0]
    assert rank == by_weights[0].get_parameter("weight").shape[0]
    with torch.no_grad():
        error = (layer(inputs) - by_outputs(inputs)).square().sum()
        other = (layer(inputs) - by_weights(inputs)).square().sum()
        centred = inputs - inputs.mean(0) if bias else inputs
        left_out = torch.linalg.svdvals(centred.double() @ layer.weight.double().T)[rank:]
    torch.testing.assert_close(error.double(), left_out.square().sum(), rtol=1e-3, atol=1e-6)
    assert error < 0.9 * other


@pytest.mark.parametrize("widest", [1000, 16])
def test_that_the_error_told_by_moments_is_the_measured_one(widest: int) -> None:
    inputs = uneven(500, 48)
    if widest < 48:
        inputs = torch.cat([uneven(500, 16), torch.zeros(500, 32)], dim=1)
    layer, moments = nn.Linear(48, 40, bias=False), moments_of(inputs, widest)
    chain = Svd(metric="outputs").informed(layer, {"weight": Evidence(moments)})
    lost = layer.weight.detach() - weight_of(chain)
    measured = float((inputs @ lost.T).square().sum() / len(inputs))
    assert moments.power(lost) == pytest.approx(measured, rel=1e-4, abs=1e-7)


def test_that_without_evidence_outputs_are_as_near_as_weights() -> None:
    layer = nn.Linear(30, 50)
    chains = Svd(metric="outputs").informed(layer, {}), Svd().rewritten(layer)
    torch.testing.assert_close(weight_of(chains[0]), weight_of(chains[1]))


def test_that_ranks_beyond_a_multiple_are_rounded_down_to_it() -> None:
    ranks = [
        Svd(keep=keep).skeleton(nn.Linear(100, 100))[0].get_parameter("weight").shape[0]
        for keep in (0.1, 0.3, 0.55, 1.0)
    ]
    assert ranks == [5, 8, 24, 48]
