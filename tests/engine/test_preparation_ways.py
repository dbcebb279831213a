"""Ways of a preparation: each reaches its density, and removal then hardly changes the loss."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.applicability import Chosen, chosen_methods
from featherweight.engine.calibrating.collecting import Collector
from featherweight.engine.compression import constrain, restructured
from featherweight.engine.errors import UserError
from featherweight.engine.events import Event, Point, TaskSource
from featherweight.engine.inspecting.coupling import Coupling, analyse
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network, capture, fingerprint
from featherweight.engine.options import Scalar
from featherweight.engine.preparing.ground import Ground
from featherweight.engine.preparing.preparation import prepared, steps_of
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.recovering.fine_tuning import fine_tune
from featherweight.engine.task import Task, read_task
from featherweight.engine.trainings import FineTuning, Preparation
from featherweight.engine.weight_forms import settle

Way = Literal["biased decay", "l1", "group lasso", "slimming", "l0", "splice"]
Kind = Literal["dense", "convolutional", "residual"]
Given = Callable[[Kind], "Trained"]
# The last step that leads; what goes is chosen after it.
LED = 2 / 3


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 12, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(12)
        self.inner = nn.Conv2d(12, 12, 3, padding=1, bias=False)
        self.inner_norm = nn.BatchNorm2d(12)
        self.outer = nn.Conv2d(12, 12, 3, padding=1, bias=False)
        self.outer_norm = nn.BatchNorm2d(12)
        self.last = nn.Linear(48, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem_norm(self.stem(x)))
        y = self.outer_norm(self.outer(torch.relu(self.inner_norm(self.inner(x)))))
        x = nn.functional.adaptive_avg_pool2d(torch.relu(x + y), 2)
        out: Tensor = self.last(x.flatten(1))
        return out


def dense() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 8)
    )


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 16, 3, stride=2),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 8),
    )


MODULES: dict[Kind, Callable[[], nn.Module]] = {
    "dense": dense,
    "convolutional": convolutional,
    "residual": Residual,
}
# Layers for single weights, and layers for channels.
WEIGHTS = {"dense": ("1", "3", "5"), "convolutional": ("3", "8"), "residual": ("inner", "last")}
CHANNELS = {"dense": ("1", "3"), "convolutional": ("0", "3"), "residual": ("stem", "inner")}


@dataclass(frozen=True)
class Trained:
    network: Network
    coupling: Coupling
    task: Task

    def chosen(self, recipe: Recipe) -> dict[str, Chosen]:
        return chosen_methods(self.network, self.coupling, recipe)

    def compressed(self, network: Network, recipe: Recipe) -> Network:
        """Compress a network of the same shape."""
        chosen = self.chosen(recipe)
        collect = Collector(self.task, 64, Job()).collect
        made = restructured(network, self.coupling, chosen, collect=collect)
        constrain(made, chosen, collect=collect)
        settle(made)
        return made


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Given:
    """Give a function that trains a network on eight noisy patterns, once."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    labels = np.arange(480) % 8
    patterns = random.normal(size=(8, 1, 8, 8))
    images = (0.6 * patterns[labels] + random.normal(size=(480, 1, 8, 8))).astype(np.float32)
    np.savez(folder / "data.npz", images=images, labels=labels)

    @cache
    def made(kind: Kind) -> Trained:
        torch.manual_seed(1)
        network = capture(MODULES[kind](), (torch.zeros(2, 1, 8, 8),))
        task = read_task(TaskSource(data=str(folder / "data.npz")), network)
        settings = FineTuning(epochs=6, learning_rate=0.005, batch_size=32, optimizer="adamw")
        fine_tune(network, task, settings, 0, None, Job())
        return Trained(network, analyse(network), task)

    return made


class Run:
    """A preparation, and the density that it told after each step."""

    def __init__(self, given: Trained, recipe: Recipe) -> None:
        assert recipe.preparation is not None
        self.task, self.density = given.task, dict[int, float]()
        ground = Ground(given.network, given.coupling, given.chosen(recipe), given.task)
        self.steps = steps_of(recipe.preparation, given.task)
        self.network = prepared(ground, recipe.preparation, 0, None, Job(self.take)).network
        self.before = given.compressed(given.network, recipe)
        self.after = given.compressed(self.network, recipe)

    def take(self, event: Event) -> None:
        if isinstance(event, Point) and event.series == "density":
            self.density[event.step] = event.value

    @property
    def led(self) -> float:
        """The density before exactly what has to go is chosen."""
        return self.density[round(LED * self.steps) - 1]

    def loss(self, network: Network) -> float:
        return self.task.standing(network)[0]


def sparse(kind: Kind, method: str = "magnitude", **options: Scalar) -> dict[str, Choice]:
    choice = Choice(sparsity=Setting(method, dict(options or {"sparsity": 0.8})))
    return dict.fromkeys(WEIGHTS[kind], choice)


def thin(kind: Kind, ratio: float = 0.5, score: str = "l1") -> dict[str, Choice]:
    choice = Choice(structure=Setting("channel_pruning", {"ratio": ratio, "score": score}))
    return dict.fromkeys(CHANNELS[kind], choice)


