"""Measured latency written into the layers, with the share that each takes of the whole."""

import msgspec

from featherweight.engine.events import LatencyMeasured
from featherweight.engine.figures import Figure
from featherweight.engine.layer import Layer


def with_latency(layers: dict[str, Layer], measured: LatencyMeasured) -> dict[str, Layer]:
    """Return the layers with what was measured of them; those that were not timed stay."""
    whole = sum(measured.layers.values()) or 1.0
    timed = {
        name: msgspec.structs.replace(
            layers[name], latency=Figure(taken, "ms", "measured"), share=taken / whole
        )
        for name, taken in measured.layers.items()
        if name in layers
    }
    return {**layers, **timed}
