"""Precisions that go by data: less harm to the outputs, the same size, the same bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from featherweight.engine.applicability import Chosen
from featherweight.engine.compression import constrain
from featherweight.engine.evidence import Evidence, Gradients, InputMoments
from featherweight.engine.jobs import Job
from featherweight.engine.methods.error_feedback import inverse_root
from featherweight.engine.methods.precision.codebook import Codebook, clustered
from featherweight.engine.methods.precision.integer import Integer
from featherweight.engine.network import capture
from featherweight.engine.options import Scalar
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.session import Session

Granularity = Literal["channel", "group", "tensor"]


def moments_of(inputs: Tensor, groups: int = 1, widest: int = 10**6) -> InputMoments:
    """Return the moments of inputs, (rows, groups * columns), in blocks of `widest` columns."""
    rows = inputs.reshape(len(inputs), groups, -1).transpose(0, 1)
    blocks = tuple(part.transpose(1, 2) @ part / len(inputs) for part in rows.split(widest, dim=2))
    return InputMoments(groups, blocks, rows.mean(1))


def correlated(rows: int, columns: int) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    hidden = torch.randn(rows, columns // 3, generator=generator)
    mixing = torch.randn(columns // 3, columns, generator=generator)
    return hidden @ mixing + 0.1 * torch.randn(rows, columns, generator=generator) + 0.2


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(8))


def gptq(bits: Literal[8, 6, 5, 4, 3, 2], granularity: Granularity = "channel") -> Integer:
    return Integer(bits=bits, granularity=granularity, group_size=16, rounding="gptq")


@given(st.integers(1, 40), st.floats(0.001, 0.1))
@settings(max_examples=20, deadline=None)
def test_that_the_root_is_upper_and_its_square_inverts_the_dampened_moments(
    columns: int, damping: float
) -> None:
    inputs = random(columns + 3, columns)
    moments = inputs.T @ inputs
    root = inverse_root(moments, damping)
    dampened = moments + damping * moments.diagonal().mean() * torch.eye(columns)
    assert torch.equal(root, root.triu())
    torch.testing.assert_close(root.T @ root @ dampened, torch.eye(columns), rtol=0, atol=2e-3)


def test_that_moments_without_a_root_of_their_own_still_get_one() -> None:
    assert torch.equal(inverse_root(torch.zeros(3, 3), 0.01), torch.eye(3))
    slightly_negative = torch.diag(torch.tensor([1.0, 1.0, -0.05]))
    assert inverse_root(slightly_negative, 0.01).isfinite().all()


@pytest.mark.parametrize("granularity", ["channel", "group", "tensor"])
@pytest.mark.parametrize("bits", [8, 6, 5, 4, 3, 2])
def test_that_feedback_harms_the_outputs_less_than_the_nearest_integers(
    bits: Literal[8, 6, 5, 4, 3, 2], granularity: Granularity
) -> None:
    weight, moments = random(24, 60), moments_of(correlated(400, 60), widest=45)
    method = gptq(bits, granularity)
    fed = method.informed(weight, None, Evidence(moments))().detach()
    nearest = method.trainable(weight, None)().detach()
    assert moments.power(fed - weight) < 0.7 * moments.power(nearest - weight)


@pytest.mark.parametrize(("shape", "groups"), [((8, 4, 3, 3), 1), ((8, 2, 3, 3), 2)])
@pytest.mark.parametrize("transposed", [False, True])
def test_that_feedback_helps_convolutions_with_groups_and_transposed_ones(
    shape: tuple[int, ...], groups: int, transposed: bool
) -> None:
    weight = random(*shape)
    columns = weight[0].numel() if not transposed else 9 * shape[0] // groups
    plain = moments_of(correlated(300, columns * groups), groups)
    moments = InputMoments(groups, plain.blocks, plain.mean, transposed)
    method = gptq(3)
    fed = method.informed(weight, None, Evidence(moments))().detach()
    nearest = method.trainable(weight, None)().detach()
    assert moments.power(fed - weight) < 0.8 * moments.power(nearest - weight)


@pytest.mark.parametrize("granularity", ["channel", "group", "tensor"])
def test_that_independent_inputs_of_one_size_leave_the_nearest_integers(
    granularity: Granularity,
) -> None:
    weight = random(6, 40)
    moments = InputMoments(1, (torch.eye(40)[None],), torch.zeros(1, 40))
    method = gptq(4, granularity)
    fed = method.informed(weight, None, Evidence(moments))
    assert torch.equal(fed(), method.trainable(weight, None)())


def test_that_without_moments_or_with_broken_ones_weights_round_to_the_nearest() -> None:
    weight = random(6, 40)
    method = gptq(4)
    broken = InputMoments(1, (torch.full((1, 40, 40), torch.nan),), torch.zeros(1, 40))
    for evidence in (Evidence(), Evidence(broken)):
        assert torch.equal(
            method.informed(weight, None, evidence)(), method.trainable(weight, None)()
        )


@pytest.mark.parametrize("granularity", ["channel", "group", "tensor"])
def test_that_what_a_mask_takes_stays_zero_and_is_made_up_for(granularity: Granularity) -> None:
    weight, moments = random(24, 60), moments_of(correlated(400, 60))
    mask = random(2, 24, 60)[1] > 0
    method = gptq(4, granularity)
    fed = method.informed(weight, mask, Evidence(moments))
    assert not fed()[~mask].any()
    nearest = method.trainable(weight, mask)().detach()
    assert moments.power(fed().detach() - weight) < 0.7 * moments.power(nearest - weight)


@pytest.mark.parametrize("scale_bits", [32, 16])
def test_that_training_starts_at_the_chosen_integers_in_the_promised_bits(
    scale_bits: Literal[32, 16],
) -> None:
    weight, moments = random(24, 60), moments_of(correlated(400, 60))
    method = Integer(
        bits=3, granularity="group", group_size=16, scale_bits=scale_bits, rounding="gptq"
    )
    form = method.informed(weight, None, Evidence(moments))
    stored = form.settled()
    assert torch.equal(form(), form.values)
    assert torch.equal(stored(), form())
    sides = sum(8 * part.nbytes for part in stored.parts().values())
    assert sides + 3 * weight.numel() == method.stored_bits((24, 60))


def test_that_a_corrected_bias_takes_the_mean_error_off_the_outputs() -> None:
    inputs = correlated(500, 30)
    layer = nn.Linear(30, 12)
    network = capture(nn.Sequential(layer), (inputs[:2],))
    made = network.copy()
    evidence = {"0": {"weight": Evidence(moments_of(inputs))}}
    methods = Chosen(precision=Integer(bits=2, bias_correction=True))
    constrain(made, {"0": methods}, collect=lambda *_: evidence)
    with torch.no_grad():
        error = made.outputs(inputs)[0] - network.outputs(inputs)[0]
    assert error.square().mean() > 1e-3
    torch.testing.assert_close(error.mean(0), torch.zeros(12), rtol=0, atol=1e-4)


@given(st.integers(1, 12), st.integers(1, 300), st.integers(0, 2**31 - 1))
@settings(max_examples=40, deadline=None)
def test_that_weighted_clusters_err_no_more_than_plain_ones_as_weights_count(
    clusters: int, size: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=size).astype(np.float32)
    amounts = (10.0 ** generator.uniform(-12, 2, size)).astype(np.float32)
    amounts[generator.random(size) < 0.2] = 0.0

    def error(shared: npt.NDArray[np.float32]) -> float:
        distances = np.abs(values[:, None].astype(np.float64) - shared).min(axis=1)
        return float((amounts * distances**2).sum())

    weighted = clustered(values, clusters, amounts=amounts)
    assert (np.diff(weighted) >= 0).all()
    assert error(weighted) <= error(clustered(values, clusters)) * (1 + 1e-4) + 1e-12


@pytest.mark.parametrize("masked", [False, True])
def test_that_weights_which_bend_the_loss_get_shared_values_near_them(masked: bool) -> None:
    weight = random(20, 30)
    mask = random(2, 20, 30)[1] > -0.5 if masked else None
    squares = torch.where(weight.abs() > 1.0, 1.0, 1e-3)
    method = Codebook(clusters=8, weighting="hessian")
    form = method.informed(weight, mask, Evidence(gradients=Gradients(squares)))
    plain = method.trainable(weight, mask)()
    target = weight if mask is None else weight * mask
    weighted_error, plain_error = (
        float((squares * (found - target).square()).sum().detach()) for found in (form(), plain)
    )
    assert weighted_error < 0.9 * plain_error
    assert form.codebook.numel() == 8 - masked


def test_that_without_curvature_all_weights_count_alike() -> None:
    weight = random(20, 30)
    method = Codebook(clusters=8, weighting="hessian")
    for evidence in (
        Evidence(),
        Evidence(gradients=Gradients(torch.zeros_like(weight))),
        Evidence(gradients=Gradients(torch.full_like(weight, torch.nan))),
    ):
        found = method.informed(weight, None, evidence)()
        assert torch.equal(found, Codebook(clusters=8).trainable(weight, None)())


@pytest.fixture(name="session")
def _session(trained_session: Callable[[Path, Tensor, Tensor], Session], tmp_path: Path) -> Session:
    inputs = correlated(256, 48)
    return trained_session(tmp_path, inputs, (inputs @ random(48, 4)).argmax(1))


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("integer", {"bits": 3, "rounding": "gptq", "bias_correction": True}),
        ("codebook", {"clusters": 4, "weighting": "hessian"}),
        ("codebook", {"clusters": 16, "weighting": "hessian", "entropy": 0.05}),
    ],
)
def test_that_a_recipe_by_data_gives_the_predicted_bits_and_the_same_bytes_twice(
    session: Session, method: str, options: dict[str, Scalar], tmp_path: Path
) -> None:
    choice = Choice(precision=Setting(method, options))
    recipe = Recipe(layers=dict.fromkeys(("0", "2"), choice), calibration=128)
    archives = []
    for name in ("once", "again"):
        result = session.compress(recipe, name, str(tmp_path / name), Job())
        archives.append((tmp_path / name / result.archive).read_bytes())
    assert archives[0] == archives[1]
    assert result.ledger.bits - result.ledger.container == result.predicted.bits
    assert session.predict(recipe).exact
    blind = {name: choice for name, choice in options.items() if name in ("bits", "clusters")}
    without = Choice(precision=Setting(method, blind))
    layers = dict.fromkeys(("0", "2"), without)
    other = session.compress(Recipe(layers=layers), "blind", str(tmp_path / "blind"), Job())
    assert (tmp_path / "blind" / other.archive).read_bytes() != archives[0]
