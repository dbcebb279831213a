"""Channels that a recipe removes, led to zero with all weights that belong to them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from featherweight.engine.errors import UserError
from featherweight.engine.inspecting.channel_ids import IntArray
from featherweight.engine.methods.masks import largest
from featherweight.engine.methods.structure.channel_pruning import atom_widths
from featherweight.engine.network import Network
from featherweight.engine.preparing.channel_groups import ChannelGroups, groups_of
from featherweight.engine.preparing.ground import Ground
from featherweight.engine.preparing.leading import Lead

# Of the largest norm: what a group that is zero already may at most become at once.
LEAST = 1e-3
# A norm below this share of the border is about zero.
NEAR = 1e-2


@dataclass(frozen=True)
class Thinning:
    """Channels (sorted atoms, int64) of which any may go in each other's place, and how many."""

    atoms: IntArray
    gone: int


class ChannelLead(Lead):
    """Channels led to zero by the norms of some groups of their weights, `led`.

    In the end `whole` goes: all weights that make a channel or read it. Channels that would stay
    by now are spared.
    """

    def __init__(self, thinning: Thinning, led: ChannelGroups, whole: ChannelGroups) -> None:
        count = len(thinning.atoms)
        super().__init__((count,), int(whole.sizes.sum()), 1 - thinning.gone / count)
        self.kept, self.led, self.whole = count - thinning.gone, led, whole
        norms = led.norms()
        least = float(norms.max()) * LEAST
        self.border = max(float(norms.kthvalue(thinning.gone).values), least)

    def ready(self, step: int, wanted: float) -> None:  # noqa: ARG002
        """Look which channels would stay now."""
        self.memory.stays.copy_(largest(self.led.norms(), self.kept))

    @torch.no_grad()
    def shrink(self, amount: float) -> None:
        """Take a proximal step of the sum of norms: all of a group shrinks by the same factor."""
        factors = 1 - amount * self.border / self.led.norms().clamp_min(torch.finfo().tiny)
        self.led.scale(factors.clamp_min_(0.0).masked_fill_(self.memory.stays, 1.0))

    def density(self) -> float:
        """Return the share of channels whose norm is above a hundredth of the border."""
        return int((self.led.norms() > NEAR * self.border).sum()) / self.led.count

    def choose(self) -> None:
        """Keep the channels with the largest norms, and zero the others."""
        self.memory.stays.copy_(largest(self.led.norms(), self.kept))
        self.hold()

    def hold(self) -> None:
        """Zero all weights of what was chosen to go."""
        self.whole.scale(self.memory.stays.float())


def thinnings(ground: Ground) -> Iterator[Thinning]:
    """Give the channels that take part, by the sets and classes in which pruning counts them.

    How many of each go is what the untouched network would lose, so that the result has the shape
    that was predicted. Raises UserError where a score would not find what was led to zero, and
    what `plan` raises.
    """
    pruning = ground.pruning
    for name, method in pruning.items():
        if method.score == "fpgm":
            raise UserError(
                f"Layer {name} has the score fpgm, the distance from other filters, which does not "
                "find the channels that a preparation leads to zero.",
                "Set its score to l1.",
            )
    for found in ground.coupling.sets:
        if not any(name in pruning for name in found.layers):
            continue
        widths = atom_widths(ground.coupling, found)
        kinds = np.unique(widths, axis=0, return_inverse=True)[1].reshape(-1)
        for kind in range(int(kinds.max()) + 1):
            atoms = found.atoms[kinds == kind]
            gone = int(np.isin(atoms, ground.removal.atoms).sum())
            if gone:
                yield Thinning(atoms, gone)


def no_channels() -> UserError:
    """Return why no channel takes part."""
    return UserError(
        "No layer takes part in the preparation: none loses channels.",
        "Give a layer channel pruning, choose a way for weights, or take the preparation out.",
    )


def whole_groups(ground: Ground, network: Network, thinning: Thinning) -> ChannelGroups:
    """Return all weights that make the channels or read them, in a copy of the network."""
    return groups_of(network, ground.coupling, thinning.atoms)
