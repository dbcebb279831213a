"""What a recipe would give, without running it: shapes are built without numbers and counted.

Parameters and MACs come from the network's skeleton in its new shape, so they are those of the
real result. Stored bits are exact too where every symbol takes its own bits; where a coder looks
at the values, the weights as they are now are put on their grid and counted.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec
import torch
from torch import Tensor, fx, nn

from featherweight.engine.applicability import Chosen
from featherweight.engine.compression import (
    constrained_form,
    form_bits,
    halved_biases,
    restructured,
)
from featherweight.engine.inspecting.coupling import Coupling
from featherweight.engine.inspecting.survey import layers_of
from featherweight.engine.methods.method import FactorMethod, settled, stored_weights
from featherweight.engine.methods.structure.channel_pruning import ChannelPruning
from featherweight.engine.network import Network
from featherweight.engine.preparing.rank_ladders import RankMethod
from featherweight.engine.recipe import Recipe
from featherweight.engine.results import Cost, Prediction
from featherweight.engine.settled_norms import is_settled, norms_after, settled_bits

CACHED = 4096


class Predictor:
    """Predicts recipes for one network; what a coder made of a layer is kept for the next time."""

    def __init__(self, network: Network, coupling: Coupling) -> None:
        self._network = network
        self._coupling = coupling
        self._macs = _macs(network)
        self.before = _whole(network, self._macs)
        self._settled_before = {name for name, layer in network.layers() if is_settled(layer)}
        self._coded: dict[bytes, int] = {}

    def predict(self, recipe: Recipe, chosen: Mapping[str, Chosen]) -> Prediction:
        """Predict the cost of every layer and of the whole network."""
        shape, macs = self._shape(chosen)
        floats = {name: _cost(shape, parts, macs) for name, parts in shape.parts.items()}
        saved = {
            name: floats[name].bits - self._bits(shape, name, recipe, chosen) for name in chosen
        }
        for norm in self._settled(shape, recipe, chosen):
            saved[norm] = floats[norm].bits - settled_bits(shape.layer(norm))
        layers = {
            name: msgspec.structs.replace(cost, bits=cost.bits - saved.get(name, 0))
            for name, cost in floats.items()
        }
        whole = _whole(shape, macs)
        after = msgspec.structs.replace(whole, bits=whole.bits - sum(saved.values()))
        retrained = bool(recipe.preparation or recipe.reconstruction) or (
            recipe.recovery is not None and recipe.recovery.epochs > 0
        )
        # Channels chosen by data are other rows and columns in layers that ask for none.
        steady = not retrained and not any(
            isinstance(each.structure, ChannelPruning) and each.structure.needs()
            for each in chosen.values()
        )
        exact = all(
            _known_by_shape(each) or (steady and _blind(each)) for each in chosen.values()
        ) and not _chooses_ranks(recipe, chosen)
        return Prediction(layers=layers, before=self.before, after=after, exact=exact)

    def _settled(self, shape: Network, recipe: Recipe, chosen: Mapping[str, Chosen]) -> set[str]:
        """Return which batch norms end settled; one that 16 bits hold badly is hardly ever met."""
        found = set(norms_after(shape, chosen)) if recipe.side_bits == 16 else set()
        if recipe.recovery is None or not recipe.recovery.acts:
            found |= self._settled_before & shape.parts.keys()
        return found

    def _shape(self, chosen: Mapping[str, Chosen]) -> tuple[Network, Mapping[str, int]]:
        """Return the network in its new shape and the MACs of its layers."""
        if not any(methods.structure for methods in chosen.values()):
            return self._network, self._macs
        # Without a graph a run needs numbers, which a skeleton has none of.
        hollow = isinstance(self._network.module, fx.GraphModule)
        made = self._network.skeleton() if hollow else None
        shape = restructured(self._network, self._coupling, chosen, made=made)
        return shape, _macs(shape)

    def _bits(self, shape: Network, name: str, recipe: Recipe, chosen: Mapping[str, Chosen]) -> int:
        methods = chosen[name]
        if _known_by_shape(methods):
            return sum(_fixed_bits(shape, part, methods) for part in shape.parts[name])
        structures = {other: recipe.layers[other].structure for other in chosen}
        # A sparsity that layers have together depends on more than this layer's choice.
        given = (recipe.layers[name], recipe.side_bits, methods.sparsity)
        key = msgspec.msgpack.encode((name, given, structures))
        # Two threads predict: what one has seen here, the other may clear before it is read.
        bits = self._coded.get(key)
        if bits is None:
            bits = self._coded_bits(name, chosen)
            if len(self._coded) >= CACHED:
                self._coded.clear()
            self._coded[key] = bits
        return bits

    def _coded_bits(self, name: str, chosen: Mapping[str, Chosen]) -> int:
        """Quantize and count one layer; only its own factors are computed, all channels are cut."""
        needed = {
            other: methods
            for other, methods in chosen.items()
            if other == name or not isinstance(methods.structure, FactorMethod)
        }
        real = restructured(self._network, self._coupling, needed)
        return sum(_counted_bits(real, part, chosen[name]) for part in real.parts[name])


def _fixed_bits(network: Network, part: str, methods: Chosen) -> int:
    layer = network.layer(part)
    weights = stored_weights(layer)
    bits = _loose_bits(layer, methods)
    for name in weights:
        weight = layer.get_parameter(name)
        if methods.precision is None:
            bits += _bits(weight)
        else:
            bits += methods.precision.stored_bits(tuple(weight.shape))
    return bits


def _loose_bits(layer: nn.Module, methods: Chosen) -> int:
    """Return the bits of all tensors that are no stored weights, biases above all."""
    weights = stored_weights(layer)
    halved = halved_biases(layer) if methods.half_biases else []
    return sum(
        _bits(value) // (2 if name in halved else 1)
        for name, value in _tensors(layer)
        if name not in weights
    )


@torch.no_grad()
def _counted_bits(network: Network, part: str, methods: Chosen) -> int:
    layer = network.layer(part)
    weights = stored_weights(layer)
    forms = [settled(constrained_form(layer.get_parameter(name), methods)) for name in weights]
    return _loose_bits(layer, methods) + sum(form_bits(forms, methods))


def _known_by_shape(methods: Chosen) -> bool:
    if methods.coding is None:
        return methods.sparsity is None
    return methods.coding.fixed_length


def _chooses_ranks(recipe: Recipe, chosen: Mapping[str, Chosen]) -> bool:
    """Say whether ranks are shared out anew, so that the recipe's are the most there can be."""
    learns = recipe.preparation is not None and recipe.preparation.way == "learning-compression"
    return learns and any(isinstance(each.structure, RankMethod) for each in chosen.values())


