"""Fine-tuning: it recovers accuracy, keeps constraints, and resumes to the bit."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from featherweight.engine.errors import CancelledError, UserError
from featherweight.engine.events import Event, Point, Progress, TaskSource
from featherweight.engine.jobs import Job
from featherweight.engine.methods.method import PrecisionMethod
from featherweight.engine.methods.precision.codebook import Codebook
from featherweight.engine.methods.precision.integer import Integer
from featherweight.engine.methods.sparsity.magnitude import Magnitude
from featherweight.engine.network import Network, capture
from featherweight.engine.recovering.fine_tuning import FILE, fine_tune, steps_of
from featherweight.engine.task import Task, read_task
from featherweight.engine.trainings import FineTuning
from featherweight.engine.weight_forms import CompactLayer, MaskedForm, TrainableForm, settle

SETTINGS = FineTuning(epochs=2, learning_rate=0.05, batch_size=16)


def tiny() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(8 * 16, 4),
    )


@pytest.fixture
def network() -> Network:
    torch.manual_seed(1)
    return capture(tiny(), (torch.zeros(2, 1, 6, 6),))


@pytest.fixture
def task(tmp_path: Path, network: Network) -> Task:
    """Four kinds of pictures: a bright quarter, and noise."""
    random = np.random.default_rng(0)
    labels = np.arange(256) % 4
    images = random.normal(size=(256, 1, 6, 6)).astype(np.float32)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[0, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3] += 1.5
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    return read_task(TaskSource(data=str(tmp_path / "data.npz")), network)


class Watching:
    """Collects the events of a job and cancels it after so many points of loss."""

    def __init__(self, cancel_after: int | None = None) -> None:
        self.events: list[Event] = []
        self.cancel_after = cancel_after
        self.job = Job(self.take)

    def take(self, event: Event) -> None:
        self.events.append(event)
        if self.cancel_after and len(self.points("loss")) >= self.cancel_after:
            self.job.cancel()

    def points(self, series: str) -> list[Point]:
        return [e for e in self.events if isinstance(e, Point) and e.series == series]


def held(network: Network, form: TrainableForm, name: str = "0") -> Network:
    made = network.copy()
    made.replace(name, CompactLayer(made.layer(name), {"weight": form}))
    return made


def weights_of(network: Network) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.module.state_dict().items()}


def test_that_training_raises_the_accuracy_and_the_chart_shows_it(
    network: Network, task: Task
) -> None:
    watching = Watching()
    before = task.evaluate(network)["top1"].value
    curve = fine_tune(network, task, SETTINGS, 0, None, watching.job)
    after = task.evaluate(network)["top1"].value
    assert after > before + 30
    points = watching.points("accuracy")
    assert [(point.step, point.value) for point in points] == [(s, a) for s, _, a in curve]
    assert (points[0].step, points[-1].step) == (0, steps_of(SETTINGS, task))
    assert points[-1].value == pytest.approx(after / 100)
    assert len(points) == 9


def test_that_every_step_is_counted_in_words_that_name_the_epoch(
    network: Network, task: Task
) -> None:
    watching = Watching()
    steps = steps_of(SETTINGS, task)
    watching.job.begin(steps)
    fine_tune(network, task, SETTINGS, 0, None, watching.job)
    last = [event for event in watching.events if isinstance(event, Progress)][-1]
    assert (last.step, last.stage) == (steps, "Recovering, epoch 2 of 2")
    assert len(watching.points("loss")) == steps


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_that_a_cancelled_run_resumes_to_the_same_weights_to_the_bit(
    network: Network, task: Task, tmp_path: Path, optimizer: Literal["sgd", "adamw"]
) -> None:
    settings = FineTuning(epochs=2, learning_rate=0.01, batch_size=16, optimizer=optimizer)
    undisturbed, broken, resumed = network.copy(), network.copy(), network.copy()
    curve = fine_tune(undisturbed, task, settings, 7, tmp_path / "a", Job())
    with pytest.raises(CancelledError):
        fine_tune(broken, task, settings, 7, tmp_path / "b", Watching(cancel_after=9).job)
    again = Watching()
    assert fine_tune(resumed, task, settings, 7, tmp_path / "b", again.job) == curve
    assert again.points("loss")[0].step == 10
    for name, value in weights_of(undisturbed).items():
        assert torch.equal(value, weights_of(resumed)[name]), name


def test_that_a_finished_run_started_again_trains_no_further_step(
    network: Network, task: Task, tmp_path: Path
) -> None:
    first, second, watching = network.copy(), network.copy(), Watching()
    fine_tune(first, task, SETTINGS, 0, tmp_path, Job())
    fine_tune(second, task, SETTINGS, 0, tmp_path, watching.job)
    assert not watching.points("loss")
    assert all(torch.equal(v, weights_of(second)[n]) for n, v in weights_of(first).items())


@pytest.mark.parametrize("changed", ["seed", "settings", "weights", "grid", "damage"])
def test_that_a_checkpoint_of_another_run_is_not_taken_up(
    network: Network, task: Task, tmp_path: Path, changed: str
) -> None:
    weight = network.module.get_parameter("0.weight")
    start = held(network, Integer(bits=8).trainable(weight, None))
    fine_tune(start.copy(), task, SETTINGS, 0, tmp_path, Job())
    settings = FineTuning(epochs=1) if changed == "settings" else SETTINGS
    if changed == "weights":
        with torch.no_grad():
            start.module.get_parameter("5.bias").add_(0.001)
    if changed == "grid":
        form = start.layer("0").forms["weight"]
        form.bits = 4
    if changed == "damage":
        (tmp_path / FILE).write_bytes(b"nothing of use")
    watching = Watching()
    fine_tune(start, task, settings, 1 if changed == "seed" else 0, tmp_path, watching.job)
    assert watching.points("loss")[0].step == 1


def test_that_masked_weights_stay_zero_while_the_others_train(network: Network, task: Task) -> None:
    weight = network.module.get_parameter("0.weight").detach().clone()
    mask = Magnitude(sparsity=0.5).mask(weight)
    pruned = held(network, MaskedForm(weight, mask))
    fine_tune(pruned, task, SETTINGS, 0, None, Job())
    settle(pruned)
    trained = pruned.layer("0").weights()["weight"]
    assert torch.equal(trained[~mask], torch.zeros(int((~mask).sum())))
    assert not torch.equal(trained[mask], weight[mask])


@pytest.mark.parametrize(
    ("method", "values"), [(Codebook(clusters=5), 5), (Integer(bits=2), 3), (Integer(bits=4), 15)]
)
def test_that_trained_weights_have_no_more_values_than_their_precision(
    network: Network, task: Task, method: PrecisionMethod, values: int
) -> None:
    weight = network.module.get_parameter("5.weight").detach().clone()
    compact = held(network, method.trainable(weight, None), "5")
    before = compact.layer("5").weights()["weight"].clone()
    fine_tune(compact, task, SETTINGS, 0, None, Job())
    running = compact.layer("5").weights()["weight"].detach().clone()
    settle(compact)
    after = compact.layer("5").weights()["weight"]
    assert torch.equal(running, after)
    assert not torch.equal(before, after)
    rows = after if isinstance(method, Integer) else after.reshape(1, -1)
    assert max(row.unique().numel() for row in rows) <= values


def test_that_the_cosine_schedule_ends_slower_than_the_constant_one(
    network: Network, task: Task
) -> None:
    moved = []
    for schedule in ("constant", "cosine"):
        settings = FineTuning(epochs=1, schedule=schedule, batch_size=16, weight_decay=0.0)
        trained = network.copy()
        fine_tune(trained, task, settings, 0, None, Job())
        start, end = (n.module.get_parameter("5.weight") for n in (network, trained))
        moved.append(float((end - start).detach().abs().sum()))
    assert moved[1] < moved[0]


def test_that_a_loss_that_is_no_number_stops_with_a_lower_learning_rate_as_mend(
    network: Network, task: Task
) -> None:
    settings = FineTuning(epochs=3, learning_rate=10.0, momentum=0.99, batch_size=16)
    with torch.no_grad():
        network.module.get_parameter("5.weight").mul_(1e38)
    with pytest.raises(UserError, match="no number any more at step") as stopped:
        fine_tune(network, task, settings, 0, None, Job())
    assert "learning rate, for example to 1" in stopped.value.hint


def test_that_without_labels_training_brings_outputs_back_to_the_original(
    network: Network,
) -> None:
    task = read_task(TaskSource(), network)
    torch.manual_seed(0)
    noisy = network.copy()
    with torch.no_grad():
        weight = noisy.module.get_parameter("5.weight")
        weight.add_(0.03 * torch.randn_like(weight))
    settings = FineTuning(epochs=8, learning_rate=0.01, batch_size=16)
    before = task.evaluate(noisy)["snr"].value
    fine_tune(noisy, task, settings, 0, None, Job())
    assert task.evaluate(noisy)["snr"].value > before + 3


def test_that_noise_does_not_move_the_statistics_of_batch_norm(
    network: Network, task: Task
) -> None:
    for source, moves in ((read_task(TaskSource(), network), False), (task, True)):
        trained = network.copy()
        fine_tune(trained, source, FineTuning(epochs=1, learning_rate=0.001), 0, None, Job())
        mean = trained.module.get_buffer("1.running_mean")
        assert torch.equal(mean, network.module.get_buffer("1.running_mean")) != moves


def test_that_a_network_is_left_ready_to_run_after_training(network: Network, task: Task) -> None:
    fine_tune(network, task, SETTINGS, 0, None, Job())
    assert not any(module.training for module in network.module.modules())


def test_that_a_checkpoint_is_one_safetensors_file_and_nothing_else(
    network: Network, task: Task, tmp_path: Path
) -> None:
    fine_tune(network, task, SETTINGS, 0, tmp_path / "run", Job())
    assert [file.name for file in (tmp_path / "run").iterdir()] == [FILE]
    assert "module/5.weight" in load_file(tmp_path / "run" / FILE)


def test_that_a_network_saved_frozen_is_trained_like_any_other(
    network: Network, task: Task
) -> None:
    frozen = network.copy()
    frozen.module.requires_grad_(False)
    curves = [fine_tune(each, task, SETTINGS, 0, None, Job()) for each in (frozen, network.copy())]
    assert curves[0] == curves[1]
    assert curves[0][-1][2] > curves[0][0][2]


def test_that_single_samples_do_not_move_the_statistics_of_batch_norm(tmp_path: Path) -> None:
    flat = capture(nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)), (torch.zeros(2, 6),))
    random = np.random.default_rng(0)
    images, labels = random.normal(size=(30, 6)).astype(np.float32), np.arange(30) % 4
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    task = read_task(TaskSource(data=str(tmp_path / "data.npz")), flat)
    before = {name: value.clone() for name, value in flat.module.named_buffers()}
    fine_tune(flat, task, FineTuning(batch_size=1), 0, None, Job())
    assert all(torch.equal(value, before[name]) for name, value in flat.module.named_buffers())


def test_that_outputs_without_gradient_are_told_instead_of_trained() -> None:
    class Chooses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x).argmax(1)

    chooses = capture(Chooses(), (torch.zeros(2, 6),))
    task = read_task(TaskSource(kind="fidelity"), chooses)
    with pytest.raises(UserError, match="no gradient"):
        fine_tune(chooses.copy(), task, SETTINGS, 0, None, Job())


def test_that_a_checkpoint_that_cannot_be_written_is_told_in_a_sentence(
    network: Network, task: Task, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        fine_tune(network, task, SETTINGS, 0, tmp_path / "file" / "run", Job())
