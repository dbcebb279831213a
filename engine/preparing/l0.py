"""Weights and channels led to zero by gates whose number counts, λ Σ P(z ≠ 0): see `gates`.

Gates start the more open the larger their units are, for the network is trained already.
"""

import torch
from torch import Tensor, nn

from featherweight.engine.errors import UserError
from featherweight.engine.inspecting.channel_layers import Transposed
from featherweight.engine.methods.channel_readers import readers
from featherweight.engine.methods.masks import largest
from featherweight.engine.methods.method import SparsityMethod
from featherweight.engine.network import Network
from featherweight.engine.preparing.channel_groups import ChannelGroups, Slices, slices_of
from featherweight.engine.preparing.channel_leads import (
    ChannelLead,
    Thinning,
    thinnings,
    whole_groups,
)
from featherweight.engine.preparing.gates import GatedForm, Gates
from featherweight.engine.preparing.ground import Ground
from featherweight.engine.preparing.leading import Lead
from featherweight.engine.preparing.weight_leads import WeightLead, thinned
from featherweight.engine.weight_forms import CompactLayer, form_lock

# log α at the border of what goes, and how it grows with the logarithm of the size.
START, GROWTH, LEAST, MOST = 2.2, 2.0, 0.0, 5.0
# The penalty of amounts of 1 in all, if the loss did not resist, closes an open gate.
PULL = 6.0


class GatedWeightLead(WeightLead):
    """Weights with a gate each. Those of `channels` that go will go with them."""

    def __init__(
        self, weight: Tensor, sparsity: SparsityMethod, channels: list["GatedChannelLead"]
    ) -> None:
        super().__init__(weight, sparsity)
        self.channels = [
            (lead.memory, slices)
            for lead in channels
            for slices in lead.whole.slices
            if slices.tensor is weight
        ]
        self.gates = Gates(_logits(weight.detach().abs() / self.border))

    def parameters(self) -> list[nn.Parameter]:
        """Return log α of the gates."""
        return [self.gates.logits]

    def ranked(self) -> Tensor:
        """Return the weight times how open its gate is, zero where its channel goes."""
        ranked = self.weight * self.gates.logits.sigmoid()
        for memory, slices in self.channels:
            ranked = ranked * slices.along(memory.stays.float())
        return ranked

    def ready(self, step: int, wanted: float) -> None:
        """Look every few steps which weights would stay now, and draw the gates."""
        super().ready(step, wanted)
        self.gates.draw()

    def penalty(self, amount: float) -> Tensor | None:
        """Return how many gates that should close are open on the mean, times λ."""
        return amount * PULL * self.gates.opened(~self.memory.stays)

    @torch.no_grad()
    def choose(self) -> None:
        """Let weights be what their gates made of them, and zero what the sparsity takes."""
        super().choose()
        self.weight.mul_(self.gates.settled())
        self.gates.choose(self.memory.stays)

    def density(self) -> float:
        """Return the share of weights whose gate was not closed in the last step."""
        return int(self.gates().count_nonzero()) / self.weights


class GatedChannelLead(ChannelLead):
    """Channels with a gate each, in all layers that read them; `led` are these layers' weights."""

    def __init__(self, thinning: Thinning, led: ChannelGroups, whole: ChannelGroups) -> None:
        super().__init__(thinning, led, whole)
        self.gates = Gates(_logits(led.norms() / self.border))

    def parameters(self) -> list[nn.Parameter]:
        """Return log α of the gates."""
        return [self.gates.logits]

    def ready(self, step: int, wanted: float) -> None:  # noqa: ARG002
        """Look which channels would stay now, and draw the gates."""
        self.memory.stays.copy_(largest(self.gates.logits, self.kept))
        self.gates.draw()

    def penalty(self, amount: float) -> Tensor | None:
        """Return how many gates that should close are open on the mean, times λ."""
        return amount * PULL * self.gates.opened(~self.memory.stays)

    def shrink(self, amount: float) -> None:
        """Leave the weights: their gates do it."""

    @torch.no_grad()
    def choose(self) -> None:
        """Let weights be what their gates made of them, and zero the channels of the least."""
        self.led.scale(self.gates.settled())
        self.memory.stays.copy_(largest(self.gates.logits, self.kept))
        self.gates.choose(self.memory.stays)
        self.hold()

    def density(self) -> float:
        """Return the share of channels whose gate was not closed in the last step."""
        return int(self.gates().count_nonzero()) / self.led.count


class _Forms:
    """The gated forms of a network's weights, one for each tensor."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.made: dict[str, dict[str, GatedForm]] = {}

    def form(self, name: str, tensor: str) -> GatedForm:
        forms = self.made.setdefault(name, {})
        if tensor not in forms:
            forms[tensor] = GatedForm(self.network.layer(name).get_parameter(tensor))
        return forms[tensor]

    def put_on(self) -> None:
        for name, forms in self.made.items():
            self.network.replace(name, CompactLayer(self.network.layer(name), dict(forms)))


def leads(ground: Ground, network: Network) -> list[Lead]:
    """Return the leads of weights and channels that take part, their gates put on the network.

    Raises UserError where there are none.
    """
    forms = _Forms(network)
    channels: list[GatedChannelLead] = []
    for thinning in thinnings(ground):
        reading = _reading(ground, network, thinning)
        if reading is None:
            continue
        led = ChannelGroups(list(reading.values()), len(thinning.atoms))
        lead = GatedChannelLead(thinning, led, whole_groups(ground, network, thinning))
        for name, slices in reading.items():
            forms.form(name, "weight").put_gates(lead.gates, slices)
        channels.append(lead)
    # Channels choose first, so that no weight stays in one that goes.
    found: list[Lead] = [*channels]
    for each in thinned(ground, network):
        weights = GatedWeightLead(each.weight, each.sparsity, channels)
        forms.form(each.layer, each.tensor).put_gates(weights.gates)
        found.append(weights)
    if not found:
        raise UserError(
            "No layer takes part in the preparation: none has a sparsity that zeroes some of its "
            "weights, or loses channels that linear layers or convolutions read.",
            "Give a layer a sparsity or channel pruning, or take the preparation out.",
        )
    forms.put_on()
    return found


def _reading(ground: Ground, network: Network, thinning: Thinning) -> dict[str, Slices] | None:
    """Return the slices that read the channels by layer; None where one is not read by these."""
    atoms, found = thinning.atoms, {}
    for reader in readers(ground.network, ground.coupling, atoms):
        layer = network.layer(reader.name)
        if form_lock(layer):
            return None
        dimension = 0 if isinstance(layer, Transposed) else 1
        for axis in ground.coupling.weights[f"{reader.name}.weight"]:
            if axis.dimension == dimension:
                found[reader.name] = slices_of(layer.get_parameter("weight"), axis, atoms)
    read = ChannelGroups(list(found.values()), len(atoms)).sizes
    return found if bool((read > 0).all()) else None


def _logits(sizes: Tensor) -> Tensor:
    """Return log α of gates by the sizes of their units, 1 at the border of what goes."""
    return (START + GROWTH * sizes.log()).clamp(LEAST, MOST)
