"""A network pulled towards what its methods can hold, with ranks shared out among its layers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from featherweight.engine.applicability import Chosen, chosen_methods
from featherweight.engine.errors import CancelledError, UserError
from featherweight.engine.events import Event, JobStarted, Point, Progress, Source, TaskSource
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.jobs import Job
from featherweight.engine.methods.method import FactorMethod, SparsityMethod
from featherweight.engine.methods.registry import method_of
from featherweight.engine.network import Network, capture
from featherweight.engine.preparing.ground import Ground
from featherweight.engine.preparing.learning_projection import dense_weights, projected
from featherweight.engine.preparing.preparation import prepared
from featherweight.engine.preparing.rank_choice import Ladder, chosen_ranks
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.results import Result
from featherweight.engine.session import Session
from featherweight.engine.task import Task, read_task
from featherweight.engine.trainings import Preparation, Reconstruction
from featherweight.engine.weight_forms import densified
from featherweight.engine.writing.archive import write_archive

LEARN = Preparation(
    way="learning-compression", epochs=4, batch_size=16, optimizer="adamw", learning_rate=3e-3
)
SVD = Choice(structure=Setting("svd", {"keep": 0.3, "multiple": 1}))
SPARSE = Choice(sparsity=Setting("magnitude", {"sparsity": 0.9}))
TWO_BITS = Choice(precision=Setting("integer", {"bits": 2}))


def small() -> nn.Module:
    """Two wide layers of which the first has few directions that count."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(36, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
    return module.append(nn.Linear(32, 4))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained network and its data."""
    folder = tmp_path_factory.mktemp("learning")
    random = np.random.default_rng(0)
    labels = np.arange(400) % 4
    images = random.normal(size=(400, 36)).astype(np.float32)
    images[np.arange(400), labels] += 2.5
    module = small()
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(80):
        optimizer.zero_grad()
        guessed = module(torch.from_numpy(images[:300]))
        nn.functional.cross_entropy(guessed, torch.from_numpy(labels[:300])).backward()
        optimizer.step()
    write_archive(capture(module, (torch.zeros(2, 36),)), {}, folder / "network.fwz")
    np.savez(folder / "data.npz", images=images, labels=labels)
    return folder


@pytest.fixture
def session(place: Path) -> Session:
    opened = Session()
    opened.open(Source(path=str(place / "network.fwz")))
    opened.set_task(TaskSource(data=str(place / "data.npz")))
    return opened


@pytest.fixture
def ground(place: Path) -> Callable[[dict[str, Choice]], Ground]:
    """Give a function that makes the ground of choices."""
    network = read_network(Source(path=str(place / "network.fwz")))
    task: Task = read_task(TaskSource(data=str(place / "data.npz")), network)

    def made(layers: dict[str, Choice]) -> Ground:
        coupling = analyse(network)
        chosen = chosen_methods(network, coupling, Recipe(layers=layers))
        return Ground(network, coupling, chosen, task)

    return made


def run(
    session: Session, folder: Path, layers: dict[str, Choice], way: Preparation | None
) -> Result:
    recipe = Recipe(layers=layers, preparation=way)
    result = session.compress(recipe, "one", str(folder), Job())
    assert result.after.figures["parameters"].value <= result.predicted.parameters
    made = densified(read_network(Source(path=str(folder / result.archive))))
    held = sum(value.numel() for value in made.module.parameters())
    assert held == result.after.figures["parameters"].value
    return result


@pytest.mark.parametrize(
    "layers",
    [{"0": SVD, "2": SVD}, {"0": SPARSE, "2": TWO_BITS}],
    ids=["ranks", "weights"],
)
def test_that_a_compression_costs_less_after_it_at_the_same_size(
    session: Session, tmp_path: Path, layers: dict[str, Choice]
) -> None:
    plain = run(session, tmp_path / "a", layers, None)
    learned = run(session, tmp_path / "b", layers, LEARN)
    assert learned.after.figures["loss"].value < plain.after.figures["loss"].value


def test_that_a_prediction_tells_the_most_that_chosen_ranks_hold(
    session: Session, tmp_path: Path
) -> None:
    layers = {"0": SVD, "2": SVD}
    for way in (None, LEARN):
        told = session.predict(Recipe(layers=layers, preparation=way))
        result = run(session, tmp_path / "out", layers, way)
        bits = result.ledger.bits - result.ledger.container
        assert told.exact == (way is None)
        assert bits == told.after.bits if told.exact else bits <= told.after.bits


def test_that_weights_end_where_their_methods_can_hold_them(
    ground: Callable[[dict[str, Choice]], Ground],
) -> None:
    start = ground({"0": SPARSE, "2": SVD})
    before = {name: value.clone() for name, value in start.network.module.state_dict().items()}
    found = prepared(start, LEARN, 0, None, Job())
    for name, methods in found.chosen.items():
        first, last = start.network.layer(name), found.network.layer(name)
        assert _distance(last, methods) < 0.1 * _distance(first, start.chosen[name]), name
    for name, value in start.network.module.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_that_ranks_move_to_the_layer_that_needs_them_and_cost_no_more(
    ground: Callable[[dict[str, Choice]], Ground],
) -> None:
    start = ground({"0": SVD, "2": SVD})
    with torch.no_grad():
        # One direction is all that the first layer has.
        weight = start.network.layer("0").get_parameter("weight")
        weight.copy_(torch.outer(weight[:, 0], weight[0]))
    found = prepared(start, LEARN, 0, None, Job())
    own, new = (_sizes(start.network, chosen) for chosen in (start.chosen, found.chosen))
    assert new["0"] < own["0"]
    assert new["2"] > own["2"]
    assert sum(new.values()) <= sum(own.values())


class Mixed(nn.Module):
    """Two convolutions, the second without need for most of its rank, and a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, padding=1)
        self.second = nn.Conv2d(12, 12, 3, padding=1)
        self.steps = nn.GRU(12, 10, batch_first=True)
        self.head = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x).relu()).relu()
        found, _ = self.steps(x.mean(3).transpose(1, 2))
        return self.head(found[:, -1])


