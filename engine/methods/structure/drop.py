"""A layer left out: its input goes on as its output."""

from typing import ClassVar, Literal

from torch import nn

from featherweight.engine.evidence import Convolution
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.method import FactorMethod
from featherweight.engine.options import Retraining


class Drop(FactorMethod, frozen=True, kw_only=True):
    """Layer drop (Sanh et al. 2019, DistilBERT, arXiv 1910.01108).

    A smaller student begins with every second layer of its teacher. Only layers whose output has
    the shape of their input can go; what they add is learned by those around them.
    """

    name: ClassVar[str] = "drop"
    title: ClassVar[str] = "Layer drop"
    label: ClassVar[str] = "Dropped"
    advice: ClassVar[str] = (
        "Leaves the layer out: it costs nothing any more. Needs retraining, best with a teacher: "
        "drop some layers of a deep network, such as one of two convolutions in a block."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file and speed"
    strength: ClassVar[str] = ""
    retrain: ClassVar[Retraining] = "needed"

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer cannot be left out; empty if it can."""
        if not isinstance(layer, nn.Linear | Convolution):
            return "Only linear layers and convolutions are dropped."
        outputs = layer.weight.shape[0]
        inputs = layer.in_channels if isinstance(layer, Convolution) else layer.in_features
        if outputs != inputs:
            return f"Its output has another size than its input: {outputs} against {inputs}."
        if isinstance(layer, Convolution) and not _keeps_positions(layer):
            return "Its output has other positions than its input."
        return ""

    def skeleton(self, layer: nn.Module) -> nn.Sequential:  # noqa: ARG002
        """Return what stands in its place."""
        return nn.Sequential(nn.Identity())

    def rewritten(self, layer: nn.Module, check: Check = unchecked) -> nn.Sequential:  # noqa: ARG002
        """Return what stands in its place."""
        return self.skeleton(layer)


def _keeps_positions(layer: Convolution) -> bool:
    if any(step != 1 for step in layer.stride):
        return False
    if isinstance(layer.padding, str):
        return layer.padding == "same"
    sides = zip(layer.kernel_size, layer.dilation, layer.padding, strict=True)
    return all(width * (size - 1) == 2 * padding for size, width, padding in sides)
