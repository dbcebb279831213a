"""How the outputs of every sample move with each weight of a few layers together.

The rows J are made so that JᵀJ is the curvature of the loss, as Hassibi and Stork (1993) build it
of outer products: the Gauss-Newton matrix, for classes that of the cross-entropy.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from featherweight.engine.jobs import Check
from featherweight.engine.network import Network

MOST_ROWS = 2048


class JacobianRows:
    """Rows of samples as they are run, at most 2,048 in all; nothing where no layer is named."""

    def __init__(self, network: Network, names: frozenset[str]) -> None:
        self._weights = {
            name: network.layer(name).get_parameter("weight") for name in sorted(names)
        }
        self._rows: list[Tensor] = []
        self._samples = self._count = 0

    @torch.enable_grad()
    def add(self, outputs: Tensor, classes: bool, check: Check) -> None:
        """Take the rows of a batch's outputs, (samples, …), whose graph stays for others."""
        for sample in outputs.flatten(1) if self._weights else ():
            if self._count + sample.numel() > MOST_ROWS and self._count:
                return
            check()
            rows = torch.stack([self._row(value) for value in sample])
            if classes:
                chances = sample.detach().softmax(0)
                rows = (rows - chances @ rows) * chances.sqrt()[:, None]
            self._rows.append(rows)
            self._samples, self._count = self._samples + 1, self._count + len(rows)

    def found(self) -> Mapping[str, Tensor]:
        """Return each layer's rows, (rows, weights) float32, of the mean over samples."""
        if not self._rows:
            return {}
        sizes = [weight.numel() for weight in self._weights.values()]
        rows = torch.cat(self._rows) / self._samples**0.5
        return dict(zip(self._weights, rows.split(sizes, dim=1), strict=True))

    def _row(self, value: Tensor) -> Tensor:
        weights = list(self._weights.values())
        found = torch.autograd.grad(
            value, weights, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([gradient.flatten() for gradient in found])
