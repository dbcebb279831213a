"""Samples as a network takes them, in any order; and the two sets that a task needs of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featherweight.engine.datasets.normalization import Normalization
from featherweight.engine.errors import UserError

Inputs = tuple[Tensor, ...]
Indices = Sequence[int]
INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.bool)


class Samples(Protocol):
    """Samples by number; images in files are read when they are asked for."""

    def __len__(self) -> int:
        """Return how many samples there are."""
        ...

    def batch(self, indices: Indices) -> tuple[Inputs, Tensor | None]:
        """Return the network's inputs, samples first, and their int64 labels where there are any.

        Raises UserError naming the file where a sample cannot be read or does not fit.
        """
        ...


@dataclass(frozen=True)
class Dataset:
    """What to recover on and what to measure on, never the same samples, and if they have labels.

    `largest_label` is None where labels are known only once a sample is read. `class_names` are
    those of the labels from 0 on, empty where nothing names them.
    """

    recovery: Samples
    measure: Samples
    labelled: bool
    largest_label: int | None = None
    class_names: tuple[str, ...] = ()


class TensorSamples:
    """Samples that are all in memory, in the network's shapes; uint8 means 0 to 255 for 0 to 1.

    `shape` is that of one sample in its file, empty where there is none.
    """

    def __init__(
        self,
        inputs: Inputs,
        labels: Tensor | None = None,
        normalize: Normalization | None = None,
        shape: tuple[int, ...] = (),
    ) -> None:
        self.inputs, self.labels, self.normalize, self.shape = inputs, labels, normalize, shape

    def __len__(self) -> int:
        return len(self.inputs[0])

    def batch(self, indices: Indices) -> tuple[Inputs, Tensor | None]:
        """Return the samples of these numbers."""
        chosen = torch.as_tensor(indices)
        made = tuple(self._floats(tensor[chosen]) for tensor in self.inputs)
        return made, None if self.labels is None else self.labels[chosen]

    def _floats(self, samples: Tensor) -> Tensor:
        if samples.dtype in INTEGERS:
            return samples.long()
        floats = samples.float() / 255 if samples.dtype == torch.uint8 else samples.float()
        return self.normalize(floats) if self.normalize else floats


class Subset:
    """Some of other samples."""

    def __init__(self, samples: Samples, chosen: Indices) -> None:
        self.samples, self.chosen = samples, chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def batch(self, indices: Indices) -> tuple[Inputs, Tensor | None]:
        """Return the samples of these numbers."""
        return self.samples.batch([self.chosen[index] for index in indices])


def shuffled(count: int, seed: int) -> list[int]:
    """Return the numbers below `count` in an order that a seed fixes, for data may lie by label."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()


def split(samples: Samples, where: str) -> tuple[Samples, Samples]:
    """Part one set into two thirds to recover on and a third to measure on, always the same way.

    Raises UserError naming `where` the samples are, if there are fewer than three.
    """
    if len(samples) < 3:
        raise UserError(f"{where} has {len(samples)} samples.", "Give at least three.")
    order = shuffled(len(samples), 0)
    third = len(samples) // 3
    return Subset(samples, sorted(order[third:])), Subset(samples, sorted(order[:third]))


def fitted(samples: npt.NDArray[np.generic], example: Tensor, where: str) -> Tensor:
    """Return samples in the shape and kind of the network's input (example, batch first).

    Channels may come last and sides of one may be missing. Raises UserError naming `where`.
    """
    wanted, given = tuple(example.shape[1:]), samples.shape[1:]
    if not example.is_floating_point() and samples.dtype.kind not in "iub":
        raise UserError(f"{where} holds {samples.dtype}, and the network takes whole numbers.")
    if samples.dtype.kind not in "iubf":
        raise UserError(f"{where} holds {samples.dtype}.", "Give numbers: uint8 or float32.")
    if given != wanted:
        if len(given) == 3 and (given[2], *given[:2]) == wanted:
            samples = np.moveaxis(samples, -1, 1)
        elif _without_ones(given) == _without_ones(wanted) or _flat(given) == wanted:
            samples = samples.reshape(len(samples), *wanted)
        else:
            raise UserError(
                f"{where} holds samples of shape {_shown(given)}, "
                f"and the network takes {_shown(wanted)}.",
                "Resize them, or open the network with the right input shape.",
            )
    if samples.dtype.kind == "f" and not np.isfinite(
        samples.min(initial=0) + samples.max(initial=0)
    ):
        raise UserError(
            f"{where} holds numbers that are not finite.", "Mend or drop those samples."
        )
    tensor = torch.from_numpy(np.require(samples, requirements=["C", "W"]))
    if not example.is_floating_point():
        return tensor.long()
    return tensor if tensor.dtype == torch.uint8 else tensor.float()


def labels_of(values: npt.NDArray[np.generic], count: int, where: str) -> Tensor:
    """Return int64 labels, one for each of `count` samples. Raises UserError naming `where`."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise UserError(
            f"{where} holds {values.dtype} of shape {_shown(values.shape)}, which are not labels.",
            "Give one whole number for each sample.",
        )
    if len(values) != count:
        raise UserError(
            f"{where} holds {len(values)} labels for {count} samples.", "Give one for each sample."
        )
    if count and int(values.min()) < 0:
        raise UserError(f"{where} holds the label {values.min()}.", "Count classes from zero.")
    return torch.from_numpy(values.astype(np.int64))


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _flat(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (int(np.prod(shape)),)


def _shown(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "()"
