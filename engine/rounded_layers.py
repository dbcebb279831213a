"""Layers that round what flows as a file with 8-bit integers does: plain torch.

The source of these classes is also written into Python files that rebuild a network, so it uses
nothing but torch.
"""

import torch

from featherweight.engine.structured_layers import StructuredLayer


class RoundedActivation(StructuredLayer):
    """What flows as whole numbers q from 0 to `top`, of which each is `scale` * (q - `zero`).

    q is the nearest to x / scale + zero, halves to the even, as QuantizeLinear of ONNX has it.
    Gradients pass straight through where q is not held at an end, and are 0 beyond. It has no
    tensors. Raises ValueError where 8 bits could not hold these numbers.
    """

    options = ("scale", "zero", "top")

    def __init__(self, scale: float, zero: int, top: int) -> None:
        super().__init__()
        if not (0.0 < scale < float("inf") and 0 <= zero <= top <= 255):
            raise ValueError("an activation in 8 bits needs a scale, and a zero point in its range")
        self.scale, self.zero, self.top = scale, zero, top
        # What it does is the same for each number that flows, whatever the channels are.
        self.in_features = self.out_features = 1
        self.bias = None

    def computed(
        self,
        tensors: dict[str, torch.Tensor],  # noqa: ARG002
        x: torch.Tensor,
    ) -> torch.Tensor:
        """Return the rounded numbers, in the shape of the input."""
        steps = x / self.scale
        whole = torch.round(steps)
        if steps.requires_grad:
            # The difference is exact, and so is the sum: it adds a gradient and no rounding.
            whole = steps + (whole - steps).detach()
        return torch.clamp(whole, -self.zero, self.top - self.zero) * self.scale

    def products(self) -> int:
        """Return none: factors count as little as those of a batch norm."""
        return 0
