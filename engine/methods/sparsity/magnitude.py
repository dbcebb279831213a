"""Keep the weights of the largest magnitude.

Han, Pool, Tran, Dally: Learning both Weights and Connections for Efficient Neural Networks (2015).
"""

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from featherweight.engine.methods.method import SparsityMethod
from featherweight.engine.options import number
from featherweight.engine.weight_forms import form_lock


class Magnitude(SparsityMethod, frozen=True, kw_only=True):
    """Zeros the smallest weights of every tensor; the file shrinks, the speed stays."""

    name: ClassVar[str] = "magnitude"
    title: ClassVar[str] = "Smallest weights to zero"
    label: ClassVar[str] = "Sparse {}"
    advice: ClassVar[str] = (
        "Makes most weights exactly zero, which entropy coding or a sparse index then stores in "
        "next to nothing. Recover accuracy afterwards. It does not make the network faster."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file"
    strength: ClassVar[str] = "sparsity"

    sparsity: Annotated[
        float, number("Sparsity", "The share of weights that become zero.", 0.0, 0.99)
    ] = 0.5

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer's weights cannot be zeroed; empty if they can."""
        return form_lock(layer)

    def mask(self, weight: Tensor) -> Tensor:
        """Return a bool tensor of the weight's shape, True at the `kept` largest magnitudes.

        Among equal magnitudes those earlier in the tensor stay.
        """
        magnitudes = weight.detach().abs().reshape(-1).numpy()
        kept = self.kept(magnitudes.size)
        mask = np.ones(magnitudes.size, bool)
        if kept < magnitudes.size:
            # What is not a number counts as large, so that as many stay as promised.
            magnitudes = np.nan_to_num(magnitudes, nan=np.inf, posinf=np.inf)
            bound = np.partition(magnitudes, magnitudes.size - kept)[magnitudes.size - kept]
            mask = magnitudes > bound
            ties = np.flatnonzero(magnitudes == bound)
            mask[ties[: kept - np.count_nonzero(mask)]] = True
        return torch.from_numpy(mask).reshape(weight.shape)

    def kept(self, count: int) -> int:
        """Return how many of `count` weights stay."""
        # The nudge undoes what floats lose: 0.29 × 100 is 28.999….
        return count - int(count * self.sparsity + 1e-9)