def test_that_convolutions_and_recurrent_layers_take_part_without_labels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Mixed()
    with torch.no_grad():
        module.second.weight.copy_(module.second.weight[:1, :1].expand_as(module.second.weight))
    network = capture(module, (torch.randn(2, 3, 6, 6),))
    images = np.random.default_rng(0).normal(size=(64, 3, 6, 6)).astype(np.float32)
    np.savez(tmp_path / "data.npz", images=images)
    task = read_task(TaskSource(data=str(tmp_path / "data.npz")), network)
    methods = {"first": "separable", "second": "tucker", "steps": "svd"}
    layers = {
        name: Choice(structure=Setting(method, {"keep": 0.4, "multiple": 1}))
        for name, method in methods.items()
    }
    coupling = analyse(network)
    chosen = chosen_methods(network, coupling, Recipe(layers=layers))
    found = prepared(Ground(network, coupling, chosen, task), LEARN, 0, None, Job())
    own, new = _sizes(network, chosen), _sizes(network, found.chosen)
    assert new["second"] < own["second"]
    assert max(new["first"] - own["first"], new["steps"] - own["steps"]) > 0
    assert sum(new.values()) <= sum(own.values())


@pytest.mark.parametrize("at", [3, 30, 60])
def test_that_a_cancelled_run_ends_in_the_same_bytes(
    session: Session, tmp_path: Path, at: int
) -> None:
    layers = {"0": SVD, "2": SVD, "4": TWO_BITS}
    rebuilt = Reconstruction(samples=64, steps=5)
    recipe = Recipe(layers=layers, preparation=LEARN, reconstruction=rebuilt)
    seen: list[Event] = []
    whole = session.compress(recipe, "one", str(tmp_path / "a"), Job(seen.append))
    begun = next(event for event in seen if isinstance(event, JobStarted))
    last = [event for event in seen if isinstance(event, Progress)][-1]
    assert last.step == begun.steps

    def stop(event: Event) -> None:
        if isinstance(event, Point) and event.series == "rate" and event.step >= at:
            job.cancel()

    job = Job(stop)
    with pytest.raises(CancelledError):
        session.compress(recipe, "one", str(tmp_path / "b"), job)
    again: list[Event] = []
    second = session.compress(recipe, "one", str(tmp_path / "b"), Job(again.append))
    files = [tmp_path / name / result.archive for name, result in (("a", whole), ("b", second))]
    assert files[0].read_bytes() == files[1].read_bytes()
    rates = [event for event in again if isinstance(event, Point) and event.series == "rate"]
    assert rates[0].step == at + 1


def test_that_no_layer_to_take_part_is_an_error_that_says_why(
    ground: Callable[[dict[str, Choice]], Ground],
) -> None:
    removed = Choice(structure=Setting("channel_pruning", {"ratio": 0.5}))
    with pytest.raises(UserError, match=r"No layer takes part.*Channels that go"):
        prepared(ground({"0": removed}), LEARN, 0, None, Job())
    signs = Choice(structure=Setting("binary_inputs"))
    with pytest.raises(UserError, match=r"No layer takes part.*no weight of the same shape"):
        prepared(ground({"2": signs}), LEARN, 0, None, Job())


def test_that_a_loss_that_is_no_number_is_an_error_that_names_the_rate(
    ground: Callable[[dict[str, Choice]], Ground],
) -> None:
    wild = Preparation(
        way="learning-compression", epochs=4, batch_size=16, optimizer="sgd", learning_rate=10.0
    )
    start = ground({"0": SVD, "2": SVD})
    with torch.no_grad():
        start.network.layer("2").get_parameter("weight").mul_(1e15)
    with pytest.raises(UserError, match="no number any more") as raised:
        prepared(start, wild, 0, None, Job())
    assert "learning rate" in raised.value.hint


