"""What hidden layers of a network learn from those of its teacher.

Outputs of hidden layers: Romero et al.: FitNets (2015), without a regressor, for layers of equal
shape. The last hidden layer: `features`.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from featherweight.engine.errors import UserError
from featherweight.engine.jobs import Check
from featherweight.engine.network import Network
from featherweight.engine.recovering.catching import Caught, caught_outputs, let_go
from featherweight.engine.recovering.distilling import Teacher
from featherweight.engine.recovering.features import relations_between, representations_between
from featherweight.engine.recovering.losses import attention_loss, relative_error
from featherweight.engine.task import evaluating


class Hints(Protocol):
    """Hidden layers of a network and of its teacher that are compared, as hooks catch them."""

    def renew(self, check: Check) -> dict[str, Tensor]:
        """Do what is due before an epoch; return what a checkpoint keeps. Raises CancelledError."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on with what a checkpoint kept."""

    def loss(self) -> Tensor:
        """Return the difference in the last batch of both networks."""

    def close(self) -> None:
        """Let go of the layers."""


class LayerHints:
    """Layers of the same names: their outputs, or where in an image they are strong."""

    def __init__(self, network: Network, teacher: Teacher) -> None:
        """Find the layers. Raises UserError where there are none."""
        self._attention = teacher.settings.hidden == "attention"
        self._own, self._taught = Caught(), Caught()
        self._handles: list[RemovableHandle] = []
        source = dict(teacher.network.layers())
        common = {
            name: network.layer(parts[-1])
            for name, parts in network.parts.items()
            if name in source and parts
        }
        names = list(common)[:-1]
        for name in names:
            self._handles.append(caught_outputs(common[name], self._own, name))
            self._handles.append(caught_outputs(source[name], self._taught, name))
        example = teacher.task.reference.example
        with evaluating(network) as own, evaluating(teacher.network) as taught:
            own(*example)
            taught(*example)
        self._names = [name for name in names if self._comparable(name)]
        if not self._names:
            self.close()
            raise UserError(
                "No hidden layer of the network can be compared with its teacher's.",
                "Set hidden to none, or name a teacher whose layers have the same names and "
                "shapes.",
            )

    def renew(self, check: Check) -> dict[str, Tensor]:  # noqa: ARG002
        """Do nothing."""
        return {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Do nothing."""

    def loss(self) -> Tensor:
        """Return the mean difference of the layers in the last batch of both networks."""
        compare = attention_loss if self._attention else relative_error
        pairs = [(self._own[name], self._taught[name]) for name in self._names]
        return torch.stack([compare(*pair) for pair in pairs]).mean()

    def close(self) -> None:
        """Let go of the layers."""
        let_go(self._handles)

    def _comparable(self, name: str) -> bool:
        own, taught = self._own.get(name), self._taught.get(name)
        if own is None or taught is None or not own.is_floating_point():
            return False
        if not self._attention:
            return own.shape == taught.shape
        return own.ndim > 2 and own.shape[2:] == taught.shape[2:]


def hints_between(network: Network, teacher: Teacher, samples: int) -> Hints | None:
    """Return what is compared of hidden layers; None where nothing is asked for.

    Outputs and attention are of layers by the names of the source's, the last one left out, that
    agree in shape; for attention in places only. A step takes so many `samples`.
    Raises UserError where there is nothing to compare.
    """
    kind = teacher.settings.hidden
    if kind == "none":
        return None
    if kind == "representation":
        return representations_between(network, teacher)
    if kind == "relations":
        return relations_between(network, teacher, samples)
    return LayerHints(network, teacher)
