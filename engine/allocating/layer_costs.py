"""What choices of one layer cost, told from that layer alone, so that thousands can be told.

Parameters and MACs are those of the shapes. Stored bits are counted on the weights as they are; of
a large tensor some rows stand for all.
"""

from collections.abc import Iterator
from dataclasses import replace

import msgspec
import torch
from torch import Tensor, nn

from featherweight.engine.applicability import Chosen, chosen_methods
from featherweight.engine.compression import constrained_form, form_bits, restructured
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.inspecting.lone_layer import NAME, alone
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.coding.ans import Ans
from featherweight.engine.methods.method import settled, stored_weights
from featherweight.engine.network import Network
from featherweight.engine.prediction import cost_of
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.results import Cost
from featherweight.engine.weight_forms import StoredForm

SAMPLE = 1 << 17
ANS = Setting(Ans.name)


class LayerCosts:
    """Costs of one layer's choices; what a structure makes of it is worked out once."""

    def __init__(self, layer: nn.Module, input_shape: tuple[int, ...]) -> None:
        self._network = alone(layer, input_shape).shell()
        self._coupling = analyse(self._network)
        self._made: dict[bytes, tuple[Network, Cost]] = {}
        self._cheapest: dict[bytes, tuple[Choice, Cost]] = {}

    def cheapest(self, choice: Choice, check: Check = unchecked) -> tuple[Choice, Cost]:
        """Return the choice with the coding that makes it smallest, and what the layer then costs.

        A choice that names its coding keeps it. Raises UserError where the methods do not go
        together, CancelledError.
        """
        key = msgspec.msgpack.encode(choice)
        if key not in self._cheapest:
            self._cheapest[key] = self._found(choice, check)
        return self._cheapest[key]

    def _found(self, choice: Choice, check: Check) -> tuple[Choice, Cost]:
        chosen = self._chosen(choice, check)
        network, cost = self._structured(choice.structure, chosen, check)
        if chosen.sparsity is None and chosen.precision is None:
            return choice, cost
        held = list(_held(network, chosen, check))
        bits = _bits(held, chosen)
        wide = chosen.precision is None or Ans().symbol_lock(chosen.precision.symbol_bits(), True)
        if choice.coding is None and not wide:
            coded = _bits(held, replace(chosen, coding=Ans()))
            if coded < bits:
                choice, bits = choice.replaced("coding", ANS), coded
        saved = sum(of_floats for _, _, of_floats in held) - bits
        return choice, Cost(parameters=cost.parameters, macs=cost.macs, bits=cost.bits - saved)

    def _chosen(self, choice: Choice, check: Check) -> Chosen:
        recipe = Recipe(layers={NAME: choice})
        return chosen_methods(self._network, self._coupling, recipe, check).get(NAME, Chosen())

    def _structured(
        self, setting: Setting | None, chosen: Chosen, check: Check
    ) -> tuple[Network, Cost]:
        key = msgspec.msgpack.encode(setting)
        if key not in self._made:
            only = {NAME: Chosen(structure=chosen.structure)}
            made = restructured(self._network, self._coupling, only, check)
            self._made[key] = made, cost_of(made)
        return self._made[key]


def _held(
    network: Network, chosen: Chosen, check: Check
) -> Iterator[tuple[StoredForm, float, int]]:
    """Give the form of every stored weight, of which share of its rows it is, and its float bits.

    Zeros and grids are as they would be without data, which makes no difference to their number.
    """
    for _, layer in network.layers():
        for name in stored_weights(layer):
            weight = layer.get_parameter(name).detach()
            rows = _rows(weight)
            form = settled(constrained_form(rows, chosen, check=check))
            yield form, weight.numel() / rows.numel(), weight.numel() * weight.element_size() * 8


def _bits(held: list[tuple[StoredForm, float, int]], chosen: Chosen) -> int:
    bits = form_bits([form for form, _, _ in held], chosen)
    return round(sum(share * each for (_, share, _), each in zip(held, bits, strict=True)))


def _rows(weight: Tensor) -> Tensor:
    """Return rows of a weight, evenly spaced: all of a small one."""
    rows = max(1, SAMPLE * len(weight) // max(weight.numel(), 1))
    if rows >= len(weight):
        return weight
    return weight[torch.arange(rows) * len(weight) // rows]
