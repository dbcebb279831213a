"""Where a training runs: on the processor, or on a graphics processor with CUDA if it may."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, fx

from featherweight.engine.errors import UserError
from featherweight.engine.network import Inputs, Network
from featherweight.engine.trainings import DEVICE_VARIABLE, DEVICES

HOME = torch.device("cpu")


def device() -> torch.device:
    """Return where the process trains, as the variable FEATHERWEIGHT_DEVICE says: cpu without it.

    Without CUDA it is the processor all the same, which is then said on stderr. Raises UserError
    for another word.
    """
    asked = os.environ.get(DEVICE_VARIABLE) or "cpu"
    if asked not in DEVICES:
        raise UserError(
            f"{DEVICE_VARIABLE} is {asked}, which is no device.", f"Use {', '.join(DEVICES)}."
        )
    if asked == "cpu":
        return HOME
    if torch.cuda.is_available():
        return torch.device("cuda")
    if asked == "cuda":
        sys.stderr.write("There is no CUDA device, so the processor trains.\n")
    return HOME


class Stage:
    """Networks on the device where they train; what methods do to their weights is done at home."""

    def __init__(self, where: torch.device, *networks: Network) -> None:
        self.where, self.networks = where, networks

    def go(self) -> None:
        """Move the networks to the device."""
        self._move(self.where)

    def leave(self) -> None:
        """Move the networks back to the processor."""
        self._move(HOME)

    @contextmanager
    def at_home(self) -> Iterator[None]:
        """Have the networks on the processor for a while."""
        self.leave()
        try:
            yield
        finally:
            self.go()

    def moved(self, tensors: Inputs) -> Inputs:
        """Return tensors on the device."""
        return tuple(tensor.to(self.where) for tensor in tensors)

    def run(self, *inputs: Tensor) -> Inputs:
        """Run the first network on inputs; its outputs come back to the processor."""
        outputs = self.networks[0].outputs(*self.moved(inputs))
        return tuple(output.to(HOME) for output in outputs)

    def _move(self, where: torch.device) -> None:
        if self.where == HOME:
            return
        for network in self.networks:
            network.module.to(where)
            if isinstance(network.module, fx.GraphModule):
                # What a graph makes of nothing, it makes on the device that is written in it.
                for node in network.graph.nodes:
                    if node.kwargs.get("device") is not None:
                        node.update_kwarg("device", where)
                network.module.recompile()
