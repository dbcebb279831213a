"""How much more choices in several slots of a layer lose together than each of them alone.

A precision does more harm to factors than to the weight that they make: their errors are multiplied
with each other. That shows in the outputs of the layer alone, on the inputs that it gets. On a
residual network of 20 layers damages grew with the square of it, up to fifty times.
"""

import math
from collections.abc import Sequence

import msgspec
from torch import Tensor

from featherweight.engine.applicability import chosen_methods
from featherweight.engine.atlas.output_error import Known, error_lock, output_error
from featherweight.engine.errors import UserError
from featherweight.engine.inspecting.coupling import Coupling
from featherweight.engine.jobs import Check
from featherweight.engine.network import Network
from featherweight.engine.recipe import Choice, Recipe

POWER = 2
LEAST, MOST = 0.25, 100.0


class LayerErrors:
    """Output errors of the choices of one layer, each worked out once."""

    def __init__(
        self, network: Network, coupling: Coupling, name: str, rows: Tensor | None
    ) -> None:
        """Try choices on rows of the layer's inputs, (groups, rows, columns); else on noise."""
        self._network, self._coupling, self._name = network, coupling, name
        self._known = Known(rows=rows)
        self._errors: dict[bytes, float | None] = {}

    def growth(self, parts: Sequence[Choice], whole: Choice, check: Check) -> float:
        """Return how many times the summed damages of parts the whole does, as errors tell it.

        1 without a structure, and where nobody can tell. Raises CancelledError.
        """
        if whole.structure is None or len(parts) < 2:
            return 1.0
        alone = [self._of(part, check) for part in parts]
        together = self._of(whole, check)
        known = [error for error in alone if error is not None]
        if together is None or len(known) < len(alone) or not sum(known):
            return 1.0
        return min(max((together / sum(known)) ** POWER, LEAST), MOST)

    def _of(self, choice: Choice, check: Check) -> float | None:
        key = msgspec.msgpack.encode(choice)
        if key not in self._errors:
            self._errors[key] = self._found(choice, check)
        return self._errors[key]

    def _found(self, choice: Choice, check: Check) -> float | None:
        layer, recipe = self._network.layer(self._name), Recipe(layers={self._name: choice})
        try:
            chosen = chosen_methods(self._network, self._coupling, recipe, check)[self._name]
            if error_lock(layer, chosen):
                return None
            error = output_error(layer, chosen, self._known, check)
        except UserError:
            return None
        return error if math.isfinite(error) else None