def recipe_of(way: Way, layers: dict[str, Choice], epochs: int = 5) -> Recipe:
    settings = Preparation(way=way, epochs=epochs, batch_size=32, learning_rate=0.02)
    return Recipe(layers=layers, preparation=settings)


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        ("dense", "biased decay"),
        ("dense", "l1"),
        ("dense", "l0"),
        ("dense", "splice"),
        ("convolutional", "biased decay"),
        ("convolutional", "l0"),
        ("residual", "l1"),
        ("residual", "splice"),
    ],
)
def test_that_weights_go_where_they_are_led(trained: Given, kind: Kind, way: Way) -> None:
    given = trained(kind)
    untouched = fingerprint(given.network)
    run = Run(given, recipe_of(way, sparse(kind)))
    assert run.led == pytest.approx(0.2, abs=0.03)
    for name in WEIGHTS[kind]:
        weight = run.network.layer(name).get_parameter("weight")
        assert int(weight.count_nonzero()) == weight.numel() - int(0.8 * weight.numel())
    assert run.loss(run.after) == pytest.approx(run.loss(run.network), rel=1e-5)
    assert run.loss(run.after) < 0.8 * run.loss(run.before)
    assert fingerprint(given.network) == untouched


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        ("dense", "group lasso"),
        ("dense", "l0"),
        ("convolutional", "group lasso"),
        ("convolutional", "slimming"),
        ("convolutional", "l0"),
        ("residual", "group lasso"),
        ("residual", "slimming"),
        ("residual", "l0"),
    ],
)
def test_that_channels_go_where_they_are_led(trained: Given, kind: Kind, way: Way) -> None:
    given = trained(kind)
    untouched = fingerprint(given.network)
    run = Run(given, recipe_of(way, thin(kind)))
    assert run.led == pytest.approx(0.5, abs=0.05)
    for name in CHANNELS[kind]:
        rows = run.network.layer(name).get_parameter("weight").flatten(1)
        assert int((rows == 0).all(1).sum()) == len(rows) // 2
        assert len(run.after.layer(name).get_parameter("weight")) == len(rows) // 2
    assert run.loss(run.after) == pytest.approx(run.loss(run.network), rel=1e-4)
    assert run.loss(run.after) < 0.8 * run.loss(run.before)
    assert fingerprint(given.network) == untouched


def test_that_proximal_steps_zero_weights_before_they_are_chosen(
    trained: Given,
) -> None:
    # The density of l1 leaves out exact zeros alone.
    given = trained("dense")
    run = Run(given, recipe_of("l1", sparse("dense")))
    assert run.density[run.steps // 4] == pytest.approx(0.6, abs=0.05)
    assert run.density[run.steps // 2] == pytest.approx(0.2, abs=0.05)


def test_that_a_biased_decay_beats_an_even_one(
    trained: Given,
) -> None:
    given = trained("dense")
    recipe = recipe_of("biased decay", sparse("dense", sparsity=0.9))
    run = Run(given, recipe)
    even = given.network.copy()
    settings = FineTuning(epochs=5, batch_size=32, learning_rate=0.02, weight_decay=3e-3)
    fine_tune(even, given.task, settings, 0, None, Job())
    without = given.compressed(even, recipe)
    assert run.loss(run.after) < 0.9 * run.loss(without)


@pytest.mark.parametrize("score", ["l2", "bn_scale", "taylor", "obs", "thinet", "merge"])
def test_that_every_other_score_finds_what_was_led_to_zero(trained: Given, score: str) -> None:
    given = trained("convolutional")
    run = Run(given, recipe_of("slimming", thin("convolutional", score=score), 1))
    assert run.loss(run.after) == pytest.approx(run.loss(run.network), rel=1e-4)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("obd", {"sparsity": 0.7, "curvature": "layer"}),
        ("obs", {"sparsity": 0.7}),
        ("wanda", {"sparsity": 0.7}),
        ("n_of_m", {"pattern": "1:4", "score": "obs"}),
        ("magnitude", {"sparsity": 0.7, "budget": "lamp"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_that_every_sparsity_finds_what_was_led_to_zero(
    trained: Given, method: str, options: dict[str, Scalar]
) -> None:
    given = trained("convolutional")
    layers = sparse("convolutional", method, **options)
    run = Run(given, recipe_of("l1", layers, 1))
    assert run.loss(run.after) == pytest.approx(run.loss(run.network), rel=1e-4)


def test_that_gates_lead_channels_and_the_weights_left_in_them(
    trained: Given,
) -> None:
    given = trained("convolutional")
    layers = {
        name: Choice(structure=choice.structure, sparsity=Setting("magnitude", {"sparsity": 0.6}))
        for name, choice in thin("convolutional", 0.4).items()
    }
    run = Run(given, recipe_of("l0", layers))
    assert run.loss(run.after) == pytest.approx(run.loss(run.network), rel=1e-4)
    assert run.loss(run.after) < 0.8 * run.loss(run.before)


def test_that_outputs_of_the_original_lead_where_there_are_no_labels(
    tmp_path: Path, trained: Given
) -> None:
    network = trained("dense").network
    images = np.random.default_rng(1).normal(size=(320, 1, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "data.npz", images=images)
    task = read_task(TaskSource(kind="fidelity", data=str(tmp_path / "data.npz")), network)
    run = Run(Trained(network, analyse(network), task), recipe_of("l1", sparse("dense")))
    assert run.loss(run.after) < 0.9 * run.loss(run.before)


@pytest.mark.parametrize(
    ("way", "layers", "reason"),
    [
        ("l1", {}, "none has a sparsity that zeroes some of its weights"),
        ("splice", thin("dense"), "none has a sparsity that zeroes some of its weights"),
        ("biased decay", sparse("dense", sparsity=0.0), "none has a sparsity"),
        ("group lasso", sparse("dense"), "none loses channels"),
        ("slimming", thin("dense"), "no batch norm scales channels that go"),
        ("l0", {}, "or loses channels that linear layers or convolutions read"),
        ("group lasso", thin("dense", score="fpgm"), "does not find the channels"),
    ],
)
def test_that_a_preparation_says_why_no_layer_takes_part(
    trained: Given,
    way: Way,
    layers: dict[str, Choice],
    reason: str,
) -> None:
    given = trained("dense")
    with pytest.raises(UserError, match=reason):
        Run(given, recipe_of(way, layers))
