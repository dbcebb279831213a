"""Gradual sparsity: masks that grow while a network trains, and precision after them."""

from pathlib import Path

import pytest
import torch

from featherweight.engine.errors import CancelledError
from featherweight.engine.events import Event, Point, Source
from featherweight.engine.jobs import Job
from featherweight.engine.methods.method import SparsityMethod
from featherweight.engine.methods.registry import method_of
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.recovering.gradual import GradualForm, Ramp
from featherweight.engine.results import Result
from featherweight.engine.session import Session
from featherweight.engine.trainings import FineTuning
from featherweight.engine.weight_forms import densified

RECOVERY = FineTuning(epochs=5, learning_rate=0.02, batch_size=16, gradual=0.5)
MAGNITUDE = Setting("magnitude", {"sparsity": 0.83})
OBD = Setting("obd", {"sparsity": 0.83})
PATTERN = Setting("n_of_m", {"pattern": "1:4"})
SHARED = Setting("codebook", {"clusters": 6})


@pytest.fixture
def session(marked_session: Session) -> Session:
    return marked_session


def run(session: Session, choice: Choice, folder: Path, job: Job | None = None) -> Result:
    recipe = Recipe(layers={"1": choice}, recovery=RECOVERY)
    return session.compress(recipe, "one", str(folder), job or Job())


@pytest.mark.parametrize("setting", [MAGNITUDE, OBD, PATTERN], ids=lambda each: each.method)
@pytest.mark.parametrize("precision", [None, SHARED], ids=["floats", "shared"])
def test_that_as_many_weights_stay_as_the_method_says(
    session: Session, tmp_path: Path, setting: Setting, precision: Setting | None
) -> None:
    result = run(session, Choice(sparsity=setting, precision=precision), tmp_path / "out")
    made = densified(read_network(Source(path=str(tmp_path / "out" / result.archive))))
    weight = made.layer("1").get_parameter("weight")
    method = method_of(setting, "here")
    assert isinstance(method, SparsityMethod)
    assert int((weight != 0).sum()) == method.kept(weight.numel())
    if setting is PATTERN:
        assert (weight.reshape(-1, 4) != 0).sum(1).tolist() == [1] * (weight.numel() // 4)
    if precision:
        assert weight.unique().numel() <= 6
    assert result.after.figures["top1"].value > 60


@pytest.mark.parametrize("at", [8, 20, 28], ids=["on the ramp", "on masks", "in few values"])
@pytest.mark.parametrize("setting", [MAGNITUDE, OBD], ids=lambda each: each.method)
def test_that_a_cancelled_run_ends_in_the_same_bytes(
    session: Session, tmp_path: Path, setting: Setting, at: int
) -> None:
    choice = Choice(sparsity=setting, precision=SHARED)
    whole = run(session, choice, tmp_path / "a")

    def stop(event: Event) -> None:
        if isinstance(event, Point) and event.series == "loss" and event.step >= at:
            job.cancel()

    job = Job(stop)
    with pytest.raises(CancelledError):
        run(session, choice, tmp_path / "b", job)
    seen: list[int] = []
    watching = Job(
        lambda event: (
            seen.append(event.step) if isinstance(event, Point) and event.series == "loss" else None
        )
    )
    again = run(session, choice, tmp_path / "b", watching)
    assert seen[0] == at + 1
    files = [tmp_path / name / result.archive for name, result in (("a", whole), ("b", again))]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert again.curve == whole.curve


def test_that_masks_follow_the_cube_and_may_take_weights_back() -> None:
    method = method_of(Setting("magnitude", {"sparsity": 0.9}), "here")
    assert isinstance(method, SparsityMethod)
    form = GradualForm(torch.arange(1.0, 101.0).reshape(10, 10), method, None)
    form.choose(0.5)
    assert form.mask is not None
    assert int(form.mask.sum()) == 10 + round(90 * 0.125)
    gone = form.mask.logical_not()
    with torch.no_grad():
        form.values[gone] *= 1000
    form.choose(1.0)
    assert int(form.mask.sum()) == 10
    assert bool(form.mask[gone].any())


@pytest.mark.parametrize("steps", [1, 2, 3, 50])
def test_that_a_ramp_ends_and_precision_comes_within_the_training(steps: int) -> None:
    ramp = Ramp(steps, 0.9)
    due = [step for step in range(steps) if ramp.due(step)]
    assert due[-1] == ramp.end
    assert ramp.way(due[-1]) == 1.0
    assert ramp.end <= ramp.switch < steps
