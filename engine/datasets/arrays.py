"""`.npz` files: arrays of samples and labels under one of three sets of names."""

import tokenize
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from featherweight.engine.datasets.normalization import (
    Normalization,
    channels_of,
    normalization,
)
from featherweight.engine.datasets.samples import (
    Dataset,
    Inputs,
    Samples,
    TensorSamples,
    fitted,
    labels_of,
    split,
)
from featherweight.engine.errors import UserError, plain_reason

Arrays = dict[str, npt.NDArray[Any]]
# Samples and labels to recover on, then to measure on.
PAIRS = (
    (("recovery_images", "recovery_labels"), ("measure_images", "measure_labels")),
    (("x_train", "y_train"), ("x_test", "y_test")),
)
WHOLE = ("images", "labels")
DAMAGE = (AttributeError, EOFError, LookupError, MemoryError, OSError, TypeError, ValueError)
# Real samples never shrink so much; a few packed bytes could otherwise ask for all memory.
ALWAYS_BYTES, MOST_PACKED = 1 << 28, 100


def matches(path: Path) -> bool:
    """Say whether the path is a file of this format."""
    return path.suffix == ".npz" and path.is_file()


def read(path: Path, example: Inputs) -> Dataset:
    """Read the file for a network with such inputs.

    Names: `recovery_images`, `recovery_labels`, `measure_images`, `measure_labels`; or `x_train`,
    `y_train`, `x_test`, `y_test`; or `images`, `labels`, which are split. Labels may be missing;
    `mean`, `deviation` and `class_names` may be there. Raises UserError naming the file and the
    key.
    """
    arrays = _arrays(path)
    normalize = _normalization(path, arrays, example[0])
    names = _class_names(path, arrays)
    for recovery, measure in PAIRS:
        if recovery[0] in arrays and measure[0] in arrays:
            sets = [
                _samples(path, arrays, keys, example, normalize) for keys in (recovery, measure)
            ]
            return _dataset(path, sets, (sets[0], sets[1]), names)
    if WHOLE[0] not in arrays:
        raise UserError(
            f"{path} holds {', '.join(arrays) or 'nothing'}, which says nothing of samples.",
            "Name the arrays recovery_images, recovery_labels, measure_images, measure_labels, "
            "or images and labels.",
        )
    samples = _samples(path, arrays, WHOLE, example, normalize)
    return _dataset(path, [samples], split(samples, str(path)), names)


def _arrays(path: Path) -> Arrays:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            _check_size(stored.zip, path)
            arrays = {key: stored[key] for key in stored.files}
    except (*DAMAGE, zipfile.BadZipFile, tokenize.TokenError) as error:
        raise UserError(
            f"{path} cannot be read: {plain_reason(error)}.",
            "Write it with numpy.savez, without Python objects.",
        ) from error
    for key, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise UserError(f"{path}: {key} is no array.", "Write it with numpy.savez.")
    return arrays


def _check_size(archive: zipfile.ZipFile, path: Path) -> None:
    size = sum(member.file_size for member in archive.infolist())
    if size > max(ALWAYS_BYTES, MOST_PACKED * path.stat().st_size):
        raise ValueError(f"its {size >> 20} MB of arrays are out of proportion to the file")


def _normalization(path: Path, arrays: Arrays, example: Tensor) -> Normalization | None:
    if "mean" not in arrays and "deviation" not in arrays:
        return None
    mean, deviation = arrays.get("mean", 0.0), arrays.get("deviation", 1.0)
    return normalization(mean, deviation, channels_of(example), str(path))


def _samples(
    path: Path,
    arrays: Arrays,
    keys: tuple[str, str],
    example: Inputs,
    normalize: Normalization | None,
) -> TensorSamples:
    where = f"{path}: {keys[0]}"
    if len(example) > 1:
        raise UserError(
            f"{path} holds one array of samples, and the network takes {len(example)} inputs.",
            "Give the data as a Python file made from the template.",
        )
    images = arrays[keys[0]]
    if images.ndim == 0 or not len(images):
        raise UserError(f"{where} holds no samples.", "Choose a file that has some.")
    labels = arrays.get(keys[1])
    return TensorSamples(
        (fitted(images, example[0], where),),
        None if labels is None else labels_of(labels, len(images), f"{path}: {keys[1]}"),
        normalize,
        images.shape[1:],
    )


def _class_names(path: Path, arrays: Arrays) -> tuple[str, ...]:
    names = arrays.get("class_names")
    if names is None:
        return ()
    if names.ndim != 1 or names.dtype.kind != "U":
        raise UserError(f"{path}: class_names is no row of words.", "Give one word for each class.")
    return tuple(names.tolist())


def _dataset(
    path: Path,
    sets: list[TensorSamples],
    parts: tuple[Samples, Samples],
    names: tuple[str, ...],
) -> Dataset:
    labels = [samples.labels for samples in sets if samples.labels is not None]
    if len(labels) not in (0, len(sets)):
        raise UserError(f"{path} has labels for only one of its two sets.", "Add the other ones.")
    largest = max((int(values.max()) for values in labels), default=None)
    return Dataset(*parts, bool(labels), largest, names)
