"""Controls: trained beside a recovery, as long and by the same settings, and told with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featherweight.engine.errors import CancelledError
from featherweight.engine.events import Event, JobStarted, Point, Progress, Source, TaskSource
from featherweight.engine.jobs import Job
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.recovering.fine_tuning import steps_of
from featherweight.engine.results import Result
from featherweight.engine.session import Session
from featherweight.engine.task import read_task
from featherweight.engine.terminal import Terminal
from featherweight.engine.trainings import FineTuning

TAUGHT: dict[str, Any] = {
    "epochs": 2,
    "learning_rate": 0.02,
    "batch_size": 32,
    "distillation": 0.8,
    "hidden": "representation",
}
CHOICE = Choice(sparsity=Setting("magnitude", {"sparsity": 0.9}), precision=Setting("integer"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("source")


@pytest.fixture(scope="module")
def session(home: Path, trained_session: Callable[..., Session]) -> Session:
    torch.manual_seed(0)
    inputs = torch.randn(256, 48)
    labels = (inputs @ torch.randn(48, 4) + torch.randn(256, 4)).argmax(1)
    return trained_session(home, inputs, labels)


class Watching:
    """Collects the events of a job, and asks something of it at the first point of a series."""

    def __init__(self, series: str = "", ask: Callable[[Job], None] = Job.cancel) -> None:
        self.events: list[Event] = []
        self._series, self._ask = series, ask
        self.job = Job(self.take)

    def take(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Point) and event.series == self._series and event.step:
            self._ask(self.job)

    def points(self, series: str) -> list[tuple[int, float]]:
        found = [event for event in self.events if isinstance(event, Point)]
        return [(event.step, event.value) for event in found if event.series == series]

    @property
    def told_steps(self) -> tuple[int, int]:
        """The steps that were told beforehand, and those that were taken."""
        before = [event.steps for event in self.events if isinstance(event, JobStarted)]
        taken = [event.step for event in self.events if isinstance(event, Progress)]
        return before[-1], taken[-1]


def recipe_of(control: Any, choice: Choice = CHOICE, **settings: Any) -> Recipe:
    recovery = FineTuning(**{**TAUGHT, **settings}, control=control)
    return Recipe(layers={"0": choice}, recovery=recovery, seed=3)


def compressed(session: Session, recipe: Recipe, folder: Path, job: Job | None = None) -> Result:
    return session.compress(recipe, "made", str(folder), job or Job())


def test_that_controls_are_what_the_same_training_gives_by_itself(
    session: Session, tmp_path: Path
) -> None:
    watching = Watching()
    result = compressed(session, recipe_of("both"), tmp_path, watching.job)
    dense, hard = result.controls
    assert (dense.kind, hard.kind) == ("dense", "hard labels")
    bare = {"distillation": 0.0, "hidden": "none"}
    alone = compressed(session, recipe_of("none", **bare), tmp_path)
    assert hard.curve == alone.curve
    assert hard.figures["loss"] == alone.after.figures["loss"]
    nothing = Recipe(recovery=FineTuning(**{**TAUGHT, **bare}), seed=3)
    trained = compressed(session, nothing, tmp_path)
    assert dense.curve == trained.curve
    assert dense.figures["loss"] == trained.after.figures["loss"]
    steps = [step for step, _ in watching.points("accuracy")]
    assert watching.points("control") == [(step, value) for step, _, value in dense.curve]
    assert [step for step, _ in watching.points("labels")] == steps
    before, taken = watching.told_steps
    assert before == taken


def test_that_a_dense_control_is_taken_up_for_another_compression(
    session: Session, home: Path, tmp_path: Path
) -> None:
    first, second = Watching(), Watching()
    one = compressed(session, recipe_of("dense"), tmp_path, first.job)
    other = Choice(structure=Setting("svd", {"keep": 0.3}))
    two = compressed(session, recipe_of("dense", other, distillation=0.0), tmp_path, second.job)
    assert two.controls == one.controls
    assert second.points("control") == first.points("control")
    before, taken = second.told_steps
    assert before == taken
    network = read_network(Source(path=str(home / "source.fwz")))
    task = read_task(TaskSource(data=str(home / "data.npz")), network)
    assert first.told_steps[0] - before == steps_of(FineTuning(**TAUGHT), task) + 1
    slower = compressed(session, recipe_of("dense", learning_rate=0.001), tmp_path)
    assert slower.controls != one.controls


@pytest.mark.usefixtures("session")
def test_that_a_dense_control_of_other_samples_is_not_taken_up(home: Path, tmp_path: Path) -> None:
    given = np.load(home / "data.npz")
    other = Session()
    other.open(Source(path=str(home / "source.fwz")))
    found = []
    for images in (given["images"], given["images"] * 0.5):
        np.savez(tmp_path / "data.npz", images=images, labels=given["labels"])
        other.set_task(TaskSource(data=str(tmp_path / "data.npz")))
        found.append(compressed(other, recipe_of("dense"), tmp_path).controls)
    assert found[0] != found[1]


@pytest.mark.parametrize("series", ["control", "labels"])
def test_that_a_run_cancelled_in_a_control_ends_with_the_same_bytes(
    session: Session, tmp_path: Path, series: str
) -> None:
    recipe = recipe_of("both")
    whole = compressed(session, recipe, tmp_path / "a")
    with pytest.raises(CancelledError):
        compressed(session, recipe, tmp_path / "b", Watching(series).job)
    again = Watching()
    resumed = compressed(session, recipe, tmp_path / "b", again.job)
    assert resumed.controls == whole.controls
    assert not again.points("loss")
    archives = [(tmp_path / name / whole.archive).read_bytes() for name in "ab"]
    assert archives[0] == archives[1]
    assert not (tmp_path / "b" / f"{whole.identity}.checkpoint").exists()


@pytest.mark.parametrize("control", ["dense", "hard labels", "both"])
def test_that_controls_that_would_tell_nothing_are_left_out(
    session: Session, home: Path, tmp_path: Path, control: Any
) -> None:
    bare = {"distillation": 0.0, "hidden": "none"}
    result = compressed(session, recipe_of(control, **bare), tmp_path)
    assert [one.kind for one in result.controls] == (["dense"] if control != "hard labels" else [])
    unlabelled = Session()
    unlabelled.open(Source(path=str(home / "source.fwz")))
    assert compressed(unlabelled, recipe_of("dense"), tmp_path).controls == ()
    assert compressed(session, recipe_of(control, epochs=0, norms=True), tmp_path).controls == ()


@pytest.mark.parametrize("series", ["accuracy", "control"])
def test_that_a_recovery_asked_to_end_is_compared_with_nothing_longer(
    session: Session, tmp_path: Path, series: str
) -> None:
    watching = Watching(series, Job.finish)
    assert compressed(session, recipe_of("both"), tmp_path, watching.job).controls == ()
    assert not list(tmp_path.glob("*.dense.json"))


def test_that_the_command_line_tells_the_drop_against_each_control(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = compressed(session, recipe_of("both"), tmp_path)
    Terminal(json=False).result(result, "made.fwz")
    shown = " ".join(capsys.readouterr().out.split())
    for control in result.controls:
        drop = control.figures["top1"].value - result.after.figures["top1"].value
        assert f"{control.kind} control: top1 {control.figures['top1'].value:.2f} %" in shown
        assert f"drop of top1 against the {control.kind} control: {drop:.2f} points" in shown
