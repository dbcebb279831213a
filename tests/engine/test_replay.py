"""Replays: what a changed network gives from the first change on is what all of it gives."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.atlas.changes import Change, Changes
from featherweight.engine.atlas.costs import ChangeCosts
from featherweight.engine.atlas.damage import Sums, sample_order
from featherweight.engine.atlas.ground import Ground
from featherweight.engine.datasets.samples import Dataset, TensorSamples
from featherweight.engine.errors import UserError
from featherweight.engine.events import TaskSource
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.jobs import Job
from featherweight.engine.network import capture
from featherweight.engine.prediction import Predictor
from featherweight.engine.readings import SweepPlan
from featherweight.engine.recipe import Choice, Setting
from featherweight.engine.task import Task

SAMPLES = 32
CHOICES = (
    Choice(precision=Setting("integer", {"bits": 3})),
    Choice(precision=Setting("integer", {"bits": 4, "granularity": "tensor", "equalize": True})),
    Choice(precision=Setting("integer", {"bits": 3, "rounding": "gptq"})),
    Choice(sparsity=Setting("magnitude", {"sparsity": 0.7}), precision=Setting("codebook")),
    Choice(structure=Setting("svd", {"keep": 0.4, "multiple": 1})),
    Choice(structure=Setting("channel_pruning", {"ratio": 0.5})),
    Choice(structure=Setting("channel_pruning", {"ratio": 0.25, "score": "merge"})),
)


class Residual(nn.Module):
    """A stem, a block beside a shortcut that adds in place, two branches that are joined."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.one, self.other = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.left, self.right = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 6, 3, padding=1)
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.stem(x)))
        kept = x
        x = self.other(self.relu(self.one(x)))
        x += kept
        x = torch.cat([self.left(x), self.relu(self.right(x))], 1)
        result: Tensor = self.head(x.mean((2, 3)))
        return result


class Recurrent(nn.Module):
    """An LSTM whose outputs and last state are both read, and a layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 10, batch_first=True)
        self.twice, self.head = nn.Linear(10, 10), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        steps, (state, _) = self.lstm(x)
        x = self.twice(self.twice(steps).tanh())[:, -1] + state[0]
        result: Tensor = self.head(x)
        return result


class Attention(nn.Module):
    """One layer of a transformer on sequences of words."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(30, 16)
        self.layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True, dropout=0.0)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.layer(self.words(x)))
        return result


class Deciding(nn.Module):
    """Decides by its data which way to go, which no graph can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        if x.sum() > 0:
            x = self.second(x)
        result: Tensor = self.head(x)
        return result


class Fixed(nn.Module):
    """Takes four samples and no other number."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.first(x).relu().reshape(4, 8))
        return result


def pictures() -> Tensor:
    return torch.randn(SAMPLES, 2, 6, 6)


def sequences() -> Tensor:
    return torch.randn(SAMPLES, 4, 6)


def words() -> Tensor:
    return torch.randint(0, 30, (SAMPLES, 7))


def rows() -> Tensor:
    return torch.randn(SAMPLES, 6)


def ground_of(
    module: nn.Module, inputs: Tensor, labels: Tensor | None = None, examples: int = 2
) -> Ground:
    """Return what reads the changes of a network; without labels it is compared with itself."""
    network = capture(module, (inputs[:examples],))
    samples = TensorSamples((inputs,), labels)
    dataset = Dataset(samples, samples, labelled=labels is not None)
    kind, classes = ("fidelity", 0) if labels is None else ("classification", 5)
    task = Task(TaskSource(kind=kind), kind, dataset, network, classes)
    return Ground(Changes(network, analyse(network)), task)


@pytest.mark.parametrize(
    ("made", "inputs"),
    [(Residual, pictures), (Recurrent, sequences), (Attention, words), (Deciding, rows)],
)
def test_that_a_replay_loses_exactly_what_the_whole_network_loses(
    made: Callable[[], nn.Module], inputs: Callable[[], Tensor]
) -> None:
    torch.manual_seed(5)
    ground = ground_of(made(), inputs())
    network, task = ground.changes.network, ground.task
    before = {name: value.clone() for name, value in network.module.state_dict().items()}
    changes = ground.changes.of(SweepPlan(choices=CHOICES))
    assert bool(network.graph_lock) == (made is Deciding) == ground.replay.whole
    found = dict(ground.read(range(SAMPLES), changes, Job()))
    assert found.keys() == set(changes)
    batch, _ = task.recovery.batch(ground.order)
    with torch.no_grad():
        for change in changes:
            whole = ground.changes.made(change, task, Job()).outputs(*batch)
            assert found[change] == ground.meter.sums(network.outputs(*batch), whole, None), change
    after = network.module.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_that_a_network_of_a_fixed_batch_is_read_sample_by_sample_all_the_same() -> None:
    torch.manual_seed(2)
    ground = ground_of(Fixed(), rows(), examples=4)
    change = ground.changes.of(SweepPlan(choices=CHOICES[:1], layers=("first",)))[0]
    assert ground.task.fixed_batch == ground.chunk == 4
    found = dict(ground.read(range(30), [change], Job()))[change]
    made, total = ground.changes.made(change, ground.task, Job()), Sums()
    for at in range(0, 32, 4):
        batch, _ = ground.task.recovery.batch(ground.order[at : at + 4])
        left = min(4, 30 - at)
        with torch.no_grad():
            source, changed = ground.source.outputs(*batch)[0], made.outputs(*batch)[0]
        total = total.plus(ground.meter.sums((source[:left],), (changed[:left],), None))
    assert found == total


