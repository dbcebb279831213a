"""The demo: a network that is as good as its README says, on data it was not trained on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from featherweight.engine.events import TaskSource
from featherweight.engine.network import capture
from featherweight.engine.task import read_task
from featherweight.resources.demo import network as demo


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(demo.__file__).parent


@pytest.fixture(scope="module")
def module(folder: Path) -> nn.Module:
    built = demo.build()
    built.load_state_dict(load_file(folder / "network.safetensors"))
    return built


def test_that_the_demo_reaches_ninety_percent_on_its_test_images(
    folder: Path, module: nn.Module
) -> None:
    network = capture(module, (torch.zeros(1, 1, 28, 28),))
    task = read_task(TaskSource(data=str(folder / "data.npz")), network)
    assert task.evaluate(network)["top1"].value >= 90.0
    assert (len(task.recovery), len(task.measure), task.classes) == (4000, 2000, 10)


def test_that_the_demo_has_a_residual_block_batch_norm_and_a_depthwise_layer(
    module: nn.Module,
) -> None:
    layers = list(module.modules())
    assert any(isinstance(layer, demo.Residual) for layer in layers)
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in layers)
    assert any(
        isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1 for layer in layers
    )
    assert 100_000 <= sum(value.numel() for value in module.parameters()) <= 300_000


def test_that_no_image_to_measure_on_is_among_those_to_recover_on(folder: Path) -> None:
    with np.load(folder / "data.npz") as data:
        recovery = {image.tobytes() for image in data["recovery_images"]}
        measure = {image.tobytes() for image in data["measure_images"]}
    assert not recovery & measure


def test_that_all_files_of_the_demo_take_less_than_eight_megabytes(folder: Path) -> None:
    assert sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) < 8_000_000


def test_that_the_licence_of_the_images_lies_beside_them(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    assert "MIT License" in text
    assert "Zalando" in text
