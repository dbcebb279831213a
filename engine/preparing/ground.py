"""What a preparation starts from."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from featherweight.engine.applicability import Chosen
from featherweight.engine.inspecting.coupling import Coupling
from featherweight.engine.inspecting.removal import Plan
from featherweight.engine.methods.structure.channel_pruning import ChannelPruning, plan
from featherweight.engine.network import Network
from featherweight.engine.task import Task


@dataclass(frozen=True)
class Ground:
    """The source network, which stays as it is, what its layers will get, and the task."""

    network: Network
    coupling: Coupling
    chosen: Mapping[str, Chosen]
    task: Task

    @property
    def pruning(self) -> dict[str, ChannelPruning]:
        """The layers that lose channels."""
        return {
            name: methods.structure
            for name, methods in self.chosen.items()
            if isinstance(methods.structure, ChannelPruning)
        }

    @cached_property
    def removal(self) -> Plan:
        """The channels that the untouched network would lose. Raises what `plan` raises."""
        return plan(self.network, self.coupling, self.pruning)

    def left(self, tensor: str) -> float:
        """Return the share of a tensor, by dotted name, that is left without these channels."""
        axes = self.coupling.weights.get(tensor, ())
        return float(np.prod([self.removal.stays(axis.atoms).mean() for axis in axes]))