def _blind(methods: Chosen) -> bool:
    """Say whether no method asks the data, of which a prediction knows nothing."""
    slots = (methods.structure, methods.sparsity, methods.precision)
    return not any(method and method.needs() for method in slots)


def _tensors(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from layer.named_parameters()
    yield from layer.named_buffers()


def _bits(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size() * 8


def _cost(network: Network, parts: Iterable[str], macs: Mapping[str, int]) -> Cost:
    layers = [network.layer(part) for part in parts]
    return Cost(
        parameters=sum(value.numel() for layer in layers for value in layer.parameters()),
        macs=sum(macs.get(part, 0) for part in parts),
        bits=sum(_bits(value) for layer in layers for _, value in _tensors(layer)),
    )


def cost_of(network: Network) -> Cost:
    """Return parameters, MACs per sample and bits of a whole network of plain layers."""
    return _whole(network, _macs(network))


def _macs(network: Network) -> dict[str, int]:
    return {layer.name: layer.macs or 0 for layer in layers_of(network)}


def _whole(network: Network, macs: Mapping[str, int]) -> Cost:
    parameters, buffers = list(network.module.parameters()), list(network.module.buffers())
    return Cost(
        parameters=sum(value.numel() for value in parameters),
        macs=sum(macs.values()),
        bits=sum(_bits(value) for value in (*parameters, *buffers)),
    )
