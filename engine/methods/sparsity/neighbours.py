"""Keep N of every M weights that follow each other.

Mishra et al.: Accelerating Sparse Deep Neural Networks (2021); the scores are those of magnitude,
of Wanda (Sun et al. 2023) and of SparseGPT (Frantar, Alistarh 2023).
"""

from typing import Annotated, ClassVar, Literal

from torch import Tensor, nn

from featherweight.engine.evidence import NOTHING, Evidence, Need
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.brain_surgery import mended
from featherweight.engine.methods.error_feedback import Feedback
from featherweight.engine.methods.masks import largest_of_neighbours
from featherweight.engine.methods.method import SparsityMethod
from featherweight.engine.options import words
from featherweight.engine.weight_forms import form_lock

Pattern = Literal["2:4", "4:8", "1:4"]
Score = Literal["magnitude", "wanda", "obs"]


class Neighbours(SparsityMethod, frozen=True, kw_only=True):
    """Zeros all but N of every M neighbours in the order of the tensor, which is along its rows.

    With the score "obs" the weights that stay are changed to make up for those that go. Where the
    inputs were not measured, magnitude decides.
    """

    name: ClassVar[str] = "n_of_m"
    title: ClassVar[str] = "N of M neighbours stay"
    label: ClassVar[str] = "N:M {}"
    advice: ClassVar[str] = (
        "Zeros the same share everywhere, in a regular pattern; at equal size it costs more "
        "accuracy than free sparsity. It makes the file smaller, never the network faster."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file"
    strength: ClassVar[str] = "pattern"

    pattern: Annotated[
        Pattern, words("Pattern", "How many weights stay, of how many neighbours.")
    ] = "2:4"
    score: Annotated[
        Score,
        words("Score", "Who stays: by magnitude, by weight times input (wanda), or by OBS."),
    ] = "magnitude"

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer's weights cannot be zeroed; empty if they can."""
        return form_lock(layer)

    def needs(self) -> frozenset[Need]:
        """Return moments, where the score asks for them."""
        return frozenset() if self.score == "magnitude" else frozenset({"moments"})

    def mask(self, weight: Tensor) -> Tensor:
        """Return a bool tensor of the weight's shape by magnitude."""
        return self._of(weight.detach().abs())

    def kept(self, count: int) -> int:
        """Return how many of `count` weights stay."""
        stay, size = self._sizes
        return count // size * stay + min(count % size, stay)

    def pruned(
        self, weight: Tensor, evidence: Evidence = NOTHING, check: Check = unchecked
    ) -> tuple[Tensor, Tensor]:
        """Return the weight, changed only by the score "obs", and the mask of what stays."""
        moments = evidence.moments
        if self.score == "magnitude" or moments is None or not moments.describes(weight):
            return weight, self.mask(weight)
        if self.score == "wanda":
            return weight, self._of(moments.input_squares(weight).sqrt() * weight.abs())
        mask = self._of(Feedback(moments, check).saliency(weight))
        return mended(weight, moments, mask, check), mask

    def _of(self, scores: Tensor) -> Tensor:
        return largest_of_neighbours(scores, *self._sizes)

    @property
    def _sizes(self) -> tuple[int, int]:
        stay, size = self.pattern.split(":")
        return int(stay), int(size)
