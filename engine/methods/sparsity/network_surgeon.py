"""Zero weights of small networks and change those of all layers to make up for them.

Hassibi, Stork: Second Order Derivatives for Network Pruning: Optimal Brain Surgeon (1993).
"""

from typing import ClassVar, Literal

from torch import Tensor, nn

from featherweight.engine.evidence import Need, input_lock
from featherweight.engine.methods.budgets import ShareMethod
from featherweight.engine.methods.masks import largest
from featherweight.engine.methods.network_surgery import MOST_WEIGHTS
from featherweight.engine.weight_forms import form_lock


class NetworkSurgeon(ShareMethod, frozen=True, kw_only=True):
    """Removes one weight after another, by the curvature of the loss in all weights together.

    The surgery is done on the whole network before its layers are taken one by one: see
    `network_surgery`. What it left of a layer are then its largest magnitudes, as they are where
    nothing was measured.
    """

    name: ClassVar[str] = "obs_network"
    title: ClassVar[str] = "Optimal Brain Surgeon, whole network"
    label: ClassVar[str] = "OBS+ {}"
    advice: ClassVar[str] = (
        "For small networks: finds what all layers together can do without, such as a unit that "
        "others can stand in for. Up to 5,000 weights in all layers that take it. It makes the "
        "file smaller, never the network faster."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file"
    strength: ClassVar[str] = "sparsity"

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer can have no part in a surgery of all layers; empty if it can."""
        if reason := form_lock(layer) or input_lock(layer):
            return reason
        count = layer.get_parameter("weight").numel()
        if count > MOST_WEIGHTS:
            return f"It has {count} weights; one surgery of all layers takes {MOST_WEIGHTS}."
        return ""

    def needs(self) -> frozenset[Need]:
        """Return the Jacobian."""
        return frozenset({"jacobian"})

    def mask(self, weight: Tensor) -> Tensor:
        """Return the largest magnitudes, which are what the surgery left."""
        return largest(weight.detach().abs(), self.kept(weight.numel()))
