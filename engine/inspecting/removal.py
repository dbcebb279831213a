"""What a network's layers look like once chosen channels are removed, before anything is cut."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from featherweight.engine.inspecting.channel_ids import IntArray
from featherweight.engine.inspecting.coupling import Coupling

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LayerShape:
    """Output channels, input channels and groups that a layer has left."""

    outputs: int
    inputs: int
    groups: int


@dataclass(frozen=True)
class Plan:
    """Atoms of a coupling that are to be removed, int64."""

    coupling: Coupling
    atoms: IntArray

    def stays(self, atoms: IntArray) -> BoolArray:
        """Say for each channel of a run of channels whether it stays."""
        return ~np.isin(atoms, self.atoms)

    @cached_property
    def shapes(self) -> dict[str, LayerShape]:
        """What every layer that loses channels has left; `groups` is 1 but for convolutions."""
        return {
            name: self._shape(name)
            for name, channels in self.coupling.channels.items()
            if not (self.stays(channels.outputs).all() and self.stays(channels.inputs).all())
        }

    def _shape(self, name: str) -> LayerShape:
        channels = self.coupling.channels[name]
        outputs = int(self.stays(channels.outputs).sum())
        inputs = int(self.stays(channels.inputs).sum())
        groups = channels.groups
        if channels.whole_groups:
            groups = groups * inputs // len(channels.inputs)
        return LayerShape(outputs, inputs, groups)