LAYERS: dict[str, tuple[nn.Module, Setting]] = {
    "linear": (nn.Linear(24, 16), Setting("svd", {"keep": 0.4, "multiple": 1})),
    "blocks": (nn.Linear(24, 16), Setting("monarch", {"keep": 0.4})),
    "circles": (nn.Linear(24, 16, bias=False), Setting("circulant", {"block": 8})),
    "strided": (
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        Setting("tucker", {"keep": 0.5, "multiple": 1}),
    ),
    "spread": (
        nn.Conv2d(6, 8, (3, 5), dilation=(2, 1), padding="same"),
        Setting("separable", {"keep": 0.5, "multiple": 1}),
    ),
    "grouped": (
        nn.Conv2d(8, 8, 3, groups=2, padding=1, padding_mode="reflect"),
        Setting("separable", {"keep": 0.5, "multiple": 1}),
    ),
    "sequence": (nn.Conv1d(6, 8, 5, stride=3), Setting("tucker", {"keep": 0.5, "multiple": 1})),
    "gates": (
        nn.LSTM(12, 6, num_layers=2, bidirectional=True, batch_first=True),
        Setting("svd", {"keep": 0.4, "multiple": 1}),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_that_a_chain_is_read_back_as_the_weight_that_computes_the_same(name: str) -> None:
    torch.manual_seed(0)
    layer, setting = LAYERS[name]
    method = method_of(setting, "here")
    assert isinstance(method, FactorMethod)
    chain = method.rewritten(layer).eval()
    found = dense_weights(layer, chain)
    assert found is not None
    shape = {nn.Linear: (3, 24), nn.LSTM: (3, 5, 12), nn.Conv1d: (2, 6, 17)}.get(
        type(layer), (2, 8 if name == "grouped" else 6, 13, 11)
    )
    inputs = torch.randn(shape)
    wanted = chain(inputs)
    made = torch.func.functional_call(layer, {**dict(layer.named_parameters()), **found}, inputs)
    first, second = (each[0] if isinstance(each, tuple) else each for each in (made, wanted))
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)


def test_that_a_structure_and_what_follows_it_are_projected_together() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(24, 16)
    svd = method_of(SVD.structure or Setting(""), "here")
    sparse = method_of(SPARSE.sparsity or Setting(""), "here")
    assert isinstance(svd, FactorMethod)
    assert isinstance(sparse, SparsityMethod)
    alone = projected(layer, Chosen(structure=svd))["weight"]
    both = projected(layer, Chosen(structure=svd, sparsity=sparse))["weight"]
    rank = svd.skeleton(layer)[0].get_parameter("weight").shape[0]
    assert int(torch.linalg.matrix_rank(alone)) == rank
    energies = torch.linalg.svdvals(layer.weight.detach().double()).square()
    lost = float((layer.weight.detach() - alone).square().sum())
    assert lost == pytest.approx(float(energies[rank:].sum()), rel=1e-4)
    assert float((layer.weight.detach() - both).square().sum()) > lost


@st.composite
def ladders(draw: st.DrawFn) -> Ladder:
    steps = draw(st.lists(st.floats(0.01, 10.0), min_size=1, max_size=6))
    price = draw(st.integers(1, 9))
    costs = price * np.arange(1, len(steps) + 1)
    errors = np.cumsum(np.array(steps)[::-1])[::-1]
    bits = costs * draw(st.integers(1, 32))
    own = draw(st.integers(0, len(steps) - 1))
    return Ladder(errors, costs.astype(float), bits.astype(float), own)


@given(st.lists(ladders(), min_size=1, max_size=4))
def test_that_shared_ranks_never_cost_more_or_lose_more(layers: list[Ladder]) -> None:
    places = chosen_ranks(layers)
    pairs = list(zip(layers, places, strict=True))
    for numbers in ("costs", "bits", "errors"):
        now = sum(getattr(ladder, numbers)[place] for ladder, place in pairs)
        own = sum(getattr(ladder, numbers)[ladder.own] for ladder in layers)
        assert now <= own + 1e-9


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=8), st.integers(1, 7))
def test_that_of_convex_errors_and_equal_costs_the_largest_values_stay(
    energies: list[int], kept: int
) -> None:
    rows = [np.sort(np.array(energies, float))[::-1], np.array([500.0, 40.0, 3.0])]
    costs = [np.arange(len(row) + 1.0) for row in rows]
    tails = [np.concatenate([np.cumsum(row[::-1])[::-1], [0.0]]) for row in rows]
    own = [min(kept, len(rows[0])), min(kept, 3)]
    made = [
        Ladder(tail, cost, cost, place) for tail, cost, place in zip(tails, costs, own, strict=True)
    ]
    places = chosen_ranks(made)
    every = np.sort(np.concatenate(rows))[::-1]
    lost = sum(tail[place] for tail, place in zip(tails, places, strict=True))
    assert lost == pytest.approx(every[sum(own) :].sum())


def _distance(layer: nn.Module, methods: Chosen) -> float:
    weight: Tensor = layer.get_parameter("weight").detach()
    away = projected(layer, methods)["weight"] - weight
    return float(away.square().sum() / weight.square().sum())


def _sizes(network: Network, chosen: dict[str, Chosen]) -> dict[str, int]:
    return {
        name: sum(
            value.numel() for value in methods.structure.skeleton(network.layer(name)).parameters()
        )
        for name, methods in chosen.items()
        if isinstance(methods.structure, FactorMethod)
    }