def test_that_only_what_follows_a_change_runs_again() -> None:
    ground = ground_of(Residual(), pictures())
    change = Change(("right",), CHOICES[0])
    place = ground.replay.position(change.layers)
    tail = ground.replay.tail(ground.made(change, Job()), place)
    called = [str(node.target) for node in tail.nodes if node.op == "call_module"]
    assert called[0] == "right"
    assert set(called) <= {"right", "head", "relu"}
    assert len(tail.needs) == 2
    # The branch beside it ran before, and only its result is lent.
    assert "left" not in called


@pytest.mark.parametrize(
    ("made", "inputs"), [(Residual, pictures), (Recurrent, sequences), (Attention, words)]
)
def test_that_a_layer_counted_alone_costs_what_it_does_in_the_network(
    made: Callable[[], nn.Module], inputs: Callable[[], Tensor]
) -> None:
    changes = ground_of(made(), inputs()).changes
    predictor = Predictor(changes.network, changes.coupling)
    costs = ChangeCosts(changes, predictor)
    for change in changes.of(SweepPlan(choices=CHOICES)):
        whole = predictor.predict(change.recipe, changes.chosen(change))
        found = costs.added(change)
        for resource in ("parameters", "macs", "bits"):
            after, before = getattr(whole.after, resource), getattr(whole.before, resource)
            assert getattr(found, resource) == after - before, (change, resource)


def test_that_channels_of_coupled_layers_are_one_change_of_all() -> None:
    changes = ground_of(Residual(), pictures()).changes
    pruning = [one for one in changes.of(SweepPlan(choices=CHOICES[5:6])) if len(one.layers) > 1]
    assert [set(one.layers) for one in pruning] == [{"stem", "other"}]
    alone = changes.of(SweepPlan(choices=CHOICES[5:6], layers=("other",)))
    assert [one.layers for one in alone] == [pruning[0].layers]


def test_that_a_layer_is_left_out_unless_it_is_named() -> None:
    changes = ground_of(Residual(), pictures()).changes
    tucker = (Choice(structure=Setting("tucker")),)
    assert "head" not in {
        name for one in changes.of(SweepPlan(choices=tucker)) for name in one.layers
    }
    named = changes.of(SweepPlan(choices=tucker, layers=("head",)))
    assert len(named) == 1
    assert "cannot take tucker" in named[0].reason
    with pytest.raises(UserError, match="layer heat, which"):
        changes.of(SweepPlan(choices=tucker, layers=("heat",)))
    with pytest.raises(UserError, match="is empty"):
        changes.of(SweepPlan(choices=(Choice(),)))


def test_that_damage_is_the_divergence_by_hand_and_the_metric_falls_in_points() -> None:
    ground = ground_of(nn.Linear(6, 5), rows(), torch.arange(SAMPLES) % 5)
    meter, labels = ground.meter, torch.tensor([0, 1])
    source = torch.tensor([[2.0, 0.0, 0.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0, 0.0]])
    made = torch.tensor([[2.0, 0.0, 0.0, 0.0, 0.0], [4.0, 3.0, 0.0, 0.0, 0.0]])
    losses = meter.losses(meter.sums((source,), (made,), labels))
    logs, changed = source.double().log_softmax(1), made.double().log_softmax(1)
    divergence = (logs.exp() * (logs - changed)).sum(1)
    rise = (logs - changed)[torch.arange(2), labels]
    assert (meter.damage, meter.metric) == ("divergence", "top1")
    assert losses.damage.value == pytest.approx(float(divergence.mean()))
    assert losses.damage.error == pytest.approx(float(divergence.std()) / 2**0.5)
    assert losses.loss.value == pytest.approx(float(rise.mean()))
    assert losses.metric is not None
    assert (losses.metric.value, losses.metric.error) == (50.0, 50.0)


def test_that_outputs_without_classes_are_told_by_their_relative_error() -> None:
    ground = ground_of(nn.Conv2d(2, 3, 1), pictures())
    assert (ground.meter.damage, ground.task.kind) == ("output error", "fidelity")
    source, made = (torch.ones(4, 3, 2, 2),), (torch.full((4, 3, 2, 2), 1.5),)
    losses = ground.meter.losses(ground.meter.sums(source, made, None))
    assert losses.damage.value == losses.loss.value == pytest.approx(0.25)


def test_that_sums_of_parts_are_those_of_the_whole() -> None:
    torch.manual_seed(4)
    ground = ground_of(nn.Linear(6, 5), rows(), torch.arange(SAMPLES) % 5)
    change = ground.changes.of(SweepPlan(choices=CHOICES[:1]))[0]
    parts = [dict(ground.read(part, [change], Job()))[change] for part in (range(7), range(7, 32))]
    total = Sums()
    for part in parts:
        assert isinstance(part, Sums)
        total = total.plus(part)
    whole = dict(ground.read(range(32), [change], Job()))[change]
    assert isinstance(whole, Sums)
    assert total.samples == whole.samples == 32
    # Batches of other sizes round their last bits in another way.
    assert total.damage == pytest.approx(whole.damage, rel=1e-3)


@pytest.mark.parametrize("count", [1, 10, 1000, 4096])
def test_that_every_beginning_of_the_samples_lies_evenly_over_all(count: int) -> None:
    order = sample_order(count)
    assert sorted(order) == list(range(count))
    for begin in (count // 10, count // 3):
        # Also where the labels of the data go round and round.
        for period in (2, 7, 10):
            if begin >= 100:
                shares = [
                    sum(1 for one in order[:begin] if one % period == k) for k in range(period)
                ]
                assert max(shares) - min(shares) <= 0.25 * begin / period + 2
        halves = sum(1 for one in order[:begin] if one < count // 2)
        assert abs(halves - begin / 2) <= 3
