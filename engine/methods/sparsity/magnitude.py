"""Keep the weights of the largest magnitude.

Han, Pool, Tran, Dally: Learning both Weights and Connections for Efficient Neural Networks (2015).
"""

from typing import ClassVar, Literal

from torch import Tensor, nn

from featherweight.engine.methods.budgets import ShareMethod
from featherweight.engine.methods.masks import largest
from featherweight.engine.weight_forms import form_lock


class Magnitude(ShareMethod, frozen=True, kw_only=True):
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

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer's weights cannot be zeroed; empty if they can."""
        return form_lock(layer)

    def mask(self, weight: Tensor) -> Tensor:
        """Return a bool tensor of the weight's shape, True at the `kept` largest magnitudes.

        Among equal magnitudes those earlier in the tensor stay.
        """
        return largest(weight.detach().abs(), self.kept(weight.numel()))
