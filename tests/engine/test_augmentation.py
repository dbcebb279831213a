"""Samples changed at random while a network trains: what changes, by how much, and for whom."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from featherweight.engine.datasets.samples import TensorSamples
from featherweight.engine.errors import UserError
from featherweight.engine.events import Event, Point, Source, TaskSource
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network, capture
from featherweight.engine.recipe import Recipe
from featherweight.engine.recovering.augmenting import Augmented
from featherweight.engine.recovering.fine_tuning import fine_tune
from featherweight.engine.session import Session
from featherweight.engine.task import Task, read_task
from featherweight.engine.trainings import FineTuning
from featherweight.engine.writing.archive import write_archive


def made(inputs: tuple[int, ...] = (1, 6, 6)) -> Network:
    torch.manual_seed(1)
    return capture(
        nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(inputs)), 4)), (torch.zeros(2, *inputs),)
    )


def opened(network: Network, folder: Path) -> Session:
    write_archive(network, {}, folder / "network.fwz")
    session = Session()
    session.open(Source(path=str(folder / "network.fwz")))
    return session


@pytest.fixture
def network() -> Network:
    return made()


@pytest.fixture
def task(tmp_path: Path, network: Network) -> Task:
    images = np.random.default_rng(0).normal(size=(96, 1, 6, 6)).astype(np.float32)
    np.savez(tmp_path / "data.npz", images=images, labels=np.arange(96) % 4)
    return read_task(TaskSource(data=str(tmp_path / "data.npz")), network)


def augmented(kind: Any, x: Tensor, seed: int = 0, step: int = 0) -> Tensor:
    samples = Augmented(TensorSamples((x,)), FineTuning(augmentation=kind), seed)
    samples.step = step
    (changed,), _ = samples.batch(range(len(x)))
    return changed


@given(side=st.integers(2, 24), kind=st.sampled_from(["shift", "flip", "shift and flip"]), seed=...)
def test_that_images_keep_their_place_up_to_an_eighth_and_a_mirror(
    side: int, kind: str, seed: bool
) -> None:
    height, width = side, side + 3
    x = torch.arange(float(height * width)).reshape(1, 1, height, width).repeat(12, 2, 1, 1)
    x[:, 1] += 10_000
    changed = augmented(kind, x, seed=int(seed))
    assert changed.shape == x.shape
    assert torch.equal(changed[:, 1], changed[:, 0] + 10_000)
    for image in changed[:, 0]:
        rows, columns = (image // width).long(), (image % width).long()
        assert torch.equal(rows, rows[:, :1].expand_as(rows))
        moved_rows, moved = rows[:, 0] - torch.arange(height), columns[0]
        mirrored = bool(moved[0] > moved[-1])
        moved_columns = (moved.flip(0) if mirrored else moved) - torch.arange(width)
        assert "flip" in kind or not mirrored
        for moves, size in ((moved_rows, height), (moved_columns, width)):
            assert int(moves.abs().max()) <= ("shift" in kind) * max(1, size // 8)


@pytest.mark.parametrize("kind", ["shift", "flip", "shift and flip", "noise"])
def test_that_chances_differ_by_sample_seed_and_step_and_are_the_same_again(kind: str) -> None:
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)).repeat(32, 1, 1, 1)
    once = augmented(kind, x)
    assert torch.equal(once, augmented(kind, x))
    assert not torch.equal(once, augmented(kind, x, seed=1))
    assert not torch.equal(once, augmented(kind, x, step=1))
    assert len({sample.numpy().tobytes() for sample in once}) > 1


def test_that_noise_is_a_tenth_of_each_samples_own_spread_and_leaves_whole_numbers() -> None:
    x = torch.randn(2, 20_000, generator=torch.Generator().manual_seed(0))
    x[1] *= 100
    added = (augmented("noise", x) - x).std(1)
    assert added[0].item() == pytest.approx(0.1 * x[0].std().item(), rel=0.05)
    assert added[1].item() == pytest.approx(0.1 * x[1].std().item(), rel=0.05)
    numbers = torch.arange(8).reshape(2, 4)
    assert torch.equal(augmented("noise", numbers), numbers)


def test_that_a_teacher_and_the_original_see_the_changed_samples(
    network: Network, task: Task
) -> None:
    unlabelled = replace(task, kind="fidelity")
    for measured, settings in (
        (task, FineTuning(epochs=1, augmentation="shift", distillation=1.0)),
        (unlabelled, FineTuning(epochs=1, augmentation="shift")),
    ):
        told: list[Event] = []
        fine_tune(network.copy(), measured, settings, 0, None, Job(told.append))
        losses = [e.value for e in told if isinstance(e, Point) and e.series == "loss"]
        # The network is its own teacher: what both see alike, they answer alike.
        assert losses
        assert max(losses) < 1e-5


@pytest.mark.parametrize("kind", ["shift", "flip", "shift and flip"])
def test_that_what_is_no_image_is_not_moved_but_told_before_the_run(
    tmp_path: Path, kind: Any
) -> None:
    session, started = opened(made((36,)), tmp_path), list[Event]()
    recipe = Recipe(layers={}, recovery=FineTuning(augmentation=kind))
    with pytest.raises(UserError, match="images, and the network takes none") as told:
        session.compress(recipe, "one", str(tmp_path / "out"), Job(started.append))
    assert "none or to noise" in told.value.hint
    assert not started
    noisy = Recipe(layers={}, recovery=FineTuning(augmentation="noise"))
    assert session.compress(noisy, "one", str(tmp_path / "out"), Job()).curve


def test_that_noise_on_whole_numbers_alone_is_told(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(12, 4))
    words = capture(module, (torch.zeros(2, 3, dtype=torch.int64),))
    recipe = Recipe(layers={}, recovery=FineTuning(augmentation="noise"))
    with pytest.raises(UserError, match="whole numbers only"):
        opened(words, tmp_path).compress(recipe, "one", str(tmp_path / "out"), Job())
