"""Distillation: soft targets, other teachers, hidden layers, and data without labels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.errors import CancelledError, UserError
from featherweight.engine.events import Event, Point, Source, TaskSource
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network, Origin, capture
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.recovering.fine_tuning import fine_tune
from featherweight.engine.recovering.losses import attention_loss, relative_error, soft_loss
from featherweight.engine.session import Session
from featherweight.engine.task import Task, read_task
from featherweight.engine.trainings import FineTuning
from featherweight.engine.writing.archive import write_archive

SETTINGS: dict[str, Any] = {"epochs": 6, "learning_rate": 0.01, "batch_size": 16}


def made(seed: int, classes: int = 4) -> Network:
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, classes)
    )
    for _ in range(3):
        module(torch.randn(64, 1, 6, 6) * 2)
    return capture(module, (torch.zeros(2, 1, 6, 6),))


@pytest.fixture
def network() -> Network:
    return made(1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    labels = np.arange(128) % 4
    images = random.normal(size=(128, 1, 6, 6)).astype(np.float32)
    images += labels[:, None, None, None].astype(np.float32)
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    np.savez(tmp_path / "bare.npz", images=images)
    return tmp_path / "data.npz"


@pytest.fixture
def task(data: Path, network: Network) -> Task:
    return read_task(TaskSource(data=str(data)), network)


def hurt(network: Network) -> Network:
    """Return a copy whose weights were disturbed."""
    worse = network.copy()
    torch.manual_seed(3)
    with torch.no_grad():
        for value in worse.module.parameters():
            value.add_(0.2 * torch.randn_like(value))
    return worse


def distance(one: Network, other: Network, task: Task) -> float:
    inputs, _ = task.measure.batch(range(len(task.measure)))
    with torch.no_grad():
        pair = one.outputs(*inputs)[0], other.outputs(*inputs)[0]
    return float(((pair[0] - pair[1]) ** 2).mean())


@pytest.mark.parametrize("hidden", ["none", "outputs", "attention"])
def test_that_unlabelled_data_brings_a_network_nearer_to_its_teacher(
    network: Network, data: Path, hidden: Any
) -> None:
    task = read_task(TaskSource(data=str(data.with_name("bare.npz"))), network)
    settings = FineTuning(**SETTINGS, distillation=0.5, hidden=hidden)
    student = hurt(network)
    before = distance(student, network, task)
    fine_tune(student, task, settings, 0, None, Job())
    assert distance(student, network, task) < 0.5 * before


def test_that_soft_targets_alone_ignore_the_labels(network: Network, task: Task) -> None:
    students = [hurt(network), hurt(network)]
    soft = FineTuning(**SETTINGS, distillation=1.0)
    for student, settings in zip(students, (soft, FineTuning(**SETTINGS)), strict=True):
        fine_tune(student, task, settings, 0, None, Job())
    near, far = (distance(student, network, task) for student in students)
    assert near < 0.5 * far


@pytest.mark.parametrize("beside", [False, True])
def test_that_another_network_teaches_from_its_archive(
    network: Network, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: bool
) -> None:
    other = made(9)
    write_archive(other, {}, tmp_path / "other.fwz")
    monkeypatch.setattr(task.reference, "origin", Origin(str(tmp_path / "network.pt2")))
    named = "other.fwz" if beside else str(tmp_path / "other.fwz")
    settings = FineTuning(**SETTINGS, distillation=1.0, teacher=named)
    student = hurt(network)
    before = distance(student, other, task)
    fine_tune(student, task, settings, 0, None, Job())
    assert distance(student, other, task) < 0.7 * before


def test_that_a_teacher_of_other_outputs_is_refused_in_a_sentence(
    network: Network, task: Task, tmp_path: Path
) -> None:
    write_archive(made(9, classes=7), {}, tmp_path / "other.fwz")
    settings = FineTuning(**SETTINGS, distillation=1.0, teacher=str(tmp_path / "other.fwz"))
    with pytest.raises(UserError, match="gives 7 for a sample, and the network gives 4"):
        fine_tune(network.copy(), task, settings, 0, None, Job())


def test_that_a_teacher_that_is_not_there_is_told_by_its_path(network: Network, task: Task) -> None:
    settings = FineTuning(**SETTINGS, distillation=1.0, teacher="nowhere.fwz")
    with pytest.raises(UserError, match=r"nowhere\.fwz cannot be read"):
        fine_tune(network.copy(), task, settings, 0, None, Job())


@pytest.mark.parametrize("hidden", ["none", "outputs", "representation", "relations"])
def test_that_a_cancelled_distillation_resumes_to_the_same_bits(
    network: Network, task: Task, tmp_path: Path, hidden: Any
) -> None:
    settings = FineTuning(**SETTINGS, distillation=0.7, hidden=hidden)
    whole, broken, resumed = (hurt(network) for _ in range(3))
    curve = fine_tune(whole, task, settings, 0, tmp_path / "a", Job())
    job = Job(lambda event: stop_after(event, 5, job))
    with pytest.raises(CancelledError):
        fine_tune(broken, task, settings, 0, tmp_path / "b", job)
    assert fine_tune(resumed, task, settings, 0, tmp_path / "b", Job()) == curve
    theirs = resumed.module.state_dict()
    assert all(torch.equal(v, theirs[name]) for name, v in whole.module.state_dict().items())


def stop_after(event: Event, steps: int, job: Job) -> None:
    if isinstance(event, Point) and event.series == "loss" and event.step >= steps:
        job.cancel()


def test_that_batch_norms_are_measured_again_without_training_where_asked(
    network: Network, data: Path, tmp_path: Path
) -> None:
    write_archive(network, {}, tmp_path / "network.fwz")
    session = Session()
    session.open(Source(path=str(tmp_path / "network.fwz")))
    session.set_task(TaskSource(data=str(data)))
    choice = Choice(precision=Setting("binary"))
    errors = []
    for norms in (False, True):
        recovery = FineTuning(epochs=0, norms=norms)
        recipe = Recipe(layers={"0": choice}, recovery=recovery)
        result = session.compress(recipe, "one", str(tmp_path), Job())
        errors.append(result.after.figures["loss"].value)
    assert errors[1] != errors[0]


def test_that_statistics_are_those_of_the_samples(network: Network, task: Task) -> None:
    student = hurt(network)
    fine_tune(student, task, FineTuning(epochs=0, norms=True), 0, None, Job())
    inputs, _ = task.recovery.batch(range(len(task.recovery)))
    with torch.no_grad():
        seen: Tensor = student.layer("0")(*inputs)
    mean = student.module.get_buffer("1.running_mean")
    assert torch.allclose(mean, seen.mean((0, 2, 3)), atol=0.05)


def test_that_norms_behind_unchanged_layers_keep_their_statistics(
    network: Network, task: Task
) -> None:
    same = network.copy()
    fine_tune(same, task, FineTuning(epochs=0, norms=True), 0, None, Job())
    before = network.module.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in same.module.state_dict().items())


def test_that_losses_are_what_they_are_by_hand() -> None:
    own, wanted = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    p = torch.tensor([1.0, np.e]) / (1 + np.e)
    q = p.flip(0)
    assert soft_loss(own, wanted, 2.0).item() == pytest.approx(4 * float((p * (p / q).log()).sum()))
    assert relative_error(own, wanted).item() == pytest.approx(2.0)
    maps = torch.zeros(1, 2, 1, 2)
    maps[0, :, 0, 0] = torch.tensor([3.0, 4.0])
    assert attention_loss(maps, 7 * maps).item() == pytest.approx(0.0, abs=1e-9)
    assert attention_loss(maps, maps.flip(3)).item() == pytest.approx(2.0)


def test_that_every_position_of_a_map_counts_alike() -> None:
    target = torch.ones(1, 2, 1, 2)
    target[..., 1] = 10.0
    assert relative_error(target * 1.1, target).item() == pytest.approx(0.01, rel=1e-3)
    near, far = target.clone(), target.clone()
    near[..., 0] += 0.5
    far[..., 1] += 5.0
    assert relative_error(near, target).item() == pytest.approx(relative_error(far, target).item())
