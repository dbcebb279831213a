"""A folder with a folder of images for each class, read image by image when they are needed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from featherweight.engine.datasets.normalization import (
    Normalization,
    channels_of,
    folder_normalization,
)
from featherweight.engine.datasets.samples import (
    Dataset,
    Indices,
    Inputs,
    Samples,
    fitted,
    split,
)
from featherweight.engine.errors import UserError

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
ARRAYS = (".npy",)
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
RECOVERY, MEASURE = ("train", "recovery"), ("val", "valid", "test", "measure")


@dataclass(frozen=True)
class FolderSamples:
    """Image files with the number of their class, made to fit a network's input."""

    files: tuple[Path, ...]
    labels: tuple[int, ...]
    example: Tensor
    normalize: Normalization | None

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, indices: Indices) -> tuple[Inputs, Tensor | None]:
        """Return float samples and labels. Raises UserError naming a file that cannot be read."""
        samples = torch.cat([self._sample(self.files[index]) for index in indices])
        if self.normalize:
            samples = self.normalize(samples)
        return (samples,), torch.tensor([self.labels[index] for index in indices])

    def _sample(self, path: Path) -> Tensor:
        try:
            if path.suffix.lower() in ARRAYS:
                values = np.load(path, allow_pickle=False)
            else:
                with Image.open(path) as image:
                    values = np.asarray(_prepared(image, self.example))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError(
                f"{path} cannot be read: {error}.", "Mend it or take it out of the folder."
            ) from error
        found = fitted(values[None], self.example, str(path))
        return found.float() / 255 if found.dtype == torch.uint8 else found


def matches(path: Path) -> bool:
    """Say whether the path is a folder of folders."""
    return path.is_dir() and any(child.is_dir() for child in path.iterdir())


def read(path: Path, example: Inputs) -> Dataset:
    """List the folder for a network with one image as its input.

    `train` and `val` (or `test`) inside it are taken as they are; else the images are split.
    Classes count from zero in the order of their names. Raises UserError naming the folder.
    """
    image = example[0]
    if len(example) > 1 or image.ndim != 4 or not image.is_floating_point():
        shapes = ", ".join("×".join(map(str, tensor.shape[1:])) for tensor in example)
        raise UserError(
            f"{path} holds images, and the network takes {shapes}.",
            "Give the data as a Python file made from the template.",
        )
    parts = [_part(path, names) for names in (RECOVERY, MEASURE)]
    if parts[0] and parts[1]:
        names = _classes(parts[0])
        recovery, measure = (_listed(part, names, path, image) for part in parts if part)
        return _dataset(recovery, measure, names)
    names = _classes(path)
    samples = _listed(path, names, path, image)
    return _dataset(*split(samples, str(path)), names)


def _dataset(recovery: Samples, measure: Samples, names: list[str]) -> Dataset:
    largest = len(names) - 1
    return Dataset(recovery, measure, True, largest_label=largest, class_names=tuple(names))


def _part(path: Path, names: tuple[str, ...]) -> Path | None:
    return next((path / name for name in names if (path / name).is_dir()), None)


def _classes(path: Path) -> list[str]:
    return sorted(child.name for child in path.iterdir() if child.is_dir())


def _listed(folder: Path, names: list[str], root: Path, image: Tensor) -> FolderSamples:
    if unknown := set(_classes(folder)) - set(names):
        raise UserError(
            f"{folder} has the class {min(unknown)}, which is not among those to recover on.",
            "Use the same folder names in both parts.",
        )
    kinds = IMAGES + ARRAYS
    found = [
        (file, label)
        for label, name in enumerate(names)
        for file in sorted((folder / name).glob("*"))
        if file.suffix.lower() in kinds
    ]
    if not found:
        raise UserError(
            f"{folder} holds no images in its class folders.", f"They end in {', '.join(kinds)}."
        )
    files, labels = zip(*found, strict=True)
    normalize = folder_normalization(root, channels_of(image))
    return FolderSamples(files, labels, image, normalize)


def _prepared(image: Image.Image, example: Tensor) -> Image.Image:
    channels, height, width = example.shape[1:]
    if channels not in MODES:
        raise ValueError(f"an image has no {channels} channels")
    upright = ImageOps.exif_transpose(image).convert(MODES[channels])
    return ImageOps.fit(upright, (width, height), Image.Resampling.BILINEAR)
