"""Distillation of maps, sequences, numbers and embeddings, and of the last hidden layer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from featherweight.engine.errors import UserError
from featherweight.engine.events import Source, TaskSource
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network, capture
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.recovering.fine_tuning import fine_tune
from featherweight.engine.recovering.losses import (
    channel_loss,
    form_loss,
    relation_loss,
    soft_loss,
)
from featherweight.engine.session import Session
from featherweight.engine.task import Task, read_task
from featherweight.engine.trainings import FineTuning
from featherweight.engine.writing.archive import write_archive

SETTINGS: dict[str, Any] = {"epochs": 8, "optimizer": "adamw", "batch_size": 16}
SHAPES = {"map": (2, 6, 6), "sequence": (5, 6), "number": (6,), "embedding": (6,)}


class Steps(nn.Module):
    """A class for every step of a sequence."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.GRU(6, width, batch_first=True)
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return N×T×4."""
        scores: Tensor = self.head(self.body(x)[0])
        return scores


def made(kind: str, width: int, seed: int) -> Network:
    torch.manual_seed(seed)
    module: nn.Module
    if kind == "map":
        inner = nn.Conv2d(2, width, 3, padding=1), nn.ReLU()
        module = nn.Sequential(*inner, nn.Conv2d(width, 3, 3, padding=1))
    elif kind == "sequence":
        module = Steps(width)
    else:
        outputs = 1 if kind == "number" else 5
        module = nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, outputs))
    return capture(module, (torch.zeros(2, *SHAPES[kind]),))


def task_of(kind: str, network: Network, folder: Path, labels: bool = False) -> Task:
    inputs = np.random.default_rng(0).normal(size=(96, *SHAPES[kind])).astype(np.float32)
    given = {"labels": np.arange(96) % 5} if labels else {}
    np.savez(folder / "data.npz", images=inputs, **given)
    return read_task(TaskSource(data=str(folder / "data.npz")), network)


def outputs_of(network: Network, task: Task) -> Tensor:
    with torch.no_grad():
        return network.outputs(*task.recovery.batch(range(len(task.recovery)))[0])[0]


def error(student: Network, teacher: Network, task: Task) -> float:
    own, wanted = outputs_of(student, task), outputs_of(teacher, task)
    return float(((own - wanted) ** 2).sum() / (wanted**2).sum())


@pytest.mark.parametrize(
    ("kind", "hidden"),
    [
        ("map", "none"),
        ("number", "none"),
        ("sequence", "relations"),
        ("embedding", "representation"),
    ],
)
def test_that_a_wider_teacher_without_labels_teaches_every_kind_of_output(
    kind: str, hidden: Any, tmp_path: Path
) -> None:
    student, teacher = made(kind, 8, 1), made(kind, 12, 2)
    task = task_of(kind, student.copy(), tmp_path)
    write_archive(teacher, {}, tmp_path / "teacher.fwz")
    settings = FineTuning(
        **SETTINGS,
        distillation=0.5,
        hidden=hidden,
        hidden_weight=0.2,
        teacher=str(tmp_path / "teacher.fwz"),
        temperature=1.0,
    )
    before = error(student, teacher, task)
    fine_tune(student, task, settings, 0, None, Job())
    assert error(student, teacher, task) < 0.6 * before


def explained(student: Network, teacher: Network, task: Task) -> float:
    """Return the share of the teacher's features that a linear map of the student's tells."""
    hidden = []
    inputs = task.recovery.batch(range(len(task.recovery)))[0][0]
    for network in (student, teacher):
        with torch.no_grad():
            hidden.append(functional.relu(network.layer("0")(inputs)))
    mapped = hidden[0] @ torch.linalg.lstsq(hidden[0], hidden[1]).solution
    return 1 - float(((mapped - hidden[1]) ** 2).sum() / (hidden[1] ** 2).sum())


def test_that_a_hidden_layer_comes_to_tell_what_the_teachers_tells(tmp_path: Path) -> None:
    teacher = made("embedding", 12, 2)
    write_archive(teacher, {}, tmp_path / "teacher.fwz")
    found = []
    for hidden in ("none", "representation"):
        student = made("embedding", 6, 1)
        task = task_of("embedding", student.copy(), tmp_path, labels=True)
        settings = FineTuning(
            **SETTINGS,
            learning_rate=0.02,
            hidden=hidden,
            hidden_weight=10.0,
            teacher=str(tmp_path / "teacher.fwz"),
        )
        fine_tune(student, task, settings, 0, None, Job())
        found.append(explained(student, teacher, task))
    assert found[1] > found[0] + 0.05


def test_that_samples_of_an_embedding_come_to_lie_as_the_teachers_do(tmp_path: Path) -> None:
    student, teacher = made("embedding", 8, 1), made("embedding", 12, 2)
    task = task_of("embedding", student.copy(), tmp_path)
    write_archive(teacher, {}, tmp_path / "teacher.fwz")
    before = relation_loss(outputs_of(student, task), outputs_of(teacher, task))
    settings = FineTuning(**SETTINGS, hidden="relations", teacher=str(tmp_path / "teacher.fwz"))
    fine_tune(student, task, settings, 0, None, Job())
    after = relation_loss(outputs_of(student, task), outputs_of(teacher, task))
    assert after < 0.7 * before


@pytest.mark.parametrize("hidden", ["representation", "relations"])
def test_that_compressed_last_layers_and_pruned_channels_are_compared(
    hidden: Any, tmp_path: Path
) -> None:
    network = made("map", 8, 1)
    write_archive(network, {}, tmp_path / "network.fwz")
    task_of("map", network, tmp_path)
    session = Session()
    session.open(Source(path=str(tmp_path / "network.fwz")))
    session.set_task(TaskSource(data=str(tmp_path / "data.npz")))
    layers = {
        "0": Choice(structure=Setting("channel_pruning", {"ratio": 0.5})),
        "2": Choice(structure=Setting("tucker"), precision=Setting("integer")),
    }
    errors = []
    for epochs in (0, 8):
        recovery = FineTuning(**{**SETTINGS, "epochs": epochs}, hidden=hidden)
        recipe = Recipe(layers=layers, recovery=recovery)
        errors.append(session.compress(recipe, "made", str(tmp_path), Job()).after.figures["snr"])
    assert errors[1].value > errors[0].value + 1


@pytest.mark.parametrize("hidden", ["outputs", "representation", "relations"])
def test_that_hidden_layers_are_compared_in_bfloat16_too(hidden: Any, tmp_path: Path) -> None:
    student, teacher = made("number", 8, 1), made("number", 8, 2)
    task = task_of("number", student.copy(), tmp_path)
    write_archive(teacher, {}, tmp_path / "teacher.fwz")
    settings = FineTuning(
        **SETTINGS, hidden=hidden, teacher=str(tmp_path / "teacher.fwz"), arithmetic="bfloat16"
    )
    before = error(student, teacher, task)
    fine_tune(student, task, settings, 0, None, Job())
    assert error(student, teacher, task) < 0.7 * before


def test_that_a_network_of_one_layer_has_nothing_hidden(tmp_path: Path) -> None:
    network = capture(nn.Sequential(nn.Linear(6, 5)), (torch.zeros(2, 6),))
    task = task_of("embedding", network, tmp_path, labels=True)
    for hidden in ("representation", "relations"):
        with pytest.raises(UserError, match="no hidden layer that could be compared"):
            fine_tune(network.copy(), task, FineTuning(hidden=hidden), 0, None, Job())


def test_that_one_sample_a_step_has_no_relations(tmp_path: Path) -> None:
    network = made("embedding", 4, 1)
    task = task_of("embedding", network, tmp_path)
    with pytest.raises(UserError, match="a step of this training takes one") as told:
        fine_tune(
            network.copy(), task, FineTuning(hidden="relations", batch_size=1), 0, None, Job()
        )
    assert "Raise the batch size" in told.value.hint


def test_that_losses_of_form_are_what_they_are_by_hand() -> None:
    own, wanted = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    maps = torch.stack([own, own], 1)[..., None], torch.stack([wanted, own], 1)[..., None]
    of_one = soft_loss(own, wanted, 2.0).item()
    assert channel_loss(*maps, 2.0).item() == pytest.approx(of_one / 2)
    assert form_loss(*maps, 2.0).item() == pytest.approx(of_one / 2)
    steps = torch.stack([own, own], 1), torch.stack([wanted, own], 1)
    assert form_loss(*steps, 2.0).item() == pytest.approx(of_one / 2)
    assert form_loss(own, wanted, 2.0).item() == pytest.approx(1.0)
    chances = own.softmax(1), wanted.softmax(1)
    assert form_loss(*chances, 2.0).item() == pytest.approx(of_one, rel=1e-5)
    assert form_loss(own[:, :1], wanted[:, :1], 2.0).item() == 0.0


def test_that_relations_are_what_they_are_by_hand() -> None:
    corner = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    even = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]])
    lengths = np.array([1.0, 1.0, 2**0.5])
    distances = float((0.5 * (lengths / lengths.mean() - 1) ** 2).mean())
    # Cosines at every corner: 0 and 1/√2 against 1/2; each stands twice in the 3×3×3 of them.
    angles = 2 * 0.5 * ((0 - 0.5) ** 2 + 2 * (0.5**0.5 - 0.5) ** 2) / 27
    assert relation_loss(corner, even).item() == pytest.approx(distances + 2 * angles, rel=1e-4)


@given(st.integers(0, 10_000), st.floats(0.1, 30.0))
def test_that_relations_do_not_see_a_turned_scaled_and_moved_copy(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(9, 4, generator=generator)
    turn = torch.linalg.qr(torch.randn(6, 4, generator=generator)).Q
    other = scale * features @ turn.T + torch.randn(6, generator=generator)
    assert relation_loss(features, other).item() < 1e-6
    assert relation_loss(features, features**3).item() > 1e-3


def test_that_equal_samples_give_relations_gradients_that_are_numbers() -> None:
    features = torch.zeros(6, 4, requires_grad=True)
    relation_loss(features, torch.randn(6, 3)).backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
