"""Layers trained one by one give the original's outputs again, without a label."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from featherweight.engine.applicability import chosen_methods
from featherweight.engine.compression import constrain, restructured
from featherweight.engine.errors import CancelledError, UserError
from featherweight.engine.events import Event, JobStarted, Point, Progress, Source, TaskSource
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.jobs import Job
from featherweight.engine.methods.method import SparsityMethod
from featherweight.engine.methods.registry import method_of
from featherweight.engine.network import Network, capture
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.reconstructing.places import Pair
from featherweight.engine.reconstructing.reconstruction import reconstruct, steps_of
from featherweight.engine.session import Session
from featherweight.engine.task import Task, read_task
from featherweight.engine.trainings import FineTuning, Reconstruction
from featherweight.engine.weight_forms import densified
from featherweight.engine.writing.archive import write_archive

TINY = Reconstruction(samples=64, steps=30, batch_size=16, learning_rate=3e-3)
SVD = Choice(structure=Setting("svd", {"keep": 0.4, "multiple": 1}))
TUCKER = Choice(structure=Setting("tucker", {"keep": 0.4, "multiple": 1}))
SPARSE = Choice(sparsity=Setting("magnitude", {"sparsity": 0.8}))
CHANNELS = Choice(structure=Setting("channel_pruning", {"ratio": 0.5}))
EVEN = Choice(precision=Setting("integer", {"bits": 3, "equalize": True}))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.left = nn.Conv2d(8, 12, 3, padding=1)
        self.right = nn.Conv2d(12, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = x + self.right(self.left(x).relu())
        return self.head(x.relu().mean((2, 3)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(10, 16)
        self.steps = nn.LSTM(16, 12, batch_first=True)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        found, _ = self.steps(self.wide(x).tanh())
        return self.head(found[:, -1])


def attention() -> nn.Module:
    layer = nn.TransformerEncoderLayer(12, 2, 24, 0.0, batch_first=True)
    return nn.Sequential(nn.Linear(6, 12), layer, nn.Linear(12, 3))


def twice() -> nn.Module:
    shared = nn.Linear(12, 12)
    return nn.Sequential(shared, nn.ReLU(), shared, nn.ReLU(), nn.Linear(12, 4))


KINDS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, Choice]]] = {
    "residual": (Residual, (2, 6, 6), {"left": TUCKER, "right": SPARSE}),
    "recurrent": (Recurrent, (5, 10), {"wide": SVD, "steps": SVD}),
    "attention": (attention, (4, 6), {"1.linear1": SVD, "1.linear2": SPARSE}),
    "shared": (twice, (12,), {"0": SPARSE}),
    "pruned": (Residual, (2, 6, 6), {"left": CHANNELS}),
}


def ready(module: nn.Module, shape: tuple[int, ...], place: Path) -> tuple[Network, Task]:
    """Capture a module and give it inputs to compare on."""
    torch.manual_seed(3)
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.running_mean = torch.randn(part.num_features)
            part.running_var = torch.rand(part.num_features) + 0.5
    network = capture(module, (torch.randn(2, *shape),))
    assert network.graph_lock == ""
    inputs = np.random.default_rng(0).normal(size=(96, *shape)).astype(np.float32)
    np.savez(place / "data.npz", images=inputs)
    return network, read_task(TaskSource(data=str(place / "data.npz")), network)


def compressed(network: Network, layers: dict[str, Choice]) -> Pair:
    coupling = analyse(network)
    chosen = chosen_methods(network, coupling, Recipe(layers=layers))
    made = restructured(network, coupling, chosen)
    constrain(made, chosen)
    return Pair(made, network, chosen)


@pytest.mark.parametrize(
    ("kind", "trains"),
    [*((kind, "both") for kind in KINDS), ("residual", "changed"), ("recurrent", "following")],
)
def test_that_outputs_come_nearer_to_the_original_ones(
    kind: str, trains: Literal["changed", "following", "both"], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    build, shape, layers = KINDS[kind]
    network, task = ready(build(), shape, tmp_path)
    pair = compressed(network, layers)
    before, source = task.standing(pair.network)[0], network.copy()
    statistics = {n: b.clone() for n, b in pair.network.module.named_buffers() if "running" in n}
    settings = Reconstruction(samples=64, steps=30, learning_rate=3e-3, trains=trains)
    reconstruct(pair, task, settings, 0, None, Job())
    assert task.standing(pair.network)[0] < 0.9 * before
    for name, value in source.module.state_dict().items():
        assert torch.equal(value, network.module.state_dict()[name]), name
    now = dict(pair.network.module.named_buffers())
    assert all(torch.equal(value, now[name]) for name, value in statistics.items())
    assert all(value.requires_grad for value in pair.network.module.parameters())


def test_that_masks_and_grids_hold_while_layers_train(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, task = ready(Residual(), (2, 6, 6), tmp_path)
    shared = Choice(precision=Setting("codebook", {"clusters": 5}))
    pair = compressed(network, {"left": SPARSE, "right": shared})
    first = densified(pair.network).layer("left").get_parameter("weight")
    reconstruct(pair, task, TINY, 0, None, Job())
    made = densified(pair.network)
    left, right = (made.layer(name).get_parameter("weight") for name in ("left", "right"))
    assert torch.equal(left == 0, first == 0)
    assert not torch.equal(left, first)
    assert right.unique().numel() <= 5


def test_that_only_the_layers_asked_for_train(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, task = ready(Residual(), (2, 6, 6), tmp_path)
    for trains, moved in (("changed", {"left"}), ("following", {"right"})):
        pair = compressed(network, {"left": SPARSE})
        before = densified(pair.network)
        settings = Reconstruction(samples=64, steps=10, trains=trains)
        reconstruct(pair, task, settings, 0, None, Job())
        after = densified(pair.network)
        found = {
            name
            for name in ("stem", "norm", "left", "right", "head")
            if not torch.equal(
                before.layer(name).get_parameter("weight"),
                after.layer(name).get_parameter("weight"),
            )
        }
        assert found == moved


def test_that_layers_are_compared_where_their_channels_can_be(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, _ = ready(Residual(), (2, 6, 6), tmp_path)
    pair = compressed(network, {"left": CHANNELS})
    stages = {stage.layer: stage for stage in pair.stages("changed")}
    assert stages.keys() == {"left", "right"}
    assert [node.target for node in stages["left"].wanted] == ["right"]
    assert stages["left"].trained == ("left",)
    stem = {stage.layer: stage for stage in compressed(network, {"stem": SPARSE}).stages("both")}
    assert stem["stem"].trained == ("stem", "left", "head")


def test_that_scaled_channels_are_compared_behind_what_undoes_it() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)
    )
    with torch.no_grad():
        module[0].weight[0] *= 20
    pair = compressed(capture(module, (torch.randn(2, 6),)), {"0": EVEN, "2": EVEN})
    places = [[node.target for node in stage.wanted] for stage in pair.stages("changed")]
    assert places == [["2"], ["2"]]


def test_that_what_cannot_be_compared_is_an_error_that_says_so(tmp_path: Path) -> None:
    network, task = ready(Residual(), (2, 6, 6), tmp_path)
    with pytest.raises(UserError, match="No layer that was changed"):
        reconstruct(compressed(network, {}), task, TINY, 0, None, Job())
    last = compressed(network, {"head": SPARSE})
    settings = Reconstruction(samples=64, steps=5, trains="following")
    with pytest.raises(UserError, match="No layer that was changed"):
        reconstruct(last, task, settings, 0, None, Job())


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """A trained network on pictures with a bright corner, opened with labels for the measure."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    labels = np.arange(400) % 4
    images = random.normal(size=(400, 36)).astype(np.float32)
    images[np.arange(400), labels] += 2.5
    module = nn.Sequential(nn.Linear(36, 32), nn.ReLU(), nn.Linear(32, 24), nn.ReLU())
    module.append(nn.Linear(24, 4))
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(80):
        optimizer.zero_grad()
        guessed = module(torch.from_numpy(images[:300]))
        nn.functional.cross_entropy(guessed, torch.from_numpy(labels[:300])).backward()
        optimizer.step()
    write_archive(capture(module, (torch.zeros(2, 36),)), {}, tmp_path / "network.fwz")
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    opened = Session()
    opened.open(Source(path=str(tmp_path / "network.fwz")))
    opened.set_task(TaskSource(data=str(tmp_path / "data.npz")))
    return opened


