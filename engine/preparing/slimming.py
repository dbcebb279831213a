"""Channels led to zero by proximal steps of the scales of their batch norms, λ Σ |s|.

Liu et al.: Learning Efficient Convolutional Networks through Network Slimming (2017), arXiv
1708.06519. Norms that lose a channel together count by the root of the sum of their squares.
"""

from featherweight.engine.errors import UserError
from featherweight.engine.inspecting.channel_layers import BatchNorm
from featherweight.engine.network import Network
from featherweight.engine.preparing.channel_groups import groups_of
from featherweight.engine.preparing.channel_leads import (
    ChannelLead,
    no_channels,
    thinnings,
    whole_groups,
)
from featherweight.engine.preparing.ground import Ground
from featherweight.engine.preparing.leading import Lead


def leads(ground: Ground, network: Network) -> list[Lead]:
    """Return the leads of channels that batch norms with scales follow.

    Raises UserError where no channels go, or none of them has such a scale.
    """
    scales = frozenset(
        f"{name}.weight" for name, layer in network.layers() if isinstance(layer, BatchNorm)
    )
    found: list[Lead] = []
    going = list(thinnings(ground))
    for thinning in going:
        led = groups_of(network, ground.coupling, thinning.atoms, scales)
        if bool((led.sizes > 0).all()):
            found.append(ChannelLead(thinning, led, whole_groups(ground, network, thinning)))
    if not going:
        raise no_channels()
    if not found:
        raise UserError(
            "No layer takes part in the preparation: no batch norm scales channels that go.",
            "Choose group lasso as the way of the preparation.",
        )
    return found
