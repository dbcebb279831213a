"""The networks that the benchmark of methods compresses: built, trained once, and opened."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from integer_export import lite0, smooth_noise
from methods_bench import Bench
from methods_data import FASHION, Pair, digits, fashion, lite0_packages, standardized
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from featherweight.engine.events import Source, TaskSource

sys.path.insert(0, str(Path(__file__).parents[1] / "zoo"))

from architectures.early import Lenet5, Lenet300
from architectures.residual import Basic, SmallResidual, normed

FEW, QUICK = 10_000, 24_000
PACKAGES = "LITE0_PACKAGES"


class Resnet20(nn.Module):
    """Three stages of three blocks for small images, 21 convolutions (He et al. 2016, 4.2)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = normed(1, 16, 3)
        widths = (16, 16, 16, 16, 32, 32, 32, 64, 64, 64)
        blocks = [Basic(given, made, made // given) for given, made in pairwise(widths)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (batch, 1, 28, 28)."""
        x = self.blocks(self.stem_norm(self.stem(x)).relu())
        return self.head(x.mean((2, 3)))


class OneHidden(nn.Sequential):
    """784-h-10 on images of digits."""

    def __init__(self, hidden: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def lenet300() -> nn.Module:
    """Return LeNet-300-100, 266,610 parameters."""
    return Lenet300()


def lenet5() -> nn.Module:
    """Return LeNet-5 in Caffe's form, 431,080 parameters."""
    return Lenet5()


def residual() -> nn.Module:
    """Return the small residual network, 94,000 parameters and 4.7 million MACs."""
    return SmallResidual()


def resnet20() -> nn.Module:
    """Return ResNet-20 with projections, 272,186 parameters and 31 million MACs."""
    return Resnet20()


def hidden512() -> nn.Module:
    """Return 784-512-10, 407,050 parameters."""
    return OneHidden(512)


def hidden784() -> nn.Module:
    """Return 784-784-10."""
    return OneHidden(784)


def hidden1024() -> nn.Module:
    """Return 784-1024-10."""
    return OneHidden(1024)


def efficient() -> nn.Module:
    """Return EfficientNet-lite0 with its ImageNet weights, from the folder PACKAGES."""
    return lite0(Path(os.environ[PACKAGES]))


@dataclass(frozen=True)
class Training:
    """How a network is trained before anything is compressed: by AdamW, with a cosine."""

    epochs: int
    batch: int = 256
    rate: float = 2e-3
    decay: float = 0.01
    images: int = 60_000


@dataclass(frozen=True)
class Kind:
    """One network of the table: what builds it, its data, and how it is trained.

    `batch` is what ONNX Runtime is timed at: a call of its own takes longer than one small sample.
    `recovery` is on how many of the images recipes train again, all of them for 0. `standard` says
    that pixels have mean 0 and deviation 1: gates for LeNet-300-100 were set on such a network.
    """

    title: str
    build: Callable[[], nn.Module]
    data: str
    training: Training | None
    batch: int = 1
    recovery: int = 0
    standard: bool = False


KINDS = {
    "LeNet-300": Kind(
        "LeNet-300-100, Fashion-MNIST",
        lenet300,
        "fashion",
        Training(15, 512, 1e-3),
        batch=64,
        standard=True,
    ),
    "LeNet-5": Kind(
        "LeNet-5, Fashion-MNIST", lenet5, "fashion", Training(3, 128, images=QUICK), 1, FEW
    ),
    "residual": Kind(
        "small residual CNN, Fashion-MNIST",
        residual,
        "fashion",
        Training(4, 128, 3e-3, images=QUICK),
        8,
        FEW,
    ),
    "resnet-20": Kind(
        "ResNet-20, Fashion-MNIST",
        resnet20,
        "fashion",
        Training(4, 128, 3e-3, images=QUICK),
        8,
        FEW,
    ),
    "digits-300": Kind("LeNet-300-100, 8,000 digits", lenet300, "digits", Training(40, 128)),
    "digits-512": Kind("784-512-10, 8,000 digits", hidden512, "digits", Training(30, 128)),
    "digits-784": Kind("784-784-10, 8,000 digits", hidden784, "digits", Training(30, 128)),
    "wide-1024": Kind("784-1024-10, Fashion-MNIST", hidden1024, "fashion", Training(4), 1, QUICK),
    "lite0": Kind("EfficientNet-lite0, ImageNet weights", efficient, "noise", None),
}


def opened(name: str, place: Path, fashion_folder: Path = FASHION) -> Bench:
    """Return a network of the table with its data, trained unless `place` holds its weights."""
    return opened_kind(KINDS[name], place / name, fashion_folder)


def opened_kind(kind: Kind, folder: Path, fashion_folder: Path) -> Bench:
    """Return a network with its data, trained unless `folder` holds its weights."""
    place = folder.parent
    folder.mkdir(parents=True, exist_ok=True)
    weights, samples = folder / "weights.safetensors", folder / "data.npz"
    if kind.data == "noise":
        os.environ[PACKAGES] = str(lite0_packages(place))
        np.savez(samples, images=smooth_noise().numpy())
    else:
        pairs = fashion(fashion_folder) if kind.data == "fashion" else digits(place)
        if kind.standard:
            pairs = standardized(*pairs)
        (images, labels), (x_test, y_test) = pairs
        few = kind.recovery or len(images)
        np.savez(samples, x_train=images[:few], y_train=labels[:few], x_test=x_test, y_test=y_test)
    if not weights.exists():
        torch.manual_seed(0)
        module = kind.build()
        if kind.training:
            train(module, pairs[0], kind.training)
        # Its own copies: some networks hold a tensor in two places.
        save_file({key: value.clone() for key, value in module.state_dict().items()}, weights)
    side = 224 if kind.data == "noise" else 28
    source = Source(
        path=str(weights),
        factory=f"{Path(__file__).stem}:{kind.build.__name__}",
        trust=(Path(__file__).stem,),
        input_shapes=((kind.batch, 3 if side == 224 else 1, side, side),),
    )
    return Bench(source, TaskSource(data=str(samples)), folder)


def train(module: nn.Module, pair: Pair, how: Training) -> None:
    """Train a network on images, float32 (n, 1, 28, 28), the usual way."""
    images, labels = (torch.from_numpy(part[: how.images]) for part in pair)
    steps = len(images) // how.batch
    optimizer = torch.optim.AdamW(module.parameters(), lr=how.rate, weight_decay=how.decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps * how.epochs)
    module.train()
    for _ in range(how.epochs):
        for batch in torch.randperm(len(images))[: steps * how.batch].split(how.batch):
            optimizer.zero_grad()
            functional.cross_entropy(module(images[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    module.eval()
