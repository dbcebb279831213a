"""Keep in every row the weights that weigh most on the data that the layer sees.

Sun, Liu, Bair, Kolter: A Simple and Effective Pruning Approach for Large Language Models (2023).
"""

from typing import ClassVar, Literal

from torch import Tensor, nn

from featherweight.engine.evidence import NOTHING, Evidence, Need, input_lock
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.budgets import ShareMethod
from featherweight.engine.methods.masks import largest_of_rows
from featherweight.engine.weight_forms import form_lock


class Wanda(ShareMethod, frozen=True, kw_only=True):
    """Zeros in the row of every output the weights of the smallest |w|·‖x‖.

    ‖x‖ is the root mean square of the input that a weight is multiplied with. Where it was not
    measured, magnitude decides.
    """

    name: ClassVar[str] = "wanda"
    title: ClassVar[str] = "Wanda"
    label: ClassVar[str] = "Wanda {}"
    advice: ClassVar[str] = (
        "Zeros the same share of every output, by weight times input on the data. Made for large "
        "language models; on small networks OBS keeps far more. The file shrinks, the speed stays."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file"
    strength: ClassVar[str] = "sparsity"

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer's weights cannot be zeroed by data; empty if they can."""
        return form_lock(layer) or input_lock(layer)

    def needs(self) -> frozenset[Need]:
        """Return moments."""
        return frozenset({"moments"})

    def mask(self, weight: Tensor) -> Tensor:
        """Return what stays where nothing was measured: the largest magnitudes of every row."""
        rows = weight.detach().abs().flatten(1)
        return largest_of_rows(rows, self.kept(weight.numel())).reshape(weight.shape)

    def pruned(
        self,
        weight: Tensor,
        evidence: Evidence = NOTHING,
        check: Check = unchecked,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        """Return the weight as it is and the mask of every row's largest scores."""
        moments = evidence.moments
        if moments is None:
            return weight, self.mask(weight)
        scores = moments.input_squares(weight).sqrt() * weight.abs()
        matrix = moments.matrix(scores)
        kept = largest_of_rows(matrix.flatten(0, 1), self.kept(weight.numel()))
        return weight, moments.weight(kept.reshape(matrix.shape), weight.shape)
