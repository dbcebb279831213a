"""Structure methods whose factors are the nearest to a layer: in its weights or in its outputs."""

from typing import Annotated, Literal

from torch import nn

from featherweight.engine.evidence import Need
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.method import FactorMethod
from featherweight.engine.options import words

Metric = Annotated[
    Literal["weights", "outputs"],
    words("Nearest in", "Weights, or outputs on samples of the data, which keeps more."),
]


class NearestMethod(FactorMethod, frozen=True, kw_only=True):
    """A method with a metric: by `outputs` it asks for the moments of the layer's inputs.

    It has one way to make its factors, `informed`, which goes by the weights where nothing was
    measured.
    """

    metric: Metric = "weights"

    def needs(self) -> frozenset[Need]:
        """Return what the metric asks of the data."""
        return frozenset({"moments"}) if self.metric == "outputs" else frozenset()

    def rewritten(self, layer: nn.Module, check: Check = unchecked) -> nn.Sequential:
        """Return the chain that is nearest in weights."""
        return self.informed(layer, {}, check)
