"""Train the demo network on Fashion-MNIST and write `network.safetensors` and `data.npz`.

python -m featherweight.resources.demo.train [FOLDER] [--into FOLDER] [--epochs N]

FOLDER holds the four IDX files, as Debian's package dataset-fashion-mnist installs them. Of the
60,000 training images 4,000 are held out to recover on; 2,000 test images are to measure on.
"""

import argparse
import logging
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from featherweight.engine.datasets.idx import read_idx
from featherweight.resources.demo.network import build

INSTALLED = Path("/usr/share/datasets/fashion-mnist")
MEAN, DEVIATION = 0.2860, 0.3530
RECOVERY, MEASURE = 4000, 2000
NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
BATCH = 128


def main() -> None:
    """Train, say how good it got, write both files."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=INSTALLED)
    parser.add_argument("--into", type=Path, default=Path(__file__).parent)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    images, labels = _read(options.folder, "train")
    test_images, test_labels = _read(options.folder, "t10k")
    torch.manual_seed(0)
    order = torch.randperm(len(images))
    held_out, trained_on = order[:RECOVERY], order[RECOVERY:]
    network = build()
    _train(network, images[trained_on], labels[trained_on], options.epochs)
    accuracy = _accuracy(network, test_images, test_labels)
    logging.info("top-1 on %d test images: %.2f %%", len(test_images), 100 * accuracy)
    (options.into / "network.safetensors").write_bytes(save(network.state_dict()))
    np.savez_compressed(
        options.into / "data.npz",
        recovery_images=images[held_out].numpy(),
        recovery_labels=labels[held_out].numpy().astype(np.uint8),
        measure_images=test_images[:MEASURE].numpy(),
        measure_labels=test_labels[:MEASURE].numpy().astype(np.uint8),
        mean=np.array([MEAN], np.float32),
        deviation=np.array([DEVIATION], np.float32),
        class_names=np.array(NAMES),
    )


def _read(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
    return torch.from_numpy(images)[:, None], torch.from_numpy(labels).long()


def _floats(images: Tensor) -> Tensor:
    return (images.float() / 255 - MEAN) / DEVIATION


def _train(network: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    network.train()
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.2, total_steps=steps * epochs, pct_start=0.25
    )
    began = time.monotonic()
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(images))[: steps * BATCH].split(BATCH):
            inputs = _floats(images[batch])
            flipped = torch.rand(BATCH) < 0.5
            inputs[flipped] = inputs[flipped].flip(3)
            loss = functional.cross_entropy(network(inputs), labels[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        seconds = time.monotonic() - began
        logging.info("epoch %d of %d: loss %.3f, %.0f s", epoch + 1, epochs, total / steps, seconds)


@torch.no_grad()
def _accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    network.eval()
    found = torch.cat([network(_floats(batch)).argmax(1) for batch in images.split(500)])
    return float((found == labels).double().mean())


if __name__ == "__main__":
    main()
