"""Zero weights and change those that stay, so that the layer's outputs on the data keep best.

Hassibi, Stork: Optimal Brain Surgeon (1993); for every layer on its own as in Frantar, Singh,
Alistarh: Optimal Brain Compression (2022), and quickly as in Frantar, Alistarh: SparseGPT (2023).
"""

from typing import Annotated, ClassVar, Literal

from torch import Tensor, nn

from featherweight.engine.evidence import NOTHING, Evidence, Need, input_lock
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.brain_surgery import dissected, surgery_fits, swept
from featherweight.engine.methods.budgets import ShareMethod
from featherweight.engine.methods.masks import largest
from featherweight.engine.options import words
from featherweight.engine.weight_forms import form_lock

Variant = Literal["fast", "exact"]


class BrainSurgeon(ShareMethod, frozen=True, kw_only=True):
    """Zeros the weights whose loss the others make up for best, and changes those others.

    "fast" goes once through the columns in blocks; "exact" always takes the weight that harms least
    next, row by row, and is "fast" on layers where that would take minutes (rows × columns³ beyond
    3·10¹¹). Where the inputs were not measured, magnitude decides and nothing changes.
    """

    name: ClassVar[str] = "obs"
    title: ClassVar[str] = "Optimal Brain Surgeon"
    label: ClassVar[str] = "OBS {}"
    advice: ClassVar[str] = (
        "Zeros weights and changes the others to make up for them on the data: keeps most accuracy "
        "of all sparsities without recovery. It makes the file smaller, never the network faster."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file"
    strength: ClassVar[str] = "sparsity"

    variant: Annotated[
        Variant,
        words("Variant", "One sweep in blocks of columns, or the exact order in small layers."),
    ] = "fast"

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer's weights cannot be zeroed by data; empty if they can."""
        return form_lock(layer) or input_lock(layer)

    def needs(self) -> frozenset[Need]:
        """Return moments."""
        return frozenset({"moments"})

    def mask(self, weight: Tensor) -> Tensor:
        """Return what stays where nothing was measured: the largest magnitudes."""
        return largest(weight.detach().abs(), self.kept(weight.numel()))

    def pruned(
        self, weight: Tensor, evidence: Evidence = NOTHING, check: Check = unchecked
    ) -> tuple[Tensor, Tensor]:
        """Return the weight changed to make up for what goes, and the mask of what stays."""
        moments = evidence.moments
        kept = self.kept(weight.numel())
        if moments is None or kept == weight.numel() or not moments.describes(weight):
            return weight, self.mask(weight)
        exact = self.variant == "exact" and surgery_fits(weight, moments)
        return (dissected if exact else swept)(weight, moments, kept, check)
