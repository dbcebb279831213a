"""Second moments of the inputs of layers, summed while the network runs on samples."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from featherweight.engine.calibrating.patches import groups_of, rows_of
from featherweight.engine.evidence import InputMoments, Transposed, input_lock
from featherweight.engine.network import Network

# Wider moments are measured in blocks: their inverse would take minutes and gigabytes.
WIDEST = 4096
# So many rows for every column: the moments' noise is then far below what is done with them.
ROWS_OF_A_COLUMN = 8
FEWEST_ROWS = 4096
ELEMENTS_AT_ONCE = 1 << 24


class MomentSums:
    """Hooks on layers that sum the moments of what flows into them; close it to take them off."""

    def __init__(self, network: Network, names: frozenset[str], samples: int) -> None:
        self._sums = {
            name: _Sum(network.layer(name), samples)
            for name in sorted(names)
            if not input_lock(network.layer(name))
        }
        self._exits = ExitStack()
        for name, total in self._sums.items():
            hook = network.layer(name).register_forward_pre_hook(_adding(total))
            self._exits.callback(hook.remove)

    def close(self) -> None:
        """Take the hooks off."""
        self._exits.close()

    def found(self) -> Mapping[str, InputMoments]:
        """Return the moments of every layer that was called."""
        return {name: total.moments() for name, total in self._sums.items() if total.count}


def _adding(total: "_Sum") -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def add(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        total.add(inputs[0].detach())

    return add


class _Sum:
    """Running sums for one layer, in float64 where they are added up."""

    def __init__(self, layer: nn.Module, samples: int) -> None:
        self.layer = layer
        self.count = 0
        weight = layer.get_parameter("weight")
        self.transposed = isinstance(layer, Transposed)
        groups = groups_of(layer)
        outputs = weight.shape[1] * groups if self.transposed else weight.shape[0]
        columns = weight.numel() // outputs
        rows = max(FEWEST_ROWS, ROWS_OF_A_COLUMN * columns)
        self.each = max(1, -(-rows // max(samples, 1)))
        self.widths = [min(WIDEST, columns - start) for start in range(0, columns, WIDEST)]
        self.blocks = [
            torch.zeros(groups, width, width, dtype=torch.float64) for width in self.widths
        ]
        self.mean = torch.zeros(groups, columns, dtype=torch.float64)
        self.turn = 0

    def add(self, x: Tensor) -> None:
        together = max(1, ELEMENTS_AT_ONCE // max(x[:1].numel(), 1))
        for piece in x.split(together) if x.ndim > 1 else (x,):
            rows = rows_of(self.layer, piece.float(), self.each, self.turn)
            self.turn += 1
            self.count += rows.shape[1]
            self.mean += rows.sum(1, dtype=torch.float64)
            for block, part in zip(self.blocks, rows.split(self.widths, 2), strict=True):
                block += part.transpose(1, 2) @ part

    def moments(self) -> InputMoments:
        blocks = tuple((block / self.count).float() for block in self.blocks)
        mean = (self.mean / self.count).float()
        return InputMoments(len(mean), blocks, mean, self.transposed)
