"""Curves of errors against strengths: by hand, from the cache, cancelled, and where gains end."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from featherweight.engine.applicability import Chosen
from featherweight.engine.atlas.break_even import turning
from featherweight.engine.atlas.output_error import Known, output_error
from featherweight.engine.errors import CancelledError
from featherweight.engine.events import Source, TaskSource
from featherweight.engine.jobs import Job
from featherweight.engine.methods.precision.integer import Integer
from featherweight.engine.methods.sparsity.magnitude import Magnitude
from featherweight.engine.methods.structure.monarch import Monarch
from featherweight.engine.methods.structure.separable import Separable
from featherweight.engine.methods.structure.svd import Svd
from featherweight.engine.methods.structure.tucker import Tucker
from featherweight.engine.network import capture
from featherweight.engine.options import Option, Scalar, Slot
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.results import StrengthTrace
from featherweight.engine.session import Session
from featherweight.engine.writing.archive import write_archive

SVD: dict[str, Scalar] = {"keep": 0.5, "multiple": 1}


@pytest.fixture
def inputs() -> Tensor:
    """Inputs whose columns differ in power, as those of real layers do."""
    generator = torch.Generator().manual_seed(3)
    return torch.randn(64, 48, generator=generator) * torch.linspace(0.1, 3, 48) + 0.3


@pytest.fixture
def module() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 4, bias=False)).eval()


@pytest.fixture
def without_task(module: nn.Sequential, inputs: Tensor, tmp_path: Path) -> Session:
    write_archive(capture(module, (inputs[:1],)), {}, tmp_path / "source.fwz")
    session = Session()
    session.open(Source(path=str(tmp_path / "source.fwz")))
    return session


@pytest.fixture
def session(without_task: Session, inputs: Tensor, tmp_path: Path) -> Session:
    names = (f"{part}_{kind}" for part in ("recovery", "measure") for kind in ("images", "labels"))
    values = inputs.numpy(), (inputs[:, 0] > 0).long().numpy()
    np.savez(tmp_path / "data.npz", **dict(zip(names, values * 2, strict=True)))
    without_task.set_task(TaskSource(data=str(tmp_path / "data.npz")))
    return without_task


def recipe(slot: Slot, method: str, options: dict[str, Scalar] | None = None) -> Recipe:
    setting = Setting(method, options or {})
    return Recipe(layers={"0": Choice().replaced(slot, setting)})


def traces(session: Session, asked: Recipe, slot: Slot) -> list[StrengthTrace]:
    told: list[StrengthTrace] = []
    session.trace_strength(asked, tuple(asked.layers), slot, Job(), told.append)
    return told


def test_that_the_curve_of_low_rank_is_the_energy_that_its_ranks_leave(
    without_task: Session, module: nn.Sequential
) -> None:
    last = traces(without_task, recipe("structure", "svd", SVD), "structure")[-1]
    squares = torch.linalg.svdvals(module[0].weight.detach().double()).square()
    assert last.of == "weights"
    assert len(last.points) == 10
    for keep, error in last.points:
        rank = max(1, int(keep * 48 * 24 / (48 + 24) + 1e-9))
        assert error == pytest.approx(float(squares[rank:].sum() / squares.sum()), abs=1e-6)
    errors = [error for _, error in last.points]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > errors[-1]


def test_that_errors_of_all_slots_together_are_those_of_outputs_on_the_data(
    session: Session, module: nn.Sequential, inputs: Tensor
) -> None:
    choice = Choice(
        structure=Setting("svd", SVD),
        sparsity=Setting("magnitude", {"sparsity": 0.4}),
        precision=Setting("integer", {"bits": 4}),
    )
    told = traces(session, Recipe(layers={"0": choice}), "structure")
    layer = module[0]
    chain = Svd(keep=0.5, multiple=1).rewritten(layer)
    for part in chain:
        mask = Magnitude(sparsity=0.4).mask(part.weight)
        part.weight = nn.Parameter(Integer(bits=4).trainable(part.weight.detach(), mask)())
    with torch.no_grad():
        now = layer(inputs)
        expected = (chain(inputs) - now).square().sum() / (now - layer.bias).square().sum()
    assert told[-1].of == "outputs"
    assert told[-1].now == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1), (1, "same")])
@pytest.mark.parametrize("dilation", [1, 2])
def test_that_the_error_of_split_convolutions_is_that_of_their_kernel(
    stride: int, padding: int | str, dilation: int
) -> None:
    torch.manual_seed(1)
    layer = nn.Conv2d(6, 10, 3, stride, padding, dilation)
    method = Separable(keep=0.4, multiple=1)
    first, second = method.rewritten(layer)
    with torch.no_grad():
        kernel = torch.einsum("rciq,nrqj->ncij", first.weight, second.weight)
        expected = (kernel - layer.weight).square().sum() / layer.weight.square().sum()
    error = output_error(layer, Chosen(structure=method), Known())
    assert error == pytest.approx(float(expected), rel=1e-4)


def test_that_the_error_on_patches_is_that_of_the_layer_on_images() -> None:
    torch.manual_seed(1)
    layer = nn.Conv2d(4, 8, 3, padding=1)
    images = torch.randn(6, 4, 9, 9)
    patches = nn.functional.unfold(images, 3).transpose(1, 2).reshape(1, -1, 36)
    method = Tucker(keep=0.5, multiple=1)
    with torch.no_grad():
        inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
        now, then = layer(images)[inner], method.rewritten(layer)(images)[inner]
        power = (now - layer.bias[:, None, None]).square().sum()
    error = output_error(layer, Chosen(structure=method), Known(rows=patches))
    assert error == pytest.approx(float((then - now).square().sum() / power), rel=1e-3)


def test_that_rows_of_a_large_layer_stand_for_all_of_them() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(700, 900)
    chosen = Chosen(precision=Integer(bits=3))
    held = Integer(bits=3).trainable(layer.weight.detach(), None)()
    with torch.no_grad():
        expected = (held - layer.weight).square().sum() / layer.weight.square().sum()
    assert output_error(layer, chosen, Known()) == pytest.approx(float(expected), rel=0.03)


def test_that_an_error_is_computed_once_and_then_there_at_once(session: Session) -> None:
    asked = recipe("sparsity", "magnitude", {"sparsity": 0.5})
    first = traces(session, asked, "sparsity")
    again = traces(session, asked, "sparsity")
    assert again[-1] == first[-1]
    assert [len(trace.points) for trace in first if trace.points] == list(range(1, 11))
    assert [len(trace.points) for trace in again if trace.points] == [10]


def test_that_a_trace_stops_between_two_points_when_it_is_cancelled(session: Session) -> None:
    job, told = Job(), []

    def tell(trace: StrengthTrace) -> None:
        told.append(trace)
        if len(trace.points) == 2:
            job.cancel()

    with pytest.raises(CancelledError):
        session.trace_strength(recipe("structure", "monarch"), ("0",), "structure", job, tell)
    assert len(told[-1].points) == 2


def test_that_a_method_stops_between_its_steps_when_it_is_cancelled() -> None:
    job = Job()
    job.cancel()
    with pytest.raises(CancelledError):
        output_error(nn.Linear(32, 32), Chosen(structure=Monarch()), Known(), job.check)


def test_that_removed_channels_have_a_reason_in_the_place_of_an_error(session: Session) -> None:
    last = traces(session, recipe("structure", "channel_pruning"), "structure")[-1]
    assert last.now is None
    assert "read them" in last.reason


def test_that_several_layers_tell_their_own_errors_without_a_curve(session: Session) -> None:
    four = Choice(precision=Setting("integer", {"bits": 4}))
    told = traces(session, Recipe(layers={"0": four, "2": four}), "precision")
    last = {trace.layer: trace for trace in told}
    assert set(last) == {"0", "2"}
    assert all(trace.now and not trace.points for trace in last.values())


def test_that_a_method_that_asks_the_data_is_told_with_what_it_gets(session: Session) -> None:
    by_data = traces(session, recipe("sparsity", "obs", {"sparsity": 0.5}), "sparsity")[-1]
    plain = traces(session, recipe("sparsity", "magnitude", {"sparsity": 0.5}), "sparsity")[-1]
    assert not by_data.without_data
    assert by_data.now is not None
    assert plain.now is not None
    assert by_data.now < plain.now


@given(st.integers(1, 60), st.integers(1, 60), st.integers(-3000, 3000), st.sampled_from([1, -1]))
def test_that_bisection_finds_the_last_strength_that_gains(
    low: int, span: int, zero: int, rise: int
) -> None:
    option = Option(
        name="n", title="N", help="", kind="integer", default=low, minimum=low, maximum=low + span
    )
    found = turning(lambda strength: rise * (50 * strength - zero), option)
    gaining = [n for n in range(low, low + span + 1) if rise * (50 * n - zero) > 0]
    if len(gaining) == span + 1:
        assert found is None
    else:
        assert found is not None
        last = (max(gaining) if rise < 0 else min(gaining)) if gaining else None
        assert found.at == last


@pytest.mark.parametrize("precision", [None, Setting("integer", {"bits": 8})])
def test_that_the_break_even_of_bits_and_macs_is_that_of_predictions(
    tmp_path: Path, precision: Setting | None
) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 40, 3, stride=2, padding=1), nn.Conv2d(40, 8, 1))
    write_archive(capture(module, (torch.randn(1, 3, 10, 10),)), {}, tmp_path / "small.fwz")
    session = Session()
    session.open(Source(path=str(tmp_path / "small.fwz")))

    def predicted(keep: float | None) -> tuple[int, int]:
        structure = Setting("tucker", {"keep": keep, "multiple": 1}) if keep else None
        asked = Recipe(layers={"0": Choice(structure=structure, precision=precision)})
        cost = session.predict(asked).layers["0"]
        return cost.bits, cost.macs

    asked = recipe("structure", "tucker", {"multiple": 1})
    asked = asked.with_choice("0", msgspec.structs.replace(asked.choice("0"), precision=precision))
    trace = traces(session, asked, "structure")[0]
    grid = np.arange(0.02, 1.0001, 0.02).round(2).tolist()
    bits, macs = predicted(None)
    costs = {keep: predicted(keep) for keep in grid}
    for found, least, place in ((trace.smaller, bits, 0), (trace.faster, macs, 1)):
        gaining = [keep for keep in grid if costs[keep][place] < least]
        if found is None:
            assert gaining == grid
        else:
            assert found.at is not None
            assert max(gaining) <= found.at < max(gaining) + 0.02


def test_that_few_zeros_are_told_to_make_the_file_no_smaller(session: Session) -> None:
    asked = recipe("sparsity", "magnitude", {"sparsity": 0.05})
    eight = Choice(sparsity=asked.choice("0").sparsity, precision=Setting("integer", {"bits": 8}))
    floats = traces(session, asked, "sparsity")[0].smaller
    bytes_ = traces(session, Recipe(layers={"0": eight}), "sparsity")[0].smaller
    assert floats is not None
    assert bytes_ is not None
    assert not floats.above
    assert floats.at is not None
    assert bytes_.at is not None
    assert 0.0 < floats.at < bytes_.at < 0.6


def test_that_suggested_shares_give_the_rank_that_stands_out(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(120, 80)
    signal = torch.randn(80, 8) @ torch.randn(8, 120)
    layer.weight = nn.Parameter(signal + 0.3 * torch.randn(80, 120))
    write_archive(capture(nn.Sequential(layer), (torch.randn(1, 120),)), {}, tmp_path / "low.fwz")
    session = Session()
    session.open(Source(path=str(tmp_path / "low.fwz")))
    session.set_task(TaskSource(kind="fidelity"))
    found = {
        suggestion.why: suggestion.strength
        for suggestion in traces(session, recipe("structure", "svd"), "structure")[-1].suggestions
    }
    rank = Svd(keep=found["variational Bayes"]).skeleton(layer)[0].weight.shape[0]
    assert rank == 8
    assert set(found) == {"variational Bayes", "90 % of the energy"}