def recipe(
    reconstruction: Reconstruction | None = None, recovery: FineTuning | None = None
) -> Recipe:
    layers = {"0": SVD, "2": SPARSE}
    return Recipe(layers=layers, reconstruction=reconstruction, recovery=recovery)


def test_that_a_run_wins_back_much_of_what_the_compression_cost(
    session: Session, tmp_path: Path
) -> None:
    plain = session.compress(recipe(), "one", str(tmp_path / "a"), Job())
    all_samples = Reconstruction(samples=300, steps=100, learning_rate=3e-3)
    rebuilt = session.compress(
        recipe(reconstruction=all_samples), "two", str(tmp_path / "b"), Job()
    )
    source, shot, after = (
        result.figures["loss"].value for result in (plain.before, plain.after, rebuilt.after)
    )
    assert shot > source
    assert shot - after > 0.25 * (shot - source)
    assert rebuilt.predicted.parameters == rebuilt.after.figures["parameters"].value


@pytest.mark.parametrize("at", [5, 35, 70], ids=["first", "second", "recovering"])
def test_that_a_cancelled_run_ends_in_the_same_bytes(
    session: Session, tmp_path: Path, at: int
) -> None:
    trained = recipe(reconstruction=TINY, recovery=FineTuning(epochs=1, batch_size=16))
    whole = session.compress(trained, "one", str(tmp_path / "a"), Job())

    def stop(event: Event) -> None:
        if isinstance(event, Point) and event.series == "loss" and event.step >= at:
            job.cancel()

    job = Job(stop)
    with pytest.raises(CancelledError):
        session.compress(trained, "one", str(tmp_path / "b"), job)
    seen: list[Event] = []
    again = session.compress(trained, "one", str(tmp_path / "b"), Job(seen.append))
    files = [tmp_path / name / result.archive for name, result in (("a", whole), ("b", again))]
    assert files[0].read_bytes() == files[1].read_bytes()
    points = [event for event in seen if isinstance(event, Point) and event.series == "loss"]
    assert points[0].step == {5: 1, 35: 31, 70: 71}[at]


