"""A preparation inside a run: before the compression, resumable to the bit, and told as it goes."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from featherweight.engine.errors import CancelledError
from featherweight.engine.events import Event, JobStarted, Point, Progress, Source, TaskSource
from featherweight.engine.jobs import Job
from featherweight.engine.network import capture
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.results import Result
from featherweight.engine.session import Session
from featherweight.engine.trainings import FineTuning, Preparation
from featherweight.engine.writing.archive import write_archive

Way = Literal["biased decay", "l1", "group lasso", "slimming", "l0", "splice"]
SPARSE = Choice(sparsity=Setting("magnitude", {"sparsity": 0.8}))
THIN = Choice(structure=Setting("channel_pruning", {"ratio": 0.5}))
LAYERS = {"0": THIN, "4": SPARSE}
STEPS = 30


@pytest.fixture
def session(tmp_path: Path) -> Session:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)
    )
    write_archive(capture(module, (torch.zeros(2, 1, 6, 6),)), {}, tmp_path / "network.fwz")
    random = np.random.default_rng(0)
    labels = np.arange(240) % 4
    images = random.normal(size=(240, 1, 6, 6)).astype(np.float32)
    images[np.arange(240), 0, labels] += 2.0
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    opened = Session()
    opened.open(Source(path=str(tmp_path / "network.fwz")))
    opened.set_task(TaskSource(data=str(tmp_path / "data.npz")))
    return opened


class Watching:
    """Collects the events of a job, and cancels it after a step of the training."""

    def __init__(self, cancel_at: int | None = None) -> None:
        self.events: list[Event] = []
        self.cancel_at = cancel_at
        self.job = Job(self.take)

    def take(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Point) and event.series == "loss" and event.step == self.cancel_at:
            self.job.cancel()

    def steps(self, series: str) -> list[int]:
        return [e.step for e in self.events if isinstance(e, Point) and e.series == series]


def run(session: Session, way: Way, folder: Path, job: Job | None = None) -> Result:
    recipe = Recipe(
        layers=LAYERS,
        preparation=Preparation(way=way, epochs=3, learning_rate=0.02, batch_size=16),
        recovery=FineTuning(epochs=1, learning_rate=0.01, batch_size=16),
    )
    return session.compress(recipe, "one", str(folder), job or Job())


@pytest.mark.parametrize("at", [9, 27], ids=["while it leads", "once chosen"])
@pytest.mark.parametrize("way", ["biased decay", "l1", "group lasso", "slimming", "l0", "splice"])
def test_that_a_cancelled_run_ends_in_the_same_bytes(
    session: Session, tmp_path: Path, way: Way, at: int
) -> None:
    whole = run(session, way, tmp_path / "a")
    with pytest.raises(CancelledError):
        run(session, way, tmp_path / "b", Watching(at).job)
    watching = Watching()
    again = run(session, way, tmp_path / "b", watching.job)
    assert watching.steps("loss")[0] == at + 1
    files = [tmp_path / name / result.archive for name, result in (("a", whole), ("b", again))]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert again.curve == whole.curve


def test_that_its_steps_are_told_beforehand_and_come_before_those_of_the_recovery(
    session: Session, tmp_path: Path
) -> None:
    watching = Watching()
    run(session, "l0", tmp_path, watching.job)
    started = next(e for e in watching.events if isinstance(e, JobStarted))
    told = [e for e in watching.events if isinstance(e, Progress)]
    assert told[-1].step == told[-1].steps == started.steps
    losses = watching.steps("loss")
    # Three epochs of the preparation and one of the recovery.
    assert losses == sorted(set(losses))
    assert losses[-1] == STEPS + STEPS // 3
    assert STEPS in watching.steps("density")
    assert watching.steps("accuracy") == sorted(watching.steps("accuracy"))


def test_that_the_result_is_as_small_as_was_predicted_and_the_original_is_what_was_before(
    session: Session, tmp_path: Path
) -> None:
    with_it = run(session, "l0", tmp_path)
    without = session.compress(Recipe(layers=LAYERS), "two", str(tmp_path), Job())
    assert with_it.identity != without.identity
    assert with_it.before.figures["top1"] == without.before.figures["top1"]
    assert with_it.predicted == without.predicted
    for name in ("parameters", "macs"):
        assert with_it.after.figures[name].value == without.after.figures[name].value
    assert with_it.predicted.parameters == with_it.after.figures["parameters"].value
