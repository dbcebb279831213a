"""Students that begin with their teacher's weights, cut to size by its weakest channels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.errors import UserError
from featherweight.engine.events import Source, TaskSource
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network, capture
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.recovering.starting import started
from featherweight.engine.results import Result
from featherweight.engine.session import Session
from featherweight.engine.task import Task, read_task
from featherweight.engine.trainings import FineTuning
from featherweight.engine.writing.archive import write_archive


class Residual(nn.Module):
    """A convolution, a residual one of the same channels, and a classifier."""

    def __init__(self, width: int, inner: int, last: str = "head") -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.inner = nn.Conv2d(width, inner, 3, padding=1)
        self.outer = nn.Conv2d(inner, width, 1)
        self.last = last
        setattr(self, last, nn.Linear(width * 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        """Return N×4."""
        x = self.norm(self.stem(x)).relu()
        x = nn.functional.avg_pool2d(x + self.outer(self.inner(x).relu()), 3)
        scores: Tensor = getattr(self, self.last)(x.flatten(1))
        return scores


def made(width: int, inner: int, last: str = "head") -> Network:
    torch.manual_seed(width)
    return capture(Residual(width, inner, last), (torch.zeros(2, 1, 6, 6),))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with four kinds of pictures, a teacher trained on them, and a student."""
    folder = tmp_path_factory.mktemp("starting")
    random = np.random.default_rng(0)
    labels = np.arange(192) % 4
    images = random.normal(size=(192, 1, 6, 6)).astype(np.float32)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[0, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3] += 0.8
    np.savez(folder / "data.npz", images=images, labels=labels)
    teacher = made(12, 10)
    optimizer = torch.optim.Adam(teacher.module.parameters(), 0.01)
    teacher.module.train()
    for _ in range(60):
        optimizer.zero_grad()
        scores = teacher.outputs(torch.from_numpy(images))[0]
        nn.functional.cross_entropy(scores, torch.from_numpy(labels)).backward()
        optimizer.step()
    teacher.module.eval()
    write_archive(teacher, {}, folder / "teacher.fwz")
    write_archive(made(8, 6), {}, folder / "student.fwz")
    return folder


def settings(folder: Path, **others: Any) -> FineTuning:
    given: dict[str, Any] = {"teacher": str(folder / "teacher.fwz"), "start": "teacher"}
    return FineTuning(**{**given, "batch_size": 32, **others})


def task_of(network: Network, folder: Path) -> Task:
    return read_task(TaskSource(data=str(folder / "data.npz")), network)


def test_that_a_teacher_of_the_same_size_gives_its_outputs(folder: Path) -> None:
    student = made(12, 10)
    torch.nn.init.normal_(student.module.get_parameter("head.weight"))
    task = task_of(student, folder)
    start = started(student, task, settings(folder))
    before, after = (task.evaluate(network)["top1"].value for network in (student, start))
    assert after > before + 40
    assert start is not student


def test_that_a_wider_teacher_gives_its_strongest_channels(folder: Path) -> None:
    student = made(8, 6)
    before = student.module.get_parameter("stem.weight").clone()
    task = task_of(student, folder)
    start = started(student, task, settings(folder))
    assert torch.equal(student.module.get_parameter("stem.weight"), before)
    teacher = dict(made(12, 10).layers())
    assert {name for name, _ in start.layers()} == set(teacher)
    accuracies = [task.evaluate(network)["top1"].value for network in (student, start)]
    assert accuracies[1] > accuracies[0] + 15
    shapes = [[value.shape for value in n.module.state_dict().values()] for n in (student, start)]
    assert shapes[0] == shapes[1]


def test_that_a_layer_of_another_name_begins_with_its_own_weights(folder: Path) -> None:
    student = made(12, 10, last="other")
    start = started(student, task_of(student, folder), settings(folder))
    own, begun = student.module.state_dict(), start.module.state_dict()
    kept = {name for name, value in own.items() if torch.equal(value, begun[name])}
    assert kept == {"other.weight", "other.bias"}


@pytest.mark.parametrize(
    "others", [{"start": "own"}, {"teacher": ""}, {"epochs": 0}], ids=["own", "no file", "epochs"]
)
def test_that_the_network_stays_where_no_teacher_begins_it(folder: Path, others: Any) -> None:
    student = made(8, 6)
    assert started(student, task_of(student, folder), settings(folder, **others)) is student
    assert started(student, task_of(student, folder), None) is student


def test_that_a_teacher_of_other_layers_is_refused_in_a_sentence(folder: Path) -> None:
    student = capture(nn.Sequential(nn.Flatten(), nn.Linear(36, 4)), (torch.zeros(2, 1, 6, 6),))
    with pytest.raises(UserError, match="No layer of the network has the name and the shape"):
        started(student, task_of(student, folder), settings(folder))


def test_that_a_student_that_starts_from_its_teacher_is_ahead_in_few_epochs(folder: Path) -> None:
    session = Session()
    session.open(Source(path=str(folder / "student.fwz")))
    session.set_task(TaskSource(data=str(folder / "data.npz")))

    def run(start: str, epochs: int) -> Result:
        recovery = settings(folder, start=start, epochs=epochs, distillation=0.5, control="both")
        choice = Choice(precision=Setting("integer"))
        recipe = Recipe(layers={"inner": choice}, recovery=recovery)
        return session.compress(recipe, "made", str(folder / "results"), Job())

    slow, fast = run("own", 3), run("teacher", 1)
    assert fast.after.figures["loss"].value < slow.after.figures["loss"].value
    assert fast.controls[1].curve[0][2] == fast.curve[0][2]
