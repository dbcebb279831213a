"""A recipe's choices carried out on a network, in the order of the slots.

`restructured` changes shapes, `constrain` puts weights on their masks and grids in a form that
still trains, `halve_biases` does so with biases, `settle` gives the final small form. Coding
happens when the archive is written.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from featherweight.engine.applicability import Chosen
from featherweight.engine.channel_removal import remove_channels
from featherweight.engine.errors import UserError
from featherweight.engine.evidence import NOTHING, Collect, Evidence, Need, nothing
from featherweight.engine.inspecting.coupling import Coupling
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.coding.bit_packed import BitPacked
from featherweight.engine.methods.coding.sparse_index import SparseIndex
from featherweight.engine.methods.equalization import equalize
from featherweight.engine.methods.method import (
    CodingMethod,
    FactorMethod,
    biases,
    stored_weights,
)
from featherweight.engine.methods.network_surgery import ROUNDS, operate
from featherweight.engine.methods.precision.float16 import Float16Form, TrainableFloat16
from featherweight.engine.methods.sparsity.network_surgeon import NetworkSurgeon
from featherweight.engine.methods.structure.channel_pruning import (
    ChannelPruning,
    asked,
    compensate,
    plan,
)
from featherweight.engine.network import Network
from featherweight.engine.weight_forms import (
    CompactLayer,
    MaskedForm,
    StoredForm,
    Symbols,
    TrainableForm,
    WeightForm,
    form_lock,
)

# What is measured again and again during a surgery of all layers, before all else.
JOINT: frozenset[Need] = frozenset({"jacobian"})


def restructured(
    network: Network,
    coupling: Coupling,
    chosen: Mapping[str, Chosen],
    check: Check = unchecked,
    collect: Collect = nothing,
    made: Network | None = None,
) -> Network:
    """Return a copy of the network in its new shape; the network itself is unchanged.

    Channels go first, everywhere at once; then layers become chains of factors; then those whose
    precision asks for it share their ranges. `collect` measures what methods ask of the data.
    `made` is a copy to change: its skeleton, to count shapes without numbers, or for methods that
    do not `write_in_place` its shell.
    Raises UserError where a layer is too small for its method once its channels are gone.
    """
    made = network.copy() if made is None else made
    skeleton = any(value.is_meta for value in made.module.parameters())
    pruning = {
        name: methods.structure
        for name, methods in chosen.items()
        if isinstance(methods.structure, ChannelPruning)
    }
    if pruning:
        found = collect(made, asked(network, coupling, pruning))
        cut = plan(network, coupling, pruning, found, check)
        if not skeleton:
            compensate(made, cut, pruning, found)
        remove_channels(made, cut)
    factored = {
        name: methods.structure
        for name, methods in chosen.items()
        if isinstance(methods.structure, FactorMethod)
    }
    found = collect(made, {name: method.needs() for name, method in factored.items()})
    for name, method in factored.items():
        check()
        _factor(made, name, method, found.get(name, {}), check, skeleton)
    if not skeleton:
        equalize(made, _equalized(made, chosen), check)
    return made


def write_in_place(chosen: Mapping[str, Chosen]) -> bool:
    """Say whether methods change tensors in place, so that no other network may have them."""
    return any(
        (isinstance(methods.structure, ChannelPruning) and methods.structure.changes_readers())
        or (methods.precision is not None and methods.precision.equalizes())
        or isinstance(methods.sparsity, NetworkSurgeon)
        for methods in chosen.values()
    )


def constrain(
    network: Network,
    chosen: Mapping[str, Chosen],
    check: Check = unchecked,
    collect: Collect = nothing,
) -> None:
    """Put the weights of chosen layers into forms that train under their constraint, in place.

    Raises UserError where a surgery of all layers has too many weights.
    """
    if kept := _operated(network, chosen):
        operate(network, kept, collect, check)
    found = collect(network, _constraint_needs(network, chosen))
    for name, methods in chosen.items():
        if methods.sparsity is None and methods.precision is None:
            continue
        for part in network.parts[name]:
            check()
            layer = network.layer(part)
            forms = {
                tensor: constrained_form(
                    layer.get_parameter(tensor),
                    methods,
                    found.get(part, {}).get(tensor, NOTHING),
                    check,
                )
                for tensor in stored_weights(layer)
            }
            if forms:
                if any(m.corrects_bias() for m in (methods.sparsity, methods.precision) if m):
                    _correct_bias(layer, forms, found.get(part, {}))
                network.replace(part, CompactLayer(layer, dict(forms)))


def halve_biases(network: Network, chosen: Mapping[str, Chosen]) -> None:
    """Let biases of chosen layers, where they are to take 16 bits, train as float16, in place.

    To be called when the weights have their forms.
    """
    for name, methods in chosen.items():
        for part in network.parts[name] if methods.half_biases else ():
            layer = network.layer(part)
            if isinstance(layer, CompactLayer):
                for bias in [one for one in biases(layer.rest) if one not in layer.forms]:
                    form = TrainableFloat16(layer.rest.pop(bias), None, Float16Form)
                    layer.forms[bias] = form
            elif names := halved_biases(layer):
                forms: dict[str, WeightForm] = {
                    bias: TrainableFloat16(layer.get_parameter(bias), None, Float16Form)
                    for bias in names
                }
                network.replace(part, CompactLayer(layer, forms))


def halved_biases(layer: nn.Module) -> list[str]:
    """Return which biases of a plain layer can take 16 bits."""
    return [] if form_lock(layer) else biases(layer)


def constrained_form(
    weight: Tensor, methods: Chosen, evidence: Evidence = NOTHING, check: Check = unchecked
) -> TrainableForm:
    """Return the trainable form of one weight tensor under a sparsity and a precision."""
    weight, mask = weight.detach(), None
    if methods.sparsity:
        weight, mask = methods.sparsity.pruned(weight, evidence, check)
    if methods.precision:
        return methods.precision.informed(weight, mask, evidence, check)
    return MaskedForm(weight, mask)


@torch.no_grad()
def _correct_bias(
    layer: nn.Module, forms: Mapping[str, TrainableForm], evidence: Mapping[str, Evidence]
) -> None:
    """Shift the bias of a layer by the mean of what its new weight takes from the outputs."""
    bias, moments = getattr(layer, "bias", None), evidence.get("weight", NOTHING).moments
    if isinstance(bias, Tensor) and moments is not None:
        shift = moments.shift(layer.get_parameter("weight") - forms["weight"]())
        if shift.isfinite().all():
            layer.register_parameter("bias", nn.Parameter(bias + shift))


def passes(chosen: Mapping[str, Chosen]) -> int:
    """Return how many times the data is measured on the way of these methods."""
    structures = [methods.structure for methods in chosen.values()]
    stages = (
        [method for method in structures if isinstance(method, ChannelPruning)],
        [method for method in structures if isinstance(method, FactorMethod)],
        [method for methods in chosen.values() for method in (methods.sparsity, methods.precision)],
    )
    surgery = any(isinstance(methods.sparsity, NetworkSurgeon) for methods in chosen.values())
    measured = [any(method and method.needs() - JOINT for method in stage) for stage in stages]
    return sum(measured) + (ROUNDS if surgery else 0)


def _operated(network: Network, chosen: Mapping[str, Chosen]) -> dict[str, int]:
    """Return how many weights stay of each layer that takes part in a surgery of all layers."""
    return {
        part: methods.sparsity.kept(network.layer(part).get_parameter("weight").numel())
        for name, methods in chosen.items()
        if isinstance(methods.sparsity, NetworkSurgeon)
        for part in network.parts[name]
        if stored_weights(network.layer(part)) == ["weight"]
    }


def _constraint_needs(network: Network, chosen: Mapping[str, Chosen]) -> dict[str, frozenset[Need]]:
    return {
        part: frozenset().union(
            *(method.needs() - JOINT for method in (methods.sparsity, methods.precision) if method)
        )
        for name, methods in chosen.items()
        for part in network.parts[name]
    }


def _equalized(network: Network, chosen: Mapping[str, Chosen]) -> list[str]:
    return [
        part
        for name, methods in chosen.items()
        if methods.precision and methods.precision.equalizes()
        for part in network.parts[name]
    ]


def codings(network: Network, chosen: Mapping[str, Chosen]) -> dict[str, CodingMethod]:
    """Return the coder of every layer of a settled network that stands for a chosen one."""
    found = {}
    layers = dict(network.layers())
    for name, methods in chosen.items():
        # A chain may have parts without numbers, such as a shuffle, which are no layers.
        for part in filter(layers.__contains__, network.parts[name]):
            layer = layers[part]
            held = layer.held().values() if isinstance(layer, CompactLayer) else ()
            stored = [form for form in held if isinstance(form, StoredForm)]
            symbols = [form.symbols() for form in stored if len(form.shape) > 1]
            found[part] = layer_coding(methods, symbols)
    return {part: coding for part, coding in found.items() if coding is not None}


def layer_coding(methods: Chosen, symbols: Sequence[Symbols]) -> CodingMethod | None:
    """Return the coder of a layer: the chosen one, else for sparse weights the smaller of two."""
    if methods.coding is not None or methods.sparsity is None:
        return methods.coding
    coders: tuple[CodingMethod, ...] = (SparseIndex(), BitPacked())
    return min(coders, key=lambda coder: sum(coded_bits(coder, each) for each in symbols))


def form_bits(forms: Sequence[StoredForm], methods: Chosen) -> list[int]:
    """Return the bits of each of a layer's forms, coded together, with what lies beside them."""
    symbols = [form.symbols() for form in forms]
    coder = layer_coding(methods, symbols) or BitPacked()
    sides = [sum(side.nbytes * 8 for side in form.parts().values()) for form in forms]
    return [coded_bits(coder, each) + side for each, side in zip(symbols, sides, strict=True)]


def coded_bits(coder: CodingMethod, symbols: Symbols) -> int:
    """Return how many bits a coder makes of the symbols, padding left out."""
    coded = coder.predicted(symbols) or coder.encode(symbols)
    return coded.values + coded.indices + coded.tables


def _factor(
    network: Network,
    name: str,
    method: FactorMethod,
    evidence: Mapping[str, Evidence],
    check: Check,
    skeleton: bool,
) -> None:
    layer = network.layer(name)
    if reason := method.lock(layer):
        message = f"Layer {name} cannot take {method.name} after its channels are removed: {reason}"
        raise UserError(message, "Remove fewer channels or take the method out.")
    finite = skeleton or all(bool(value.isfinite().all()) for value in layer.parameters())
    if not finite:
        message = f"Layer {name} cannot take {method.name}: some of its weights are not finite."
        raise UserError(message, "Mend the weights, or take the method out.")
    chain = method.skeleton(layer) if skeleton else method.informed(layer, evidence, check)
    for value in chain.parameters():
        # The layout in memory changes the last bit of results, and no file keeps it.
        value.data = value.data.contiguous()
    network.replace(name, chain.train(layer.training))
