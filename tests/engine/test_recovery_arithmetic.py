"""What a recovery computes in, and on which device."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.errors import CancelledError, UserError
from featherweight.engine.events import Event, Point, TaskSource
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network, capture
from featherweight.engine.recovering.fine_tuning import fine_tune
from featherweight.engine.task import Task, read_task
from featherweight.engine.trainings import DEVICE_VARIABLE, FineTuning


@pytest.fixture
def network() -> Network:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, 4))
    return capture(module, (torch.zeros(2, 1, 6, 6),))


@pytest.fixture
def task(tmp_path: Path, network: Network) -> Task:
    random = np.random.default_rng(0)
    labels = np.arange(160) % 4
    images = random.normal(size=(160, 1, 6, 6)).astype(np.float32)
    images[np.arange(160), 0, 1 + labels] += 2.0
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    return read_task(TaskSource(data=str(tmp_path / "data.npz")), network)


def weights_of(network: Network) -> list[Tensor]:
    return [value.clone() for value in network.module.state_dict().values()]


def cancelled_after(steps: int) -> Job:
    """Return a job that is cancelled after so many steps of a training."""

    def stop(event: Event) -> None:
        if isinstance(event, Point) and event.series == "loss" and event.step == steps:
            job.cancel()

    job = Job(stop)
    return job


@pytest.mark.parametrize("hidden", ["none", "outputs", "representation"])
def test_that_bfloat16_trains_other_weights_in_float32_and_resumes_to_the_same(
    network: Network, task: Task, tmp_path: Path, hidden: Any
) -> None:
    settings = FineTuning(
        epochs=2, batch_size=16, learning_rate=0.05, arithmetic="bfloat16", hidden=hidden
    )
    usual, rounded, broken, resumed = (network.copy() for _ in range(4))
    curve = fine_tune(usual, task, FineTuning(epochs=2, batch_size=16), 0, None, Job())
    fine_tune(rounded, task, settings, 0, tmp_path / "a", Job())
    with pytest.raises(CancelledError):
        fine_tune(broken, task, settings, 0, tmp_path / "b", cancelled_after(5))
    fine_tune(resumed, task, settings, 0, tmp_path / "b", Job())
    assert all(map(torch.equal, weights_of(rounded), weights_of(resumed)))
    assert not all(map(torch.equal, weights_of(rounded), weights_of(usual)))
    assert {value.dtype for value in weights_of(rounded)} == {torch.float32}
    assert task.standing(rounded)[1] > curve[0][2]


def test_that_auto_is_one_of_both_and_stays_so_where_a_run_goes_on(
    network: Network, task: Task, tmp_path: Path
) -> None:
    trained = []
    for arithmetic in ("float32", "bfloat16"):
        settings = FineTuning(epochs=2, batch_size=16, arithmetic=arithmetic)
        trained.append(network.copy())
        fine_tune(trained[-1], task, settings, 0, None, Job())
    settings = FineTuning(epochs=2, batch_size=16, arithmetic="auto")
    with pytest.raises(CancelledError):
        fine_tune(network.copy(), task, settings, 0, tmp_path, cancelled_after(5))
    resumed = network.copy()
    fine_tune(resumed, task, settings, 0, tmp_path, Job())
    assert any(all(map(torch.equal, weights_of(resumed), weights_of(one))) for one in trained)


@pytest.mark.parametrize("arithmetic", ["bfloat16", "auto"])
def test_that_a_network_that_bfloat16_cannot_compute_is_told_or_trained_without(
    arithmetic: Any,
) -> None:
    class Solves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.lu_factor(self.fc(x).reshape(-1, 2, 2))[0].flatten(1)

    solves = capture(Solves(), (torch.rand(2, 4),))
    task = read_task(TaskSource(kind="fidelity"), solves)
    settings = FineTuning(epochs=1, arithmetic=arithmetic, learning_rate=1e-5)
    if arithmetic == "auto":
        assert fine_tune(solves, task, settings, 0, None, Job())
        return
    with pytest.raises(UserError, match="cannot be trained in bfloat16") as told:
        fine_tune(solves, task, settings, 0, None, Job())
    assert "float32" in told.value.hint


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
@pytest.mark.parametrize("asked", ["cuda", "auto", "cpu"])
def test_that_without_cuda_the_processor_trains_and_says_so_where_it_was_asked_for(
    network: Network, task: Task, capsys: Any, monkeypatch: Any, asked: str
) -> None:
    usual = network.copy()
    fine_tune(usual, task, FineTuning(), 0, None, Job())
    capsys.readouterr()
    monkeypatch.setitem(os.environ, DEVICE_VARIABLE, asked)
    fine_tune(network, task, FineTuning(), 0, None, Job())
    assert all(map(torch.equal, weights_of(usual), weights_of(network)))
    said = capsys.readouterr().err
    assert said.count("There is no CUDA device, so the processor trains.") == (asked == "cuda")


def test_that_a_device_nobody_knows_is_told(network: Network, task: Task, monkeypatch: Any) -> None:
    monkeypatch.setitem(os.environ, DEVICE_VARIABLE, "gpu")
    with pytest.raises(UserError, match="gpu, which is no device"):
        fine_tune(network, task, FineTuning(), 0, None, Job())
