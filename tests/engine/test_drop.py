"""Dropped layers: gone from the network, its files and its cost, and made up for by training."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.events import Source, TaskSource
from featherweight.engine.jobs import Job
from featherweight.engine.methods.structure.drop import Drop
from featherweight.engine.network import Network, capture
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.results import Export, Result
from featherweight.engine.session import Session
from featherweight.engine.trainings import FineTuning
from featherweight.engine.writing.archive import write_archive

DROPPED = Choice(structure=Setting("drop"))


class Block(nn.Module):
    """A residual block of two convolutions before a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3)
        self.inner = nn.Conv2d(6, 6, 3, padding=1)
        self.outer = nn.Conv2d(6, 6, 3, padding="same", dilation=2)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return N×4."""
        x = self.first(x).relu()
        x = (x + self.outer(self.inner(x).relu())).relu()
        scores: Tensor = self.head(x.mean((2, 3)))
        return scores


def test_that_the_network_is_the_one_without_the_layer_in_every_file(
    in_every_file: Callable[..., dict[str, Export]], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    module, inputs = Block(), torch.randn(3, 2, 8, 8)
    network = capture(module, (inputs,))
    made = network.copy()
    made.replace("inner", Drop().rewritten(made.layer("inner")))
    in_every_file(made, {}, tmp_path, (inputs,), network)
    module.add_module("inner", nn.Identity())
    torch.testing.assert_close(made.outputs(inputs)[0], module(inputs))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.Linear(4, 5), "another size than its input: 5 against 4"),
        (nn.Conv2d(4, 8, 3, padding=1), "another size than its input: 8 against 4"),
        (nn.Conv2d(4, 4, 3), "other positions"),
        (nn.Conv2d(4, 4, 3, padding=1, stride=2), "other positions"),
        (nn.Conv2d(4, 4, 2, padding=1), "other positions"),
        (nn.Conv1d(4, 4, 3, padding="valid"), "other positions"),
        (nn.ConvTranspose2d(4, 4, 1), "Only linear layers and convolutions"),
        (nn.LSTM(4, 4), "Only linear layers and convolutions"),
    ],
)
def test_that_a_layer_that_changes_the_shape_cannot_go(layer: nn.Module, words: str) -> None:
    assert words in Drop.lock(layer)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(4, 4),
        nn.Conv1d(4, 4, 5, padding=4, dilation=2, groups=2, padding_mode="circular"),
        nn.Conv2d(4, 4, (3, 1), padding=(1, 0)),
        nn.Conv3d(4, 4, 3, padding="same"),
    ],
)
def test_that_a_layer_that_keeps_the_shape_can_go(layer: nn.Module) -> None:
    assert Drop.lock(layer) == ""
    sides = {nn.Linear: (), nn.Conv1d: (7,), nn.Conv2d: (7, 7), nn.Conv3d: (7, 7, 7)}
    given = torch.randn(2, 4, *sides[type(layer)])
    assert layer(given).shape == Drop().rewritten(layer)(given).shape


def test_that_the_network_left_learns_from_the_whole_one(tmp_path: Path) -> None:
    network = trained(tmp_path)
    write_archive(network, {}, tmp_path / "network.fwz")
    session = Session()
    session.open(Source(path=str(tmp_path / "network.fwz")))
    session.set_task(TaskSource(data=str(tmp_path / "data.npz")))

    def run(epochs: int) -> Result:
        recovery = FineTuning(
            epochs=epochs, optimizer="adamw", batch_size=32, distillation=0.5, norms=True
        )
        recipe = Recipe(layers={"2": DROPPED, "4": DROPPED}, recovery=recovery)
        return session.compress(recipe, "made", str(tmp_path), Job())

    before, after = run(0), run(8)
    assert after.after.figures["parameters"].value == 8 * 16 + 16 + 16 * 4 + 4
    assert after.after.figures["macs"].value == 8 * 16 + 16 * 4
    assert after.after.figures["loss"].value < 0.7 * before.after.figures["loss"].value


def trained(folder: Path) -> Network:
    """Return a network of four layers trained on data that it writes."""
    torch.manual_seed(1)
    inputs = torch.randn(256, 8)
    labels = inputs[:, :4].argmax(1)
    np.savez(folder / "data.npz", images=inputs.numpy(), labels=labels.numpy())
    inner = nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU()
    module = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), *inner, nn.Linear(16, 4))
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(80):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(inputs), labels).backward()
        optimizer.step()
    return capture(module, (inputs[:1],))
