"""Channels led to zero by proximal steps of the norms of their groups, λ Σ √|g| ‖w_g‖.

Wen et al.: Learning Structured Sparsity in Deep Neural Networks (2016), arXiv 1608.03665; a group
is all that makes a channel or reads it, as in Fang et al.: DepGraph (2023), arXiv 2301.12900.
"""

from featherweight.engine.network import Network
from featherweight.engine.preparing.channel_leads import (
    ChannelLead,
    no_channels,
    thinnings,
    whole_groups,
)
from featherweight.engine.preparing.ground import Ground
from featherweight.engine.preparing.leading import Lead


def leads(ground: Ground, network: Network) -> list[Lead]:
    """Return the leads of the channels that take part. Raises UserError where there are none."""
    found: list[Lead] = []
    for thinning in thinnings(ground):
        whole = whole_groups(ground, network, thinning)
        found.append(ChannelLead(thinning, whole, whole))
    if not found:
        raise no_channels()
    return found
