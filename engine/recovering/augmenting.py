"""Samples changed at random while a network trains, so that it does not learn them by heart.

Images are shifted (padded by an eighth of each side, at least a pixel, and cropped at random again;
He et al.: Deep Residual Learning, 2016) and mirrored left to right. The padding repeats the pixels
at the edge: zeros would be another colour wherever images are normalized otherwise.
"""

import torch
from torch import Tensor

from featherweight.engine.datasets.samples import Indices, Inputs, Samples
from featherweight.engine.errors import UserError
from featherweight.engine.network import Network
from featherweight.engine.trainings import FineTuning

# The standard deviation of noise, of that of a sample.
NOISE = 0.1
LARGEST_SHIFT = 1 / 8
TO_NONE = "Set the augmentation of the recovery to none"


class Augmented:
    """Samples as a step of a training sees them, each changed by chances of its own.

    The seed and the step fix them. All images of a sample move together.
    """

    def __init__(self, samples: Samples, settings: FineTuning, seed: int) -> None:
        self.samples, self.kind, self.seed = samples, settings.augmentation, seed
        self.step = 0

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self, indices: Indices) -> tuple[Inputs, Tensor | None]:
        """Return the changed samples of these numbers, and their labels as they are."""
        inputs, labels = self.samples.batch(indices)
        random = torch.Generator().manual_seed(self.seed * 100_000_007 + self.step)
        if self.kind == "noise":
            return tuple(_noisy(x, random) for x in inputs), labels
        shifts, flips = torch.rand(2, len(indices), generator=random), None
        if "flip" in self.kind:
            flips = torch.rand(len(indices), generator=random) < 0.5
        if "shift" not in self.kind:
            shifts = torch.full_like(shifts, 0.5)
        return tuple(_moved(x, shifts, flips) if is_image(x) else x for x in inputs), labels


def check_augmentation(network: Network, settings: FineTuning) -> None:
    """Raise UserError where no input of the network can be changed as the settings want it."""
    kind = settings.augmentation
    if kind == "noise" and not any(x.is_floating_point() for x in network.example):
        raise UserError(
            "The recovery adds noise to samples, and the network takes whole numbers only.",
            f"{TO_NONE}.",
        )
    if kind not in ("none", "noise") and not any(is_image(x) for x in network.example):
        words = {"shift": "shifts", "flip": "mirrors"}.get(kind, "shifts and mirrors")
        raise UserError(
            f"The recovery {words} images, and the network takes none.", f"{TO_NONE} or to noise."
        )


def is_image(x: Tensor) -> bool:
    """Say whether an input is a batch of images: floats, (N, C, H, W)."""
    return x.ndim == 4 and x.is_floating_point()


def _noisy(x: Tensor, random: torch.Generator) -> Tensor:
    if not x.is_floating_point():
        return x
    spread = x.flatten(1).std(1, correction=0).reshape(-1, *(1,) * (x.ndim - 1))
    return x + NOISE * spread * torch.randn(x.shape, generator=random)


def _moved(x: Tensor, shifts: Tensor, flips: Tensor | None) -> Tensor:
    """Return images (N, C, H, W) moved by shares (2, N) of the largest shift, 0.5 for not at all.

    `flips` (N,) says which are mirrored.
    """
    rows, columns = (_places(size, share) for size, share in zip(x.shape[2:], shifts, strict=True))
    if flips is not None:
        columns = torch.where(flips[:, None], columns.flip(1), columns)
    samples = torch.arange(len(x))[:, None, None, None]
    channels = torch.arange(x.shape[1])[None, :, None, None]
    return x[samples, channels, rows[:, None, :, None], columns[:, None, None, :]]


def _places(size: int, share: Tensor) -> Tensor:
    """Return where the pixels (N, size) of a side come from when it is moved."""
    most = max(1, int(size * LARGEST_SHIFT))
    moves = (share * (2 * most + 1)).floor().long() - most
    return (torch.arange(size) + moves[:, None]).clamp(0, size - 1)
