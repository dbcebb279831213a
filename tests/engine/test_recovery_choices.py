"""What decides over a recovery: samples held out and a person; and what its charts tell."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.errors import CancelledError, UserError
from featherweight.engine.events import Event, Point, Progress, Source, TaskSource
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network, capture
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.recovering.fine_tuning import fine_tune, steps_of
from featherweight.engine.recovering.gradual import Ramp
from featherweight.engine.results import Result
from featherweight.engine.session import Session
from featherweight.engine.task import Task, read_task
from featherweight.engine.trainings import FineTuning
from featherweight.engine.weight_forms import CompactLayer
from featherweight.engine.writing.archive import write_archive

SPARSE = Setting("magnitude", {"sparsity": 0.8})
INTEGERS = Setting("integer", {"bits": 4})
ALL_ON: dict[str, Any] = {
    "epochs": 4,
    "batch_size": 16,
    "learning_rate": 0.05,
    "augmentation": "shift and flip",
    "held_out": 0.25,
    "keep": "best",
}


def made(inputs: tuple[int, ...] = (1, 6, 6)) -> Network:
    torch.manual_seed(1)
    numbers = int(np.prod(inputs))
    module = nn.Sequential(nn.Flatten(), nn.Linear(numbers, 16), nn.ReLU(), nn.Linear(16, 4))
    return capture(module, (torch.zeros(2, *inputs),))


def data(folder: Path, samples: int = 160, signal: float = 2.0) -> TaskSource:
    random = np.random.default_rng(0)
    labels = np.arange(samples) % 4
    images = random.normal(size=(samples, 1, 6, 6)).astype(np.float32)
    for image, label in zip(images, labels, strict=True):
        image[0, 1 + label] += signal
    np.savez(folder / "data.npz", images=images, labels=labels)
    return TaskSource(data=str(folder / "data.npz"))


@pytest.fixture
def network() -> Network:
    return made()


@pytest.fixture
def task(tmp_path: Path, network: Network) -> Task:
    return read_task(data(tmp_path), network)


@pytest.fixture
def session(tmp_path: Path, network: Network) -> Session:
    write_archive(network, {}, tmp_path / "network.fwz")
    opened = Session()
    opened.open(Source(path=str(tmp_path / "network.fwz")))
    opened.set_task(data(tmp_path))
    return opened


def run(session: Session, folder: Path, job: Job | None = None, **recovery: Any) -> Result:
    choice = Choice(sparsity=SPARSE, precision=INTEGERS)
    recipe = Recipe(layers={"1": choice}, recovery=FineTuning(**recovery))
    return session.compress(recipe, "one", str(folder), job or Job())


def weights_of(network: Network) -> list[Tensor]:
    return [value.clone() for value in network.module.state_dict().values()]


class Watching:
    """Collects points, and does something to the job before the step after `at`."""

    def __init__(self, at: int = -1, do: str = "cancel") -> None:
        self.points: dict[str, list[Point]] = {}
        self.progress: list[Progress] = []
        self.at, self.do = at, do
        self.job = Job(self.take)

    def take(self, event: Event) -> None:
        if isinstance(event, Progress):
            self.progress.append(event)
        if isinstance(event, Point):
            self.points.setdefault(event.series, []).append(event)
            if event.series == "loss" and event.step == self.at:
                getattr(self.job, self.do)()

    def values(self, series: str) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in self.points.get(series, ())]


# What is held out


def test_that_samples_held_out_are_not_trained_on(tmp_path: Path, network: Network) -> None:
    task = read_task(data(tmp_path), network)
    seen: set[bytes] = set()
    recovery = task.recovery

    class Watched:
        def __len__(self) -> int:
            return len(recovery)

        def batch(self, indices: Any) -> Any:
            inputs, labels = recovery.batch(indices)
            if network.module.training:
                seen.update(sample.numpy().tobytes() for sample in inputs[0])
            return inputs, labels

    watched = replace(task, dataset=replace(task.dataset, recovery=Watched()))
    settings = FineTuning(epochs=6, held_out=0.3, batch_size=10)
    fine_tune(network, watched, settings, 0, None, Job())
    count = len(recovery)
    assert count - round(0.3 * count) - 9 <= len(seen) <= count - round(0.3 * count)


@pytest.mark.parametrize(("held_out", "left"), [(0.0, 107), (0.5, 53), (0.001, 106)])
def test_that_steps_are_told_beforehand_for_what_is_left(
    network: Network, task: Task, held_out: float, left: int
) -> None:
    assert len(task.recovery) == 107
    settings = FineTuning(epochs=2, batch_size=5, held_out=held_out)
    watching = Watching()
    watching.job.begin(steps_of(settings, task))
    fine_tune(network, task, settings, 0, None, watching.job)
    assert watching.progress[-1].step == watching.progress[-1].steps == 2 * (left // 5)


def test_that_the_best_weights_are_put_in_and_stand_as_they_did(
    network: Network, task: Task
) -> None:
    # A rate this high loses again what it had found.
    settings = FineTuning(**ALL_ON | {"learning_rate": 1.5, "schedule": "constant"})
    watching = Watching()
    curve = fine_tune(network, task, settings, 0, None, watching.job)
    held = dict(watching.values("held"))
    best = max(held.values())
    assert held[curve[-1][0]] < best
    (loss, accuracy), last = task.standing(network, limit=400), curve[-1]
    kept = [point for point in curve if held[point[0]] == best]
    assert (loss, accuracy) != (last[1], last[2])
    assert any((loss, accuracy) == (point[1], point[2]) for point in kept)


def test_that_patience_ends_a_training_early_and_the_job_jumps_to_its_end(
    network: Network, task: Task
) -> None:
    settings = FineTuning(
        epochs=50, batch_size=16, held_out=0.3, patience=2, learning_rate=1.5, schedule="constant"
    )
    watching = Watching()
    watching.job.begin(steps_of(settings, task))
    curve = fine_tune(network, task, settings, 0, None, watching.job)
    each = steps_of(settings, task) // 50
    ended, held = curve[-1][0], watching.values("held")
    best = max(value for _, value in held)
    assert ended < 50 * each
    assert all(value <= best for step, value in held if step > ended - 2 * each)
    last = watching.progress[-1]
    assert last.step == last.steps
    assert last.stage == f"Recovering, ended at step {ended} of {50 * each}"


@pytest.mark.parametrize("asked", [{"keep": "best"}, {"patience": 1}])
def test_that_to_decide_by_what_is_held_out_something_must_be(
    session: Session, tmp_path: Path, asked: dict[str, Any]
) -> None:
    started: list[Event] = []
    with pytest.raises(UserError, match="no samples are held out") as told:
        run(session, tmp_path / "out", Job(started.append), **asked)
    assert "Hold out a share of the recovery data" in told.value.hint
    assert not started


def test_that_only_weights_with_all_gone_may_be_the_best(session: Session, tmp_path: Path) -> None:
    result = run(session, tmp_path / "out", **ALL_ON | {"gradual": 0.5, "learning_rate": 1e-7})
    layer = read_network(Source(path=str(tmp_path / "out" / result.archive))).layer("1")
    assert isinstance(layer, CompactLayer)
    weight = layer.weights()["weight"]
    # Before the end of the ramp none are zero; a rate of next to nothing makes no later one better.
    assert int((weight != 0).sum()) <= math.ceil(0.2 * weight.numel())


# Resuming, and ending by hand


@pytest.mark.parametrize("at", [1, 7, 11, 16, 19])
@pytest.mark.parametrize("gradual", [0.0, 0.4])
def test_that_a_run_with_all_of_it_resumes_to_the_same_bytes(
    session: Session, tmp_path: Path, gradual: float, at: int
) -> None:
    settings = ALL_ON | {"gradual": gradual, "patience": 3}
    undisturbed = Watching()
    whole = run(session, tmp_path / "a", undisturbed.job, **settings)
    first, second = Watching(at), Watching()
    with pytest.raises(CancelledError):
        run(session, tmp_path / "b", first.job, **settings)
    again = run(session, tmp_path / "b", second.job, **settings)
    assert second.values("loss")[0][0] == at + 1
    for series in ("accuracy", "held", "bits", "density"):
        assert second.values(series) == undisturbed.values(series)
    assert again.curve == whole.curve
    files = [tmp_path / name / whole.archive for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("at", [2, 9, 14, 18], ids=["ramp", "masks", "grid", "late"])
def test_that_a_run_told_to_finish_has_all_masks_and_precisions(
    session: Session, tmp_path: Path, at: int
) -> None:
    watching = Watching(at, "finish")
    result = run(session, tmp_path / "out", watching.job, **ALL_ON | {"gradual": 0.4})
    assert result.curve[-1][0] == at
    assert watching.values("loss")[-1][0] == at
    assert watching.progress[-1].step == watching.progress[-1].steps
    layer = read_network(Source(path=str(tmp_path / "out" / result.archive))).layer("1")
    assert isinstance(layer, CompactLayer)
    weight = layer.weights()["weight"]
    assert int((weight != 0).sum()) <= math.ceil(0.2 * weight.numel())
    assert max(row.unique().numel() for row in weight) <= 16


def test_that_a_run_finished_by_hand_is_whole_the_next_time(
    network: Network, task: Task, tmp_path: Path
) -> None:
    settings = FineTuning(**ALL_ON)
    whole, ended, again = network.copy(), network.copy(), network.copy()
    curve = fine_tune(whole, task, settings, 0, tmp_path / "a", Job())
    fine_tune(ended, task, settings, 0, tmp_path / "b", Watching(7, "finish").job)
    assert fine_tune(again, task, settings, 0, tmp_path / "b", Job()) == curve
    assert all(map(torch.equal, weights_of(whole), weights_of(again)))
    assert not all(map(torch.equal, weights_of(whole), weights_of(ended)))


def test_that_a_run_cancelled_while_it_finishes_goes_on_from_before(
    session: Session, tmp_path: Path
) -> None:
    settings = ALL_ON | {"gradual": 0.4}
    whole = run(session, tmp_path / "a", **settings)

    def stop(event: Event) -> None:
        if isinstance(event, Point) and event.series == "loss" and event.step == 7:
            job.finish()
        if isinstance(event, Point) and event.series == "bits" and event.step == 7:
            job.cancel()

    job = Job(stop)
    with pytest.raises(CancelledError):
        run(session, tmp_path / "b", job, **settings)
    again = run(session, tmp_path / "b", **settings)
    assert again.curve == whole.curve
    files = [tmp_path / name / whole.archive for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_that_losses_do_not_jump_where_precisions_come_and_momentum_begins_anew(
    session: Session, tmp_path: Path
) -> None:
    watching = Watching()
    choice = Choice(sparsity=SPARSE, precision=Setting("integer", {"bits": 8}))
    recovery = FineTuning(epochs=12, batch_size=16, momentum=0.95, gradual=0.4, schedule="constant")
    recipe = Recipe(layers={"1": choice}, recovery=recovery)
    session.compress(recipe, "one", str(tmp_path / "out"), watching.job)
    losses = [value for _, value in watching.values("loss")]
    switch = Ramp(len(losses), 0.4).switch
    before, after = losses[switch - 10 : switch], losses[switch : switch + 10]
    assert sum(after) < 1.2 * sum(before)


def test_that_a_recovery_told_to_finish_before_it_began_takes_no_step(
    session: Session, tmp_path: Path
) -> None:
    watching = Watching()
    watching.job.finish()
    result = run(session, tmp_path / "out", watching.job, epochs=2, batch_size=16)
    assert not watching.values("loss")
    assert [step for step, _, _ in result.curve] == [0]


# Points of charts


def test_that_the_rate_is_told_with_every_loss_and_falls(network: Network, task: Task) -> None:
    watching = Watching()
    fine_tune(network, task, FineTuning(epochs=2, batch_size=16), 0, None, watching.job)
    rates = [value for _, value in watching.values("rate")]
    assert rates[0] == 0.01
    assert rates == sorted(rates, reverse=True)
    assert [s for s, _ in watching.values("rate")] == [s for s, _ in watching.values("loss")]


def test_that_bits_and_density_fall_to_those_of_the_result(
    session: Session, tmp_path: Path
) -> None:
    watching = Watching()
    result = run(session, tmp_path / "out", watching.job, epochs=4, batch_size=16, gradual=0.5)
    bits, density = (
        [value for _, value in watching.values(series)] for series in ("bits", "density")
    )
    assert density[0] == 1.0
    assert density == sorted(density, reverse=True)
    assert bits[0] == 32 * (36 * 16 + 16 + 16 * 4 + 4)
    scales = sum(entry.scales for entry in result.ledger.entries)
    assert bits[-1] == 4 * 36 * 16 + scales + 32 * (16 + 16 * 4 + 4)
    weight = read_network(Source(path=str(tmp_path / "out" / result.archive))).layer("1")
    assert isinstance(weight, CompactLayer)
    filled = int((weight.weights()["weight"] != 0).sum()) + 16 * 4
    assert density[-1] == pytest.approx(filled / (36 * 16 + 16 * 4))
