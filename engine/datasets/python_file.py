"""A Python file of the user's that gives the samples; its code runs only where it is trusted."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from featherweight.engine.datasets.samples import Dataset, Indices, Inputs
from featherweight.engine.errors import USER_CODE_ERRORS, TrustNeededError, UserError

NAMES = ("recovery", "measure")
# What other people's code may end with; what is not here is no fault of a data set.
MEND = "The template shows what the file has to give."


class PythonSamples:
    """Samples of an object that has a length and gives `(sample, label)` for a number."""

    def __init__(self, path: Path, name: str, given: Any, example: Inputs) -> None:
        self.where, self.given, self.example = f"{path}: {name}()", given, example
        self.count = int(run(lambda: len(given), self.where))
        if self.count < 1:
            raise UserError(f"{self.where} gives no samples.")

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: Indices) -> tuple[Inputs, Tensor | None]:
        """Return the samples of these numbers; None for labels where the file gives None.

        Raises UserError naming the file and the sample that does not fit.
        """
        found = [self._sample(index) for index in indices]
        inputs = tuple(torch.stack(tensors) for tensors in zip(*(f[0] for f in found), strict=True))
        labels = [label for _, label in found]
        if any(label is None for label in labels):
            return inputs, None
        return inputs, torch.tensor(labels)

    def _sample(self, index: int) -> tuple[Inputs, int | None]:
        where = f"{self.where}[{index}]"
        pair = run(lambda: self.given[index], where)
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise UserError(f"{where} is not a pair of sample and label.", MEND)
        given, label = pair
        tensors = given if isinstance(given, tuple) else (given,)
        shapes = [tuple(tensor.shape) for tensor in tensors if isinstance(tensor, Tensor)]
        wanted = [tuple(tensor.shape[1:]) for tensor in self.example]
        if shapes != wanted or len(shapes) != len(tensors):
            raise UserError(f"{where} is of shape {shapes}, and the network takes {wanted}.", MEND)
        if label is not None and (not isinstance(label, int) or label < 0):
            raise UserError(f"{where} has the label {label!r}, not a whole number from 0.", MEND)
        kinds = [example.dtype for example in self.example]
        return tuple(t.to(kind) for t, kind in zip(tensors, kinds, strict=True)), label


def matches(path: Path) -> bool:
    """Say whether the path is a Python file."""
    return path.suffix == ".py" and path.is_file()


def read(path: Path, example: Inputs, trust: tuple[str, ...]) -> Dataset:
    """Run the file, if `trust` names it, and take what its recovery() and measure() give.

    Raises TrustNeededError where it is not trusted (nothing of it was run), and UserError where
    it fails or gives something else, naming the file.
    """
    if not {str(path), str(path.resolve()), path.name, path.stem} & set(trust):
        raise TrustNeededError(str(path), (str(path),), "it gives the samples")
    module = _module(path)
    parts = []
    for name in NAMES:
        function = getattr(module, name, None)
        if not callable(function):
            raise UserError(f"{path} has no function {name}().", MEND)
        parts.append(PythonSamples(path, name, run(function, f"{path}: {name}()"), example))
    labelled = all(part.batch([0])[1] is not None for part in parts)
    return Dataset(parts[0], parts[1], labelled)


def run(call: Callable[[], Any], where: str) -> Any:
    """Call into the user's code. Raises UserError with what went wrong and `where`."""
    try:
        return call()
    except USER_CODE_ERRORS as error:
        raise UserError(f"{where} failed: {type(error).__name__}: {error}.", MEND) from error


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file.", MEND)
    module, loader = importlib.util.module_from_spec(spec), spec.loader
    run(lambda: loader.exec_module(module), str(path))
    return module
