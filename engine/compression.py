"""A recipe's choices carried out on a network, in the order of the slots.

`restructured` changes shapes, `constrained` puts weights on their masks and grids in a form that
still trains, `settle` gives the final small form. Coding happens when the archive is written.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from featherweight.engine.applicability import Chosen
from featherweight.engine.channel_removal import remove_channels
from featherweight.engine.errors import UserError
from featherweight.engine.inspecting.coupling import Coupling
from featherweight.engine.methods.coding.bit_packed import BitPacked
from featherweight.engine.methods.coding.sparse_index import SparseIndex
from featherweight.engine.methods.method import (
    Check,
    CodingMethod,
    FactorMethod,
    stored_weights,
    unchecked,
)
from featherweight.engine.methods.structure.channel_pruning import ChannelPruning, plan
from featherweight.engine.network import Network
from featherweight.engine.weight_forms import (
    CompactLayer,
    MaskedForm,
    StoredForm,
    Symbols,
    TrainableForm,
)


def restructured(
    network: Network,
    coupling: Coupling,
    chosen: Mapping[str, Chosen],
    check: Check = unchecked,
    skeleton: bool = False,
) -> Network:
    """Return a copy of the network in its new shape; the network itself is unchanged.

    Channels go first, everywhere at once; then layers become chains of factors. With `skeleton`
    the copy is on the meta device: shapes without numbers, for counting.
    Raises UserError where a layer is too small for its method once its channels are gone.
    """
    made = network.skeleton() if skeleton else network.copy()
    pruning = {
        name: methods.structure
        for name, methods in chosen.items()
        if isinstance(methods.structure, ChannelPruning)
    }
    if pruning:
        remove_channels(made, plan(network, coupling, pruning))
    for name, methods in chosen.items():
        if isinstance(methods.structure, FactorMethod):
            check()
            _factor(made, name, methods.structure, check, skeleton)
    return made


def constrain(network: Network, chosen: Mapping[str, Chosen], check: Check = unchecked) -> None:
    """Put the weights of chosen layers into forms that train under their constraint, in place."""
    for name, methods in chosen.items():
        if methods.sparsity is None and methods.precision is None:
            continue
        for part in network.parts[name]:
            check()
            layer = network.layer(part)
            forms = {
                tensor: constrained_form(layer.get_parameter(tensor), methods, check)
                for tensor in stored_weights(layer)
            }
            if forms:
                network.replace(part, CompactLayer(layer, dict(forms)))


def constrained_form(weight: Tensor, methods: Chosen, check: Check = unchecked) -> TrainableForm:
    """Return the trainable form of one weight tensor under a sparsity and a precision."""
    weight = weight.detach()
    mask = methods.sparsity.mask(weight) if methods.sparsity else None
    if methods.precision:
        return methods.precision.trainable(weight, mask, check)
    return MaskedForm(weight, mask)


def codings(network: Network, chosen: Mapping[str, Chosen]) -> dict[str, CodingMethod]:
    """Return the coder of every layer of a settled network that stands for a chosen one."""
    found = {}
    for name, methods in chosen.items():
        for part in network.parts[name]:
            layer = network.layer(part)
            held = layer.held().values() if isinstance(layer, CompactLayer) else ()
            symbols = [form.symbols() for form in held if isinstance(form, StoredForm)]
            found[part] = layer_coding(methods, symbols)
    return {part: coding for part, coding in found.items() if coding is not None}


def layer_coding(methods: Chosen, symbols: Sequence[Symbols]) -> CodingMethod | None:
    """Return the coder of a layer: the chosen one, else for sparse weights the smaller of two."""
    if methods.coding is not None or methods.sparsity is None:
        return methods.coding
    coders: tuple[CodingMethod, ...] = (SparseIndex(), BitPacked())
    return min(coders, key=lambda coder: sum(coded_bits(coder, each) for each in symbols))


def coded_bits(coder: CodingMethod, symbols: Symbols) -> int:
    """Return how many bits a coder makes of the symbols, padding left out."""
    coded = coder.predicted(symbols) or coder.encode(symbols)
    return coded.values + coded.indices + coded.tables


def _factor(
    network: Network, name: str, method: FactorMethod, check: Check, skeleton: bool
) -> None:
    layer = network.layer(name)
    if reason := method.lock(layer):
        message = f"Layer {name} cannot take {method.name} after its channels are removed: {reason}"
        raise UserError(message, "Remove fewer channels or take the method out.")
    finite = skeleton or all(bool(value.isfinite().all()) for value in layer.parameters())
    if not finite:
        message = f"Layer {name} cannot take {method.name}: some of its weights are not finite."
        raise UserError(message, "Mend the weights, or take the method out.")
    chain = method.skeleton(layer) if skeleton else method.rewritten(layer, check)
    for value in chain.parameters():
        # The layout in memory changes the last bit of results, and no file keeps it.
        value.data = value.data.contiguous()
    network.replace(name, chain.train(layer.training))
