"""Layers that make a layer's inputs binary: plain torch, so that every exporter follows.

The source of these classes is also written into Python files that rebuild a network, so it uses
nothing but torch.
"""

import torch

from featherweight.engine.structured_layers import StructuredLayer


class BinaryInputs(StructuredLayer):
    """Channels of which the sign is left, times their mean magnitude, alike for all of a place.

    With `centred` they are binary around their mean m at the place: m + sign(x - m)·mean|x - m|, so
    that inputs which are never negative have two values too; else m is 0. The sign of 0 is +1. The
    channels have `spatial` dimensions behind them: none as of a linear layer, two as of an image.
    Gradients pass straight through a sign where |x - m| is at most its mean, and are 0 beyond: the
    usual bound of 1 in units of that mean, whatever the scale of the inputs. It has no tensors.
    """

    options = ("in_features", "spatial", "centred")

    def __init__(self, in_features: int, spatial: int = 0, centred: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, in_features
        self.spatial, self.centred = spatial, centred
        self.bias = None

    def computed(
        self,
        tensors: dict[str, torch.Tensor],  # noqa: ARG002
        x: torch.Tensor,
    ) -> torch.Tensor:
        """Return the binary channels, in the shape of the input."""
        axis = -1 - self.spatial
        mean = x.mean(axis, keepdim=True) if self.centred else None
        apart = x if mean is None else x - mean
        size = apart.abs().mean(axis, keepdim=True)
        # Arithmetic, as ONNX Runtime takes many times as long to choose between two tensors.
        made = ((apart >= 0).to(x.dtype) * 2 - 1) * size
        if x.requires_grad:
            # The difference is exactly zero: it adds a gradient and no rounding.
            most = size.detach()
            within = apart.clamp(-most, most)
            made = made + (within - within.detach())
        return made if mean is None else made + mean

    def products(self) -> int:
        """Return none: sums and factors count as little as those of a batch norm."""
        return 0
