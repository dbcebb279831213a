"""IDX files, the format of MNIST: a folder with train and t10k images and labels, gzip or not."""

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featherweight.engine.errors import UserError

TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
Array = npt.NDArray[Any]


def idx_file(folder: Path, name: str) -> Path | None:
    """Return the file of that name in the folder, packed or not; None where there is none."""
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)


def read_idx(path: Path) -> Array:
    """Read one IDX file as an array. Raises UserError where it is damaged."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read: {error}.", "Copy or download it again.") from error
    kind, rank = (data[2], data[3]) if len(data) >= 4 and data[:2] == b"\0\0" else (0, 0)
    start = 4 + 4 * rank
    if kind not in TYPES or len(data) < start:
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
