"""What a preparation gives."""

from dataclasses import dataclass

from featherweight.engine.applicability import Chosen
from featherweight.engine.network import Network


@dataclass(frozen=True)
class Prepared:
    """A trained network of the source's shape, and what its layers will get.

    The methods are the recipe's own but for ranks that were shared out anew, which in all hold no
    more parameters and bits.
    """

    network: Network
    chosen: dict[str, Chosen]
