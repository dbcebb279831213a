"""Sparsities that go by data, by a budget of many layers, or by a pattern."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from featherweight.engine.applicability import chosen_methods, locks
from featherweight.engine.errors import CancelledError
from featherweight.engine.events import Event, Point, Source
from featherweight.engine.evidence import Evidence, Gradients, InputMoments
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.jobs import Job
from featherweight.engine.methods.budgets import Budget
from featherweight.engine.methods.error_feedback import DAMPING
from featherweight.engine.methods.registry import method_of
from featherweight.engine.methods.sparsity.brain_damage import BrainDamage
from featherweight.engine.methods.sparsity.brain_surgeon import BrainSurgeon
from featherweight.engine.methods.sparsity.magnitude import Magnitude
from featherweight.engine.methods.sparsity.neighbours import Neighbours, Pattern
from featherweight.engine.methods.sparsity.wanda import Wanda
from featherweight.engine.network import capture
from featherweight.engine.options import Scalar
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.session import Session
from featherweight.engine.trainings import FineTuning
from featherweight.engine.weight_forms import densified

BY_DATA: list[tuple[str, dict[str, Scalar]]] = [
    ("obd", {}),
    ("obd", {"curvature": "layer"}),
    ("wanda", {}),
    ("obs", {}),
    ("obs", {"variant": "exact"}),
    ("n_of_m", {"score": "wanda"}),
    ("n_of_m", {"score": "obs"}),
]


def random(*shape: int, seed: int = 8) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def correlated(rows: int, columns: int) -> Tensor:
    hidden = random(rows, max(1, columns // 3), seed=7)
    return hidden @ random(hidden.shape[1], columns, seed=6) + 0.1 * random(rows, columns, seed=5)


def moments_of(inputs: Tensor, groups: int = 1, transposed: bool = False) -> InputMoments:
    rows = inputs.reshape(len(inputs), groups, -1).transpose(0, 1)
    blocks = (rows.transpose(1, 2) @ rows / len(inputs),)
    return InputMoments(groups, blocks, rows.mean(1), transposed)


def evidence_for(shape: tuple[int, ...], groups: int = 1, transposed: bool = False) -> Evidence:
    outputs = shape[1] * groups if transposed else shape[0]
    columns = math.prod(shape) // outputs * groups
    moments = moments_of(correlated(500, columns), groups, transposed)
    return Evidence(moments, Gradients(random(*shape, seed=4).square()))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 9), min_size=2, max_size=3), min_size=1, max_size=5),
    st.floats(0.0, 0.99),
    st.sampled_from(["global", "erk", "lamp"]),
    st.integers(0, 3),
)
def test_that_a_budget_is_met_to_the_weight_and_leaves_no_layer_empty(
    shapes: list[list[int]], sparsity: float, budget: Budget, seed: int
) -> None:
    method = Magnitude(sparsity=sparsity, budget=budget)
    # Equal values are frequent, and so are layers of quite different scales.
    weights = {
        str(at): random(*shape, seed=seed).mul(2 * at + 1).round()
        for at, shape in enumerate(shapes)
    }
    own = method.shared_out({name: [weight] for name, weight in weights.items()})
    kept = {name: own[name].kept(weight.numel()) for name, weight in weights.items()}
    total = sum(map(Tensor.numel, weights.values()))
    assert min(kept.values()) >= 1
    assert sum(kept.values()) == max(method.kept(total), len(weights))
    for name, weight in weights.items():
        assert int(own[name].mask(weight).sum()) == kept[name]


def test_that_budgets_share_out_as_their_papers_say() -> None:
    # The first layer is ten times as large in every weight; LAMP does not see that.
    weights = {"large": [10 * random(30, 20)], "small": [random(30, 20)], "wide": [random(40, 90)]}
    shares = {
        budget: {
            name: own.kept(weights[name][0].numel()) / weights[name][0].numel()
            for name, own in Magnitude(sparsity=0.8, budget=budget).shared_out(weights).items()
        }
        for budget in ("layer", "global", "erk", "lamp")
    }
    assert shares["layer"] == {"large": 0.2, "small": 0.2, "wide": 0.2}
    everything = torch.cat([each[0].abs().reshape(-1) for each in weights.values()])
    bound = everything.sort(descending=True).values[960 - 1]
    by_hand = {
        name: float((each[0].abs() >= bound).float().mean()) for name, each in weights.items()
    }
    assert shares["global"] == pytest.approx(by_hand)
    assert shares["lamp"]["large"] == shares["lamp"]["small"]
    ratio = (50 / 600) / (130 / 3600)
    assert shares["erk"]["small"] / shares["erk"]["wide"] == pytest.approx(ratio, rel=0.01)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["2:4", "4:8", "1:4"]),
    st.sampled_from(["magnitude", "wanda", "obs"]),
    st.sampled_from([((6, 8), 1, False), ((4, 3, 3), 2, False), ((4, 3, 3), 2, True)]),
)
def test_that_of_every_few_neighbours_as_many_stay_as_the_pattern_says(
    pattern: Pattern, score: str, case: tuple[tuple[int, ...], int, bool]
) -> None:
    method = method_of(Setting("n_of_m", {"pattern": pattern, "score": score}), "here")
    assert isinstance(method, Neighbours)
    weight, mask = method.pruned(random(*case[0]), evidence_for(*case))
    stay, size = map(int, pattern.split(":"))
    flat = mask.reshape(-1)
    counts = [int(part.sum()) for part in flat.split(size)]
    assert counts == [min(stay, len(part)) for part in flat.split(size)]
    assert int(mask.sum()) == method.kept(weight.numel())
    assert bool((weight[mask] != 0).all())


@pytest.mark.parametrize(("name", "options"), BY_DATA)
@pytest.mark.parametrize(
    ("shape", "groups", "transposed"),
    [((12, 20), 1, False), ((8, 3, 3, 3), 2, False), ((8, 3, 3), 2, True)],
)
def test_that_as_many_weights_stay_with_evidence_as_without(
    name: str, options: dict[str, Scalar], shape: tuple[int, ...], groups: int, transposed: bool
) -> None:
    method = method_of(Setting(name, options), "here")
    assert isinstance(method, BrainDamage | BrainSurgeon | Neighbours | Wanda)
    weight = random(*shape)
    kept = method.kept(weight.numel())
    broken = weight.clone()
    broken.view(-1)[3] = torch.nan
    evidence = evidence_for(shape, groups, transposed)
    for start, given_evidence in ((weight, evidence), (weight, Evidence()), (broken, evidence)):
        changed, mask = method.pruned(start, given_evidence)
        assert changed.shape == mask.shape == weight.shape
        assert int(mask.sum()) == kept
    assert not torch.equal(method.pruned(weight, evidence)[1], method.mask(weight))
    assert torch.equal(weight, random(*shape))


def test_that_brain_damage_keeps_the_largest_half_h_w_squared() -> None:
    weight, evidence = random(10, 30), evidence_for((10, 30))
    assert evidence.gradients is not None
    assert evidence.moments is not None
    inputs = evidence.moments.blocks[0][0].diagonal().expand(10, 30)
    for curvature, h in (("fisher", evidence.gradients.squares), ("layer", inputs)):
        method = method_of(Setting("obd", {"curvature": curvature, "sparsity": 0.7}), "here")
        assert isinstance(method, BrainDamage)
        kept, mask = method.pruned(weight, evidence)
        saliency = 0.5 * h * weight.square()
        assert saliency[mask].min() >= saliency[~mask].max()
        assert torch.equal(kept, weight)


def test_that_wanda_keeps_equally_many_of_every_row_by_weight_times_input() -> None:
    weight, evidence = random(10, 30), evidence_for((10, 30))
    assert evidence.moments is not None
    mask = Wanda(sparsity=0.7).pruned(weight, evidence)[1]
    scores = weight.abs() * evidence.moments.blocks[0][0].diagonal().sqrt()
    assert mask.sum(1).tolist() == [9] * 10
    assert all(
        row[stays].min() >= row[~stays].max() for row, stays in zip(scores, mask, strict=True)
    )


def test_that_brain_surgery_harms_the_outputs_least_and_the_exact_order_least_of_all() -> None:
    weight, evidence = random(24, 60), evidence_for((24, 60))
    moments = evidence.moments
    assert moments is not None
    harm = {
        name: moments.power(pruned * mask - weight)
        for name, (pruned, mask) in {
            "magnitude": Magnitude(sparsity=0.6).pruned(weight),
            "wanda": Wanda(sparsity=0.6).pruned(weight, evidence),
            "fast": BrainSurgeon(sparsity=0.6).pruned(weight, evidence),
            "exact": BrainSurgeon(sparsity=0.6, variant="exact").pruned(weight, evidence),
        }.items()
    }
    assert harm["exact"] < harm["fast"] < 0.7 * min(harm["magnitude"], harm["wanda"])


def test_that_exact_surgery_removes_what_trying_every_removal_would() -> None:
    inputs, weight = correlated(200, 7), random(1, 7)
    moments = moments_of(inputs)
    damped = moments.blocks[0][0].double()
    damped += DAMPING * damped.diagonal().mean() * torch.eye(7)

    def solved(stays: list[int]) -> tuple[float, Tensor]:
        row = torch.zeros(7, dtype=torch.float64)
        row[stays] = torch.linalg.solve(
            damped[stays][:, stays], (damped @ weight[0].double())[stays]
        )
        difference = row - weight[0]
        return float(difference @ damped @ difference), row

    stays = list(range(7))
    for _ in range(4):
        stays = min(
            ([other for other in stays if other != gone] for gone in stays),
            key=lambda left: solved(left)[0],
        )
    method = BrainSurgeon(sparsity=4 / 7 + 0.01, variant="exact")
    pruned, mask = method.pruned(weight, Evidence(moments))
    assert mask[0].nonzero()[:, 0].tolist() == stays
    torch.testing.assert_close(pruned[0], solved(stays)[1].float(), rtol=1e-4, atol=1e-5)


@pytest.fixture(name="session")
def _session(trained_session: Callable[[Path, Tensor, Tensor], Session], tmp_path: Path) -> Session:
    inputs = correlated(256, 48)
    return trained_session(tmp_path, inputs, (inputs @ random(48, 4)).argmax(1))


@pytest.mark.parametrize(("name", "options"), [*BY_DATA, ("obs_network", {})])
def test_that_a_sparsity_by_data_runs_to_the_same_bytes_and_near_its_prediction(
    session: Session, name: str, options: dict[str, Scalar], tmp_path: Path
) -> None:
    choice = Choice(sparsity=Setting(name, options), precision=Setting("integer", {"bits": 4}))
    recipe = Recipe(layers={"0": choice, "2": choice}, calibration=128)
    archives = []
    for folder in ("once", "again"):
        result = session.compress(recipe, name, str(tmp_path / folder), Job())
        archives.append((tmp_path / folder / result.archive).read_bytes())
    assert archives[0] == archives[1]
    prediction = session.predict(recipe)
    assert not prediction.exact
    bits = result.ledger.bits - result.ledger.container
    # As many weights stay; only where they stand changes the bits of their places.
    assert bits == pytest.approx(prediction.after.bits, rel=0.1)
    again = read_network(Source(path=str(tmp_path / "once" / result.archive)))
    values = densified(again).layer("0").get_parameter("weight")
    assert float((values == 0).float().mean()) >= 0.5


def test_that_a_cancelled_run_goes_on_to_the_bytes_of_one_that_was_not(
    session: Session, tmp_path: Path
) -> None:
    choice = Choice(sparsity=Setting("obs", {"sparsity": 0.7, "budget": "lamp"}))
    recipe = Recipe(layers={"0": choice, "2": choice}, recovery=FineTuning(epochs=4))
    whole = session.compress(recipe, "whole", str(tmp_path / "whole"), Job())

    def hear(event: Event) -> None:
        if isinstance(event, Point):
            job.cancel()

    job = Job(hear)
    with pytest.raises(CancelledError):
        session.compress(recipe, "resumed", str(tmp_path / "resumed"), job)
    resumed = session.compress(recipe, "resumed", str(tmp_path / "resumed"), Job())
    bytes_of = [
        (tmp_path / name / result.archive).read_bytes()
        for name, result in (("whole", whole), ("resumed", resumed))
    ]
    assert bytes_of[0] == bytes_of[1]


def test_that_a_prediction_follows_the_other_layers_of_a_budget(
    session: Session, tmp_path: Path
) -> None:
    choice = Choice(sparsity=Setting("magnitude", {"sparsity": 0.8, "budget": "erk"}))
    alone = session.predict(Recipe(layers={"0": choice}))
    recipe = Recipe(layers={"0": choice, "2": choice})
    both = session.predict(recipe)
    assert both.layers["0"].bits < alone.layers["0"].bits
    result = session.compress(recipe, "both", str(tmp_path / "results"), Job())
    assert both.exact
    assert result.ledger.bits - result.ledger.container == both.after.bits


def test_that_layers_whose_inputs_cannot_be_measured_are_locked_with_the_reason() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(9, 8)
            self.memory = nn.GRU(8, 8, batch_first=True)
            self.last = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.last(self.memory(self.words(x))[0][:, -1])
            return result

    network = capture(Reader(), (torch.randint(0, 9, (1, 5)),))
    found = locks(network, analyse(network))
    for method in ("obs", "obd", "wanda"):
        assert "embedding multiplies its rows with nothing" in found["words"][method]
        assert "inputs of GRU layers cannot be measured" in found["memory"][method]
        assert method not in found["last"]
    for method in ("magnitude", "n_of_m"):
        assert not any(method in reasons for reasons in found.values())
    choice = Choice(sparsity=Setting("magnitude", {"budget": "global"}))
    chosen = chosen_methods(network, analyse(network), Recipe(layers=dict.fromkeys(found, choice)))
    assert {name for name, each in chosen.items() if isinstance(each.sparsity, Magnitude)} == {
        *("words", "memory", "last")
    }
