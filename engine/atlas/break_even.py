"""From which strength on a method makes its layer no smaller, or no cheaper to compute.

Counted on shapes alone, in the way of a prediction; no method runs for it.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from featherweight.engine.applicability import Chosen
from featherweight.engine.atlas.strength_grid import moved
from featherweight.engine.compression import coded_bits, constrained_form, layer_coding
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.inspecting.lone_layer import NAME, alone
from featherweight.engine.methods.coding.bit_packed import BitPacked
from featherweight.engine.methods.method import FactorMethod, Method, SparsityMethod, settled
from featherweight.engine.methods.structure.best_structure import BestStructure
from featherweight.engine.options import Option
from featherweight.engine.prediction import Predictor
from featherweight.engine.recipe import Recipe
from featherweight.engine.results import BreakEven, Cost

# So many weights are enough to count what a coder makes of a share of zeros.
SAMPLE = 1 << 14
SEED = 20261124
FINEST = 1e-3

Gain = Callable[[float], float]


def break_evens(
    layer: nn.Module, input_shape: tuple[int, ...], chosen: Chosen, method: Method, option: Option
) -> tuple[BreakEven | None, BreakEven | None]:
    """Return where the layer stops getting smaller, and for methods of speed where cheaper.

    Compared is with the same choice without the method. `option` is the method's strength, a
    number. None where it gains at every strength, or where only running it would tell.
    """
    if isinstance(method, FactorMethod) and not isinstance(method, BestStructure):
        costs = _Costs(layer, input_shape, chosen)
        smaller = turning(
            lambda strength: costs.saved(moved(method, option, strength)).bits, option
        )
        if "speed" not in method.gain:
            return smaller, None
        return smaller, turning(
            lambda strength: costs.saved(moved(method, option, strength)).macs, option
        )
    if isinstance(method, SparsityMethod):
        coded = _Coded(chosen)
        return turning(lambda strength: coded.saved(moved(method, option, strength)), option), None
    return None, None


def turning(gain: Gain, option: Option) -> BreakEven | None:
    """Return where a gain that rises or falls over the range of an option is positive no more.

    By bisection, to a thousandth or to a whole number.
    """
    low, high = option.minimum or 0.0, option.maximum or 1.0
    gains = gain(low) > 0, gain(high) > 0
    if all(gains):
        return None
    if not any(gains):
        return BreakEven(at=None)
    good, bad = (low, high) if gains[0] else (high, low)
    above = gains[0]
    finest = 1.0 if option.kind == "integer" else FINEST
    while abs(bad - good) > finest * (1 + 1e-9):
        middle = _between(good, bad, finest)
        if gain(middle) > 0:
            good = middle
        else:
            bad = middle
    return BreakEven(at=good, above=above)


def _between(one: float, other: float, finest: float) -> float:
    steps = math.floor((one + other) / 2 / finest + 1e-9)
    middle = round(steps * finest, 9)
    return middle if min(one, other) < middle < max(one, other) else (one + other) / 2


class _Costs:
    """Costs of one layer as a network of its own, which is never run."""

    def __init__(self, layer: nn.Module, input_shape: tuple[int, ...], chosen: Chosen) -> None:
        # On the meta device, so that nothing is ever hooked that others run at the same time.
        network = alone(layer, input_shape).skeleton()
        self._predictor = Predictor(network, analyse(network))
        # What depends on values beside shapes is left out on both sides.
        coding = chosen.coding if chosen.coding and chosen.coding.fixed_length else None
        self._chosen = replace(chosen, sparsity=None, coding=coding, structure=None)
        self._without = self._cost(self._chosen)

    def saved(self, method: FactorMethod) -> Cost:
        cost = self._cost(replace(self._chosen, structure=method))
        without = self._without
        return Cost(
            parameters=without.parameters - cost.parameters,
            macs=without.macs - cost.macs,
            bits=without.bits - cost.bits,
        )

    def _cost(self, chosen: Chosen) -> Cost:
        return self._predictor.predict(Recipe(), {NAME: chosen}).layers[NAME]


class _Coded:
    """Bits of normal numbers of which a share is zero, at random places."""

    def __init__(self, chosen: Chosen) -> None:
        self._chosen = chosen
        generator = torch.Generator().manual_seed(SEED)
        self._values = torch.randn(SAMPLE // 64, 64, generator=generator)
        self._order = torch.randperm(SAMPLE, generator=generator)
        self._without = self._bits(None)

    def saved(self, method: SparsityMethod) -> float:
        mask = torch.zeros(SAMPLE, dtype=torch.bool)
        mask[self._order[: method.kept(SAMPLE)]] = True
        return self._without - self._bits(mask.reshape(self._values.shape))

    def _bits(self, mask: Tensor | None) -> int:
        weight = self._values if mask is None else self._values * mask
        chosen = replace(self._chosen, structure=None, sparsity=None)
        if chosen.precision is not None:
            form = settled(chosen.precision.trainable(weight, mask))
        else:
            form = settled(constrained_form(weight, chosen))
        symbols = form.symbols()
        both = self._chosen if mask is not None else chosen
        coder = layer_coding(both, [symbols]) or BitPacked()
        return coded_bits(coder, symbols)
