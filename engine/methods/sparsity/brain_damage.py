"""Keep the weights whose loss would cost most, by a diagonal of second derivatives.

LeCun, Denker, Solla: Optimal Brain Damage (1990).
"""

from typing import Annotated, ClassVar, Literal

from torch import Tensor, nn

from featherweight.engine.evidence import NOTHING, Evidence, Need, input_lock
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.budgets import ShareMethod
from featherweight.engine.methods.masks import largest
from featherweight.engine.options import words
from featherweight.engine.weight_forms import form_lock

Curvature = Literal["fisher", "layer"]


class BrainDamage(ShareMethod, frozen=True, kw_only=True):
    """Zeros the weights of the smallest saliency ½ h w².

    The curvature h is the mean square of the samples' gradients of the loss (the empirical Fisher
    diagonal), or the mean square of the input that the weight is multiplied with, which is the
    curvature of the layer's own squared error. Where neither was measured, magnitude decides.
    """

    name: ClassVar[str] = "obd"
    title: ClassVar[str] = "Optimal Brain Damage"
    label: ClassVar[str] = "OBD {}"
    advice: ClassVar[str] = (
        "Zeros what the loss on the data feels least and changes nothing else, so recover accuracy "
        "afterwards. It makes the file smaller, never the network faster."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file"
    strength: ClassVar[str] = "sparsity"

    curvature: Annotated[
        Curvature,
        words("Curvature", "Of the loss (fisher), or of the layer's own outputs (layer)."),
    ] = "fisher"

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer's weights cannot be zeroed by data; empty if they can."""
        return form_lock(layer) or input_lock(layer)

    def needs(self) -> frozenset[Need]:
        """Return gradients or moments."""
        return frozenset({"gradients" if self.curvature == "fisher" else "moments"})

    def mask(self, weight: Tensor) -> Tensor:
        """Return what stays where nothing was measured: the largest magnitudes."""
        return largest(weight.detach().abs(), self.kept(weight.numel()))

    def pruned(
        self,
        weight: Tensor,
        evidence: Evidence = NOTHING,
        check: Check = unchecked,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        """Return the weight as it is and the mask of the largest saliencies."""
        curvature = self._diagonal(weight, evidence)
        if curvature is None or not bool(curvature.isfinite().all()):
            return weight, self.mask(weight)
        # The order of ½ h w², without squares that float32 rounds to zero.
        saliency = curvature.sqrt() * weight.abs()
        return weight, largest(saliency, self.kept(weight.numel()))

    def _diagonal(self, weight: Tensor, evidence: Evidence) -> Tensor | None:
        if self.curvature == "fisher":
            return evidence.gradients.squares if evidence.gradients else None
        return evidence.moments.input_squares(weight) if evidence.moments else None
