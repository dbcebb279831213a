"""Estimated sensitivity written into the layers, or the reason why a layer has none."""

import msgspec

from featherweight.engine.events import SensitivityEstimated
from featherweight.engine.figures import Figure
from featherweight.engine.layer import Layer


def with_sensitivity(
    layers: dict[str, Layer], told: SensitivityEstimated | None
) -> dict[str, Layer]:
    """Return the layers with what was estimated of them; None takes it away again."""
    rises = told.layers if told else {}
    reasons = told.reasons if told else {}
    return {
        name: msgspec.structs.replace(
            layer,
            sensitivity=Figure(rises[name], "", "estimated") if name in rises else None,
            sensitivity_lock=reasons.get(name, ""),
        )
        for name, layer in layers.items()
    }
