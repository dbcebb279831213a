"""A small trained network and its data as files, which every front of the engine can open."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.network import capture
from featherweight.engine.recipe import Choice, Recipe, Setting, recipe_to_yaml
from featherweight.engine.trainings import FineTuning
from featherweight.engine.writing.archive import write_archive


class Bars(nn.Module):
    """Tells in which of four rows of an 8×8 image a bar lies."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.fc = nn.Linear(16 * 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.conv1(x)).relu()
        result: Tensor = self.fc(self.conv2(x).relu().flatten(1))
        return result


def bars(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return noisy images, float32 (N, 1, 8, 8), and the row of the bar, int64 (N,)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    images = torch.randn(count, 1, 8, 8, generator=generator)
    images[torch.arange(count), 0, 2 * labels] += 1.5
    return images, labels


@pytest.fixture(scope="session")
def small_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `bars.fwz`, its data `bars.npz`, and `recipe.yaml` over all four slots."""
    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(0)
    module = Bars()
    images, labels = bars(400, 1)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(images), labels).backward()
        optimizer.step()
    write_archive(capture(module, (images[:1],)), {}, folder / "bars.fwz")
    arrays = {
        f"{part}_{kind}": values.numpy()
        for part, seed in (("recovery", 1), ("measure", 2))
        for kind, values in zip(("images", "labels"), bars(256, seed), strict=True)
    }
    np.savez(folder / "bars.npz", **arrays)
    recipe = Recipe(
        layers={
            "conv1": Choice(structure=Setting("channel_pruning", {"ratio": 0.25})),
            "conv2": Choice(
                structure=Setting("tucker", {"keep": 0.6}), precision=Setting("integer")
            ),
            "fc": Choice(
                sparsity=Setting("magnitude", {"sparsity": 0.5}),
                precision=Setting("codebook", {"clusters": 16}),
                coding=Setting("ans"),
            ),
        },
        recovery=FineTuning(epochs=2, batch_size=32),
        seed=3,
    )
    (folder / "recipe.yaml").write_text(recipe_to_yaml(recipe))
    return folder
