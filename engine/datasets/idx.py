"""IDX files, the format of MNIST: a folder with train and t10k images and labels, gzip or not."""

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from featherweight.engine.datasets.normalization import channels_of, folder_normalization
from featherweight.engine.datasets.samples import (
    Dataset,
    Inputs,
    Samples,
    TensorSamples,
    fitted,
    labels_of,
    split,
)
from featherweight.engine.errors import UserError

TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
# Real samples never shrink so much; a few packed bytes could otherwise ask for all memory.
ALWAYS_BYTES, MOST_PACKED = 1 << 28, 100
IMAGES, LABELS = "{}-images-idx3-ubyte", "{}-labels-idx1-ubyte"
Array = npt.NDArray[Any]


def idx_file(folder: Path, name: str) -> Path | None:
    """Return the file of that name in the folder, packed or not; None where there is none."""
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)


def read_idx(path: Path) -> Array:
    """Read one IDX file as an array. Raises UserError where it is damaged."""
    most = max(ALWAYS_BYTES, MOST_PACKED * path.stat().st_size)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(most)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}.", "Copy or download it again.") from error
    kind, rank = (data[2], data[3]) if len(data) >= 4 and data[:2] == b"\0\0" else (0, 0)
    start = 4 + 4 * rank
    if kind not in TYPES or not rank or len(data) < start:
        raise UserError(f"{path} is not an IDX file.", "Name a folder with files of MNIST's kind.")
    shape = np.frombuffer(data, ">u4", rank, 4).tolist()
    type_ = np.dtype(TYPES[kind])
    expected = start + math.prod(shape) * type_.itemsize
    if len(data) != expected:
        raise UserError(
            f"{path} has {len(data)} bytes where its header says {expected}.",
            "Copy or download it again.",
        )
    return np.frombuffer(data, type_, offset=start).reshape(shape).astype(type_.newbyteorder("="))


def matches(path: Path) -> bool:
    """Say whether the path is a folder of this format."""
    return path.is_dir() and idx_file(path, IMAGES.format("train")) is not None


def read(path: Path, example: Inputs) -> Dataset:
    """Read the folder for a network with such inputs; without t10k files it is split.

    Raises UserError naming the file where it is damaged or does not fit.
    """
    normalize = folder_normalization(path, channels_of(example[0]))
    train = _part(path, "train", example)
    recovery: Samples = TensorSamples(*train[:2], normalize, train[2])
    largest = int(train[1].max())
    if idx_file(path, IMAGES.format("t10k")) is None:
        recovery, measure = split(recovery, str(path))
    else:
        test = _part(path, "t10k", example)
        largest = max(largest, int(test[1].max()))
        measure = TensorSamples(*test[:2], normalize, test[2])
    return Dataset(recovery, measure, labelled=True, largest_label=largest)


def _part(folder: Path, part: str, example: Inputs) -> tuple[Inputs, Tensor, tuple[int, ...]]:
    found = []
    for name in (IMAGES.format(part), LABELS.format(part)):
        path = idx_file(folder, name)
        if path is None:
            raise UserError(f"{folder} has no {name}.", "Put it beside the other IDX files.")
        found.append((path, read_idx(path)))
    (images_path, images), (labels_path, labels) = found
    if not len(images):
        raise UserError(f"{images_path} holds no samples.", "Choose a file that has some.")
    fitting = fitted(images, example[0], str(images_path))
    numbers = labels_of(labels, len(images), str(labels_path))
    return (fitting,), numbers, images.shape[1:]
