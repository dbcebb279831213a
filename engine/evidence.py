"""What data says of a layer's weights: plain results that methods may ask for.

A method names its needs; `calibrating` measures them on samples of the task. A matrix view of a
weight, (groups, rows, columns), has one row per output and one column per input that meets it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from featherweight.engine.coefficient_layers import CoefficientLayer
from featherweight.engine.network import Network

Need = Literal["moments", "gradients", "jacobian"]
Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


@dataclass(frozen=True)
class InputMoments:
    """Moments of the inputs x that one weight is multiplied with, over samples and positions.

    `blocks` are E[x xᵀ] of consecutive columns, each (groups, width, width), float32; their widths
    add up to the columns, and what lies between two blocks was not measured. `mean` is E[x],
    (groups, columns). `transposed` says that the weight has its inputs along the first axis.
    """

    groups: int
    blocks: tuple[Tensor, ...]
    mean: Tensor
    transposed: bool = False

    def matrix(self, weight: Tensor) -> Tensor:
        """Return the matrix view of a weight: (groups, rows, columns), a copy or a view."""
        if not self.transposed:
            return weight.reshape(self.groups, weight.shape[0] // self.groups, -1)
        split = weight.reshape(self.groups, -1, *weight.shape[1:])
        return split.transpose(1, 2).flatten(2)

    def weight(self, matrix: Tensor, shape: torch.Size) -> Tensor:
        """Return the weight of this shape whose matrix view is `matrix`."""
        if not self.transposed:
            return matrix.reshape(shape)
        split = matrix.reshape(self.groups, shape[1], shape[0] // self.groups, *shape[2:])
        return split.transpose(1, 2).reshape(shape)

    def parts(self) -> Iterator[tuple[int, slice, Tensor]]:
        """Give each group and range of columns with its moments, (width, width)."""
        for group in range(self.groups):
            start = 0
            for block in self.blocks:
                width = block.shape[-1]
                yield group, slice(start, start + width), block[group]
                start += width

    def describes(self, weight: Tensor) -> bool:
        """Say whether weight and moments are finite, so that one can go by the other."""
        return all(bool(tensor.isfinite().all()) for tensor in (weight, *self.blocks))

    def input_squares(self, weight: Tensor) -> Tensor:
        """Return E[x²] of the input that each element of a weight meets, of the weight's shape."""
        diagonals = torch.cat([block.diagonal(dim1=1, dim2=2) for block in self.blocks], 1)
        matrix = diagonals[:, None].expand_as(self.matrix(weight))
        return self.weight(matrix.contiguous(), weight.shape)

    def power(self, difference: Tensor) -> float:
        """Return E‖D x‖² of a difference D of weights (the weight's shape), summed over outputs."""
        matrix = self.matrix(difference)
        total = 0.0
        for group, columns, moments in self.parts():
            part = matrix[group][:, columns]
            total += float(((part @ moments) * part).sum(dtype=torch.float64))
        return max(total, 0.0)

    def shift(self, difference: Tensor) -> Tensor:
        """Return E[D x] of a difference D of weights (the weight's shape): (outputs,)."""
        return torch.einsum("gij,gj->gi", self.matrix(difference), self.mean).flatten()


@dataclass(frozen=True)
class Gradients:
    """What the loss says of one weight, mean over samples of each sample's own gradient g.

    `squares` is E[g²], the empirical Fisher diagonal, of the weight's shape. `rows` is E[(g·w)²],
    g·w summed over what makes each output: (outputs,), or None where outputs make no rows. `mean`
    is E[g], of the weight's shape, None where it says nothing.
    """

    squares: Tensor
    rows: Tensor | None = None
    mean: Tensor | None = None


@dataclass(frozen=True)
class Evidence:
    """All that was measured of one weight tensor; None is what nobody asked for or could tell.

    `jacobian` are rows J over samples and outputs, (rows, weights): those of several layers side by
    side give the curvature JᵀJ of the loss in all their weights.
    """

    moments: InputMoments | None = None
    gradients: Gradients | None = None
    jacobian: Tensor | None = None


NOTHING = Evidence()
# Evidence by layer and by the name of the tensor in it.
Found = Mapping[str, Mapping[str, Evidence]]
Collect = Callable[[Network, Mapping[str, frozenset[Need]]], Found]


def nothing(_: Network, __: Mapping[str, frozenset[Need]]) -> Found:
    """Measure nothing: what a prediction has."""
    return {}


def input_lock(layer: nn.Module) -> str:
    """Return why the inputs of a layer's weights cannot be measured, a sentence; empty if so."""
    if isinstance(layer, nn.Linear | Convolution | Transposed | CoefficientLayer):
        return ""
    if isinstance(layer, nn.Embedding):
        return "An embedding multiplies its rows with nothing, so data says nothing of them."
    return f"The inputs of {type(layer).__name__} layers cannot be measured."
