"""Tasks: what is measured of a network, and that it is measured right."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.errors import CancelledError, UserError
from featherweight.engine.events import TaskSource
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network, capture
from featherweight.engine.task import read_task


class Scores(nn.Module):
    """Gives each sample, which is a row of scores, as it is."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(classes))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


@pytest.fixture
def network() -> Network:
    return capture(Scores(8), (torch.zeros(2, 8),))


@pytest.fixture
def source(tmp_path: Path) -> TaskSource:
    scores = np.zeros((6, 8), np.float32)
    labels = np.array([0, 1, 2, 3, 4, 5])
    scores[np.arange(6), labels] = [9, 9, 9, 1, 1, 1]
    scores[3, 7], scores[4, 7] = 5, 5
    scores[5, [0, 1, 2, 3, 4]] = [6, 5, 4, 3, 2]
    file = tmp_path / "scores.npz"
    np.savez(
        file,
        recovery_images=scores,
        recovery_labels=labels,
        measure_images=scores,
        measure_labels=labels,
    )
    return TaskSource(data=str(file))


def test_that_top1_and_top5_count_the_labels_among_the_best_scores(
    network: Network, source: TaskSource
) -> None:
    figures = read_task(source, network).evaluate(network)
    assert figures["top1"].value == pytest.approx(100 * 3 / 6)
    assert figures["top5"].value == pytest.approx(100 * 5 / 6)
    assert {figure.basis for figure in figures.values()} == {"measured"}


def test_that_the_loss_is_the_mean_cross_entropy_of_all_samples(
    network: Network, source: TaskSource
) -> None:
    task = read_task(source, network)
    inputs, (labels,) = task.batch(task.measure, range(6))
    by_hand = torch.logsumexp(inputs[0], 1) - inputs[0][torch.arange(6), labels]
    assert task.evaluate(network)["loss"].value == pytest.approx(float(by_hand.mean()), rel=1e-6)


def test_that_outputs_which_are_probabilities_are_not_normalized_again(tmp_path: Path) -> None:
    network = capture(nn.Sequential(nn.Linear(4, 3), nn.Softmax(1)), (torch.randn(2, 4),))
    file = tmp_path / "data.npz"
    np.savez(file, images=np.random.default_rng(0).normal(size=(30, 4)), labels=np.arange(30) % 3)
    task = read_task(TaskSource(data=str(file)), network)
    inputs, (labels,) = task.batch(task.measure, range(10))
    chances = network.outputs(*inputs)[0][torch.arange(10), labels]
    assert float(task.loss(network.outputs(*inputs), (labels,)).detach()) == pytest.approx(
        float(-chances.log().mean().detach()), rel=1e-5
    )


def test_that_a_limit_measures_only_the_first_samples(network: Network, source: TaskSource) -> None:
    assert read_task(source, network).evaluate(network, limit=3)["top1"].value == 100.0


def test_that_labels_are_the_largest_outputs_in_the_order_of_the_samples(
    network: Network, source: TaskSource
) -> None:
    assert read_task(source, network).labels(network).tolist() == [0, 1, 2, 7, 7, 0]


def test_that_a_network_agrees_with_itself_to_the_rounding_of_float32(network: Network) -> None:
    figures = read_task(TaskSource(), network).evaluate(network)
    assert figures["agreement"].value == 100.0
    assert figures["relative_error"].value == 0.0
    assert figures["snr"].value == pytest.approx(20 * math.log10(2**24))


def test_that_fidelity_measures_the_noise_of_a_changed_network_in_decibels(
    network: Network,
) -> None:
    changed = network.copy()
    with torch.no_grad():
        for parameter in changed.module.parameters():
            parameter *= 0.99
    figures = read_task(TaskSource(kind="fidelity"), network).evaluate(changed)
    assert figures["snr"].value == pytest.approx(40.0, abs=0.01)
    assert figures["relative_error"].value == pytest.approx(0.01, rel=1e-3)


def test_that_random_inputs_are_the_same_every_time(network: Network) -> None:
    first, second = (read_task(TaskSource(), network).measure.batch(range(5)) for _ in range(2))
    assert torch.equal(first[0][0], second[0][0])


def test_that_random_whole_numbers_stay_inside_the_embedding_they_enter() -> None:
    words = nn.Sequential(nn.Embedding(11, 4), nn.Flatten(), nn.Linear(24, 3))
    network = capture(words, (torch.zeros(2, 6, dtype=torch.long),))
    inputs, _ = read_task(TaskSource(), network).measure.batch(range(64))
    assert int(inputs[0].max()) == 10
    assert int(inputs[0].min()) == 0


def test_that_measuring_leaves_a_network_in_the_mode_it_was_in(network: Network) -> None:
    network.module.train()
    read_task(TaskSource(), network).evaluate(network)
    assert network.module.training


def test_that_measuring_stops_at_the_next_batch_of_a_cancelled_job(network: Network) -> None:
    job = Job()
    job.cancel()
    with pytest.raises(CancelledError):
        read_task(TaskSource(), network).evaluate(network, job.check)


def test_that_outputs_which_are_no_numbers_are_refused(network: Network) -> None:
    task = read_task(TaskSource(), network)
    with pytest.raises(UserError, match="not finite"):
        task.evaluate(lambda x: (x * float("nan"),))


def test_that_a_network_with_a_fixed_batch_is_measured_on_every_sample() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.reshape(3, 4))

    network = capture(Fixed(), (torch.randn(3, 4),))
    network.dynamic_batch = False
    task = read_task(TaskSource(), network)
    assert len(task.labels(network)) == len(task.measure) == 256
    assert task.evaluate(network)["agreement"].value == 100.0


def test_that_labels_for_a_network_that_draws_pictures_are_refused(tmp_path: Path) -> None:
    network = capture(nn.Conv2d(1, 2, 3), (torch.zeros(2, 1, 8, 8),))
    file = tmp_path / "data.npz"
    np.savez(file, images=np.zeros((9, 1, 8, 8), np.uint8), labels=np.zeros(9, np.int64))
    with pytest.raises(UserError, match="gives 2×6×6 for a sample") as refused:
        read_task(TaskSource(data=str(file)), network)
    assert "fidelity" in refused.value.hint


def test_that_outputs_of_whole_numbers_are_compared_as_labels_alone() -> None:
    class Chooses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x).argmax(1)

    network = capture(Chooses(), (torch.zeros(2, 6),))
    task = read_task(TaskSource(kind="fidelity"), network)
    changed = network.copy()
    nn.init.zeros_(changed.layer("fc").get_parameter("weight"))
    assert {name: figure.value for name, figure in task.evaluate(network).items()} == {
        "agreement": 100.0
    }
    assert task.evaluate(changed)["agreement"].value < 60
    assert task.metrics == ("agreement",)