def test_that_every_step_is_told_beforehand(session: Session, tmp_path: Path) -> None:
    seen: list[Event] = []
    session.compress(recipe(reconstruction=TINY), "one", str(tmp_path / "a"), Job(seen.append))
    begun = next(event for event in seen if isinstance(event, JobStarted))
    told = [event for event in seen if isinstance(event, Progress)]
    assert told[-1].step == begun.steps
    assert any(event.stage.startswith("Reconstructing 0") for event in told)
    network = read_network(Source(path=str(tmp_path / "network.fwz")))
    pair = compressed(network, {"0": SVD, "2": SPARSE})
    assert begun.steps >= steps_of(TINY, network, pair.chosen) == 60


def test_that_layers_that_lose_weights_gradually_are_left_to_the_recovery(
    session: Session, tmp_path: Path
) -> None:
    gradual = FineTuning(epochs=1, batch_size=16, gradual=0.5)
    both = recipe(reconstruction=TINY, recovery=gradual)
    result = session.compress(both, "one", str(tmp_path / "a"), Job())
    made = densified(read_network(Source(path=str(tmp_path / "a" / result.archive))))
    weight = made.layer("2").get_parameter("weight")
    method = method_of(Setting("magnitude", {"sparsity": 0.8}), "here")
    assert isinstance(method, SparsityMethod)
    assert int((weight != 0).sum()) == method.kept(weight.numel())
    alone = Recipe(layers={"2": SPARSE}, reconstruction=TINY, recovery=gradual)
    with pytest.raises(UserError, match="No layer that was changed"):
        session.compress(alone, "one", str(tmp_path / "b"), Job())


def test_that_a_loss_that_is_no_number_names_the_layer(tmp_path: Path) -> None:
    network, task = ready(Residual(), (2, 6, 6), tmp_path)
    pair = compressed(network, {"left": SPARSE})
    with torch.no_grad():
        pair.network.layer("head").get_parameter("bias").fill_(1.0)
        pair.network.layer("norm").running_var.fill_(torch.nan)
    with pytest.raises(UserError, match="reconstruction of layer left"):
        reconstruct(pair, task, TINY, 0, None, Job())
