"""How a share of weights that go is divided among layers."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

import msgspec
import numpy as np
import torch
from torch import Tensor

from featherweight.engine.methods.masks import largest
from featherweight.engine.methods.method import SparsityMethod
from featherweight.engine.options import number, words

Budget = Literal["layer", "global", "erk", "lamp"]


class ShareMethod(SparsityMethod, frozen=True, kw_only=True):
    """A sparsity that zeros a share of the weights, of each layer or of many together.

    Layers of equal options and a budget other than "layer" lose the share together. How much of it
    each one loses is told by the weights of the network as it was opened: "global" by the largest
    magnitudes of all, "erk" by the shapes (Evci et al.: Rigging the Lottery, 2020), "lamp" by
    w² over the sum of squares that are not smaller (Lee et al.: Layer-Adaptive Sparsity, 2021).
    """

    sparsity: Annotated[
        float, number("Sparsity", "The share of weights that become zero.", 0.0, 0.99)
    ] = 0.5
    budget: Annotated[
        Budget,
        words(
            "Budget",
            "Every layer loses the share, or layers of equal options lose it together: by "
            "magnitude, by their shapes (erk), or by magnitude within each layer (lamp).",
        ),
    ] = "layer"

    def kept(self, count: int) -> int:
        """Return how many of `count` weights stay."""
        # The nudge undoes what floats lose: 0.29 × 100 is 28.999….
        return count - int(count * self.sparsity + 1e-9)

    def shared_out(self, weights: Mapping[str, Sequence[Tensor]]) -> dict[str, Self]:
        """Return each layer's own method, which no longer depends on the others.

        In all, as many weights stay as of one tensor that holds them all; a layer of several
        tensors may keep one more for each. Every layer keeps at least one.
        """
        if self.budget == "layer":
            return dict.fromkeys(weights, self)
        counts = np.array([sum(map(Tensor.numel, each)) for each in weights.values()])
        kept = _kept(self.budget, list(weights.values()), counts, self.kept(int(counts.sum())))
        # Half a weight more is far from the whole numbers on both sides, whatever floats lose.
        gone = [(count - stay + 0.5) / count for count, stay in zip(counts, kept, strict=True)]
        return {
            name: msgspec.structs.replace(self, sparsity=float(share), budget="layer")
            for name, share in zip(weights, gone, strict=True)
        }


def _kept(
    budget: Budget, weights: list[Sequence[Tensor]], counts: np.ndarray, total: int
) -> list[int]:
    if budget == "erk":
        return _whole(_by_shape(weights, counts, total), counts, total)
    flat = [torch.cat([tensor.detach().reshape(-1).abs() for tensor in each]) for each in weights]
    scores = [_adaptive(each) for each in flat] if budget == "lamp" else flat
    mask = largest(torch.cat(scores), total)
    found = np.array([int(part.sum()) for part in mask.split(counts.tolist())])
    return _whole(found.astype(float), counts, total)


def _by_shape(weights: list[Sequence[Tensor]], counts: np.ndarray, total: int) -> np.ndarray:
    """Return how many stay where density goes by the sum over the product of a shape's sizes."""
    density = np.array(
        [sum(sum(tensor.shape) for tensor in each) for each in weights] / counts.astype(float)
    )
    full = np.zeros(len(counts), bool)
    while not full.all():
        # Layers that would keep more than all keep all; what they leave goes to the others.
        factor = (total - counts[full].sum()) / (density * counts)[~full].sum()
        over = ~full & (factor * density > 1.0)
        if not over.any():
            break
        full |= over
    stay: np.ndarray = np.where(full, counts, factor * density * counts)
    return stay


def _whole(stay: np.ndarray, counts: np.ndarray, total: int) -> list[int]:
    """Return whole numbers that add up to the total, at least one for each layer."""
    whole = np.clip(np.floor(stay + 1e-6).astype(int), 1, counts)
    for at in np.argsort(whole - stay, kind="stable"):
        whole[at] += int(whole.sum() < total and whole[at] < counts[at])
    while whole.sum() > total and whole.max() > 1:
        whole[whole.argmax()] -= 1
    while whole.sum() < total:
        whole[(counts - whole).argmax()] += 1
    return [int(count) for count in whole]


def _adaptive(magnitudes: Tensor) -> Tensor:
    """Return w² over the sum of all squares of the layer that are not smaller, in float32."""
    order = magnitudes.nan_to_num(nan=torch.inf).argsort(stable=True)
    squares = magnitudes[order].double().square()
    sums = squares.flip(0).cumsum(0).flip(0)
    scores = torch.empty_like(magnitudes)
    scores[order] = (squares / sums).nan_to_num(nan=0.0).float()
    return scores
