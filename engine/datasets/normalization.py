"""Mean and deviation of a data set, as its files give them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor

from featherweight.engine.errors import UserError
from featherweight.engine.recipe import from_yaml

FILE = "normalization.json"


class NormalizationFile(Struct, frozen=True, forbid_unknown_fields=True):
    """What `normalization.json` beside images holds; samples are 0 to 1 when it is applied."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


@dataclass(frozen=True)
class Normalization:
    """Mean and deviation by channel (or one for all), taken from float samples."""

    mean: Tensor
    deviation: Tensor

    def __call__(self, samples: Tensor) -> Tensor:
        """Return normalized samples; (N, C, …) or, with one value, of any shape."""
        shape = (-1, *(1 for _ in samples.shape[2:])) if self.mean.numel() > 1 else ()
        return (samples - self.mean.reshape(shape)) / self.deviation.reshape(shape)


def normalization(mean: object, deviation: object, channels: int, where: str) -> Normalization:
    """Make a Normalization. Raises UserError naming `where` it stands."""
    try:
        both = [
            torch.tensor(np.asarray(value, np.float32)).flatten() for value in (mean, deviation)
        ]
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{where}: mean and deviation are not numbers.", "Give one of each."
        ) from error
    if any(value.numel() not in (1, channels) for value in both) or not bool((both[1] > 0).all()):
        raise UserError(
            f"{where}: mean and deviation do not fit samples of {channels} channels.",
            "Give one number or one for each channel, deviations above zero.",
        )
    wide = max(value.numel() for value in both)
    return Normalization(both[0].expand(wide), both[1].expand(wide))


def folder_normalization(folder: Path, channels: int) -> Normalization | None:
    """Read `normalization.json` of a folder; None where there is none. Raises UserError."""
    path = folder / FILE
    if not path.is_file():
        return None
    found = from_yaml(path.read_bytes(), NormalizationFile, str(path))
    return normalization(found.mean, found.deviation, channels, str(path))


def channels_of(example: Tensor) -> int:
    """Return the channels of an input, batch first; 1 where it has none."""
    return example.shape[1] if example.ndim > 1 else 1
