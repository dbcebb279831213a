"""Weights that go a few at a time while the others learn to do without them.

Zhu, Gupta: To Prune, or Not to Prune (2017): of weights of which the part d stays in the end,
d + (1 - d)(1 - t)³ are left at a share t of the way. A mask is chosen anew every few steps, so that
a weight may come back until the last one. Precision comes when the masks have stood for a while, as
in Deep Compression (Han, Mao, Dally, 2016): before that, values on a grid or in a codebook would be
found for weights that are still to go.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from featherweight.engine.applicability import Chosen
from featherweight.engine.evidence import NOTHING, Evidence, Gradients
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.masks import largest
from featherweight.engine.methods.method import PrecisionMethod, SparsityMethod, stored_weights
from featherweight.engine.network import Network
from featherweight.engine.trainings import FineTuning
from featherweight.engine.weight_forms import CompactLayer, MaskedForm, TrainableForm

EVERY, UPDATES = 25, 20
MEMORY = 0.99


class GradualForm(MaskedForm):
    """A float32 weight whose mask starts full and loses weights while it trains.

    The sparsity says by its own scores which weights go. One that asks for gradients gets the
    moving mean of the squared gradients of batches, `squares`; others get no evidence, and most
    then go by magnitude. What they would change of other weights is left to the training.
    """

    def __init__(
        self, weight: Tensor, sparsity: SparsityMethod, precision: PrecisionMethod | None
    ) -> None:
        super().__init__(weight, torch.ones(weight.shape, dtype=torch.bool))
        self.sparsity, self.precision = sparsity, precision
        needs = sparsity.needs() | (precision.needs() if precision else frozenset())
        self.squares: Tensor | None
        shown = torch.zeros(weight.shape) if "gradients" in needs else None
        self.register_buffer("squares", shown)

    @torch.no_grad()
    def remember(self) -> None:
        """Take the gradient of the last batch into the moving mean."""
        if self.squares is not None and self.values.grad is not None:
            self.squares.mul_(MEMORY).addcmul_(self.values.grad, self.values.grad, value=1 - MEMORY)

    @torch.no_grad()
    def choose(self, share: float) -> None:
        """Choose the mask at a share (0 to 1) of the way; at 1 it is the sparsity's own."""
        weight = self.values.detach()
        _, stay = self.sparsity.pruned(weight, self._evidence)
        stay = stay.reshape(weight.shape)
        final, count = int(stay.sum()), weight.numel()
        left = final + round((count - final) * (1 - share) ** 3)
        if left > final:
            scores = weight.abs() if self.squares is None else weight.abs() * self.squares.sqrt()
            stay = largest(torch.where(stay, torch.inf, scores), left)
        self.mask = stay

    def constrained(self, check: Check = unchecked) -> TrainableForm:
        """Return the form of the precision under the mask as it is; itself without a precision."""
        if self.precision is None:
            return self
        return self.precision.informed(self().detach(), self.mask, self._evidence, check)

    @property
    def _evidence(self) -> Evidence:
        squares = self.squares
        told = squares is not None and bool((squares > 0).any())
        return Evidence(gradients=Gradients(squares)) if squares is not None and told else NOTHING


@dataclass(frozen=True)
class Ramp:
    """When the masks of a training of `steps` are chosen, and when precision comes.

    After the ramp the masks stand for half of what is left of the training.
    """

    steps: int
    share: float

    @property
    def end(self) -> int:
        """The step before which the last masks are chosen; at least one step follows."""
        return min(max(1, round(self.share * self.steps)), self.steps - 1)

    @property
    def switch(self) -> int:
        """The step before which precisions are put on."""
        return (self.end + self.steps) // 2

    def due(self, step: int) -> bool:
        """Say whether masks are chosen before a step."""
        every = min(EVERY, max(1, self.end // UPDATES))
        return step == self.end or (0 < step < self.end and step % every == 0)

    def way(self, step: int) -> float:
        """Return the share of the ramp that lies behind at a step."""
        return step / self.end if step < self.end else 1.0


def gradual_forms(network: Network) -> list[GradualForm]:
    """Return the forms of a network that lose weights gradually."""
    return [form for form in network.module.modules() if isinstance(form, GradualForm)]


def put_precisions_on(network: Network, check: Check = unchecked) -> None:
    """Let every gradual form with a precision become the form of it, in place."""
    for module in network.module.modules():
        if isinstance(module, CompactLayer):
            for name, form in module.held().items():
                if isinstance(form, GradualForm):
                    module.forms[name] = form.constrained(check)


def at_once(chosen: Mapping[str, Chosen], recovery: FineTuning | None) -> dict[str, Chosen]:
    """Return what is done before the training: all but sparsities that come gradually in it."""
    if not _is_gradual(recovery):
        return dict(chosen)
    return {
        name: methods
        if methods.sparsity is None
        else replace(methods, sparsity=None, precision=None)
        for name, methods in chosen.items()
    }


def soften(network: Network, chosen: Mapping[str, Chosen], recovery: FineTuning | None) -> None:
    """Put weights with a gradual sparsity into gradual forms, in place."""
    if not _is_gradual(recovery):
        return
    for name, methods in chosen.items():
        if methods.sparsity is None:
            continue
        for part in network.parts[name]:
            layer = network.layer(part)
            forms = {
                tensor: GradualForm(
                    layer.get_parameter(tensor), methods.sparsity, methods.precision
                )
                for tensor in stored_weights(layer)
            }
            if forms:
                network.replace(part, CompactLayer(layer, dict(forms)))


def _is_gradual(recovery: FineTuning | None) -> bool:
    return recovery is not None and recovery.epochs > 0 and recovery.gradual > 0.0
