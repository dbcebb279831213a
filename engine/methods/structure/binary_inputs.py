"""Inputs of a layer as signs, so that with binary weights its products are xnor and popcount.

Rastegari et al.: XNOR-Net (2016); Courbariaux et al.: Binarized Neural Networks (2016).
"""

import copy
from typing import Annotated, ClassVar, Literal

import torch
from torch import nn

from featherweight.engine.binary_layers import BinaryInputs
from featherweight.engine.evidence import Convolution
from featherweight.engine.functional_layers import is_usual
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.method import FactorMethod
from featherweight.engine.options import Retraining, words


class XnorInputs(FactorMethod, frozen=True, kw_only=True):
    """Each input is a sign times the mean magnitude of the channels at its place.

    Of all factors the mean magnitude has the least error. Binary weights in the slot of precision
    make an XNOR-Net of it (Rastegari et al. 2016, arXiv 1603.05279), whose factor of a kernel is
    here each place's own. Around their mean, inputs are the mean plus such a sign: after a ReLU
    all signs around zero would be alike. The layer and its weights stay as they are.
    """

    name: ClassVar[str] = "binary_inputs"
    title: ClassVar[str] = "Binary inputs (XNOR)"
    label: ClassVar[str] = "Binary inputs"
    advice: ClassVar[str] = (
        "Take it with binary weights: then a kernel for packed bits can run the layer several "
        "times as fast. By itself it saves nothing of the file, and ONNX Runtime runs it no "
        "faster. Accuracy falls far, so retrain, and leave the first and the last layer out."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file"
    strength: ClassVar[str] = ""
    retrain: ClassVar[Retraining] = "needed"

    around: Annotated[
        Literal["mean", "zero"],
        words(
            "Around",
            "What the signs are taken of: the inputs less their mean at the place, which is right "
            "after a ReLU, or the inputs themselves, for those of a batch norm.",
        ),
    ] = "mean"

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer's inputs cannot become binary; empty if they can."""
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
            return "Its inputs are whole numbers, which have no signs to take."
        if isinstance(layer, nn.RNNBase | nn.RNNCellBase):
            return "A recurrent layer reads its own outputs too, which would stay as they are."
        if not isinstance(layer, nn.Linear | Convolution):
            return "It takes linear layers and convolutions that are not transposed."
        if not is_usual(layer):
            return f"{type(layer).__name__} computes in a way of its own."
        if _channels(layer) < 2:
            return "It has a single input channel, whose sign times its size is what it was."
        return ""

    def skeleton(self, layer: nn.Module) -> nn.Sequential:
        """Return the binary inputs and the layer on the meta device."""
        return self._chain(layer).to("meta")

    def rewritten(self, layer: nn.Module, check: Check = unchecked) -> nn.Sequential:  # noqa: ARG002
        """Return the binary inputs and the layer as it is."""
        return self._chain(layer).train(layer.training)

    @torch.no_grad()
    def _chain(self, layer: nn.Module) -> nn.Sequential:
        assert isinstance(layer, nn.Linear | Convolution)
        spatial = len(layer.kernel_size) if isinstance(layer, Convolution) else 0
        inputs = BinaryInputs(_channels(layer), spatial, self.around == "mean")
        return nn.Sequential(inputs, copy.deepcopy(layer))


def _channels(layer: nn.Linear | Convolution) -> int:
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
