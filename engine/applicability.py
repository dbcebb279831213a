"""Which methods each layer can take, and a recipe made into methods after that check."""

import difflib
from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from featherweight.engine.errors import UserError
from featherweight.engine.functional_layers import is_usual
from featherweight.engine.inspecting.coupling import Coupling
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.budgets import ShareMethod
from featherweight.engine.methods.half_tables import fits_half
from featherweight.engine.methods.method import (
    CodingMethod,
    FactorMethod,
    Method,
    PrecisionMethod,
    SparsityMethod,
    biases,
    stored_weights,
)
from featherweight.engine.methods.registry import method_of, methods
from featherweight.engine.methods.structure.best_structure import BestStructure
from featherweight.engine.methods.structure.channel_pruning import ChannelPruning
from featherweight.engine.network import Network
from featherweight.engine.opaque_network import (
    EVIDENCE_LOCK,
    STRUCTURE_LOCK,
    TRAINING_LOCK,
    OpaqueNetwork,
)
from featherweight.engine.options import SLOTS, Slot
from featherweight.engine.reading.script_network import ScriptNetwork
from featherweight.engine.recipe import Choice, Recipe

FLOAT_BITS = 32
SCRIPT_LOCK = (
    "The network's script computes with its weights, so no other layer can take its place."
)
CODE_LOCK = (
    "The network was not captured, and its code may ask a recurrent layer for what factors lack."
)
ATTENTION_LOCK = (
    "The network was not captured, and attention asks its last layer for the weight itself."
)
UNMEASURED = "The network's script computes with its weights, so its inputs cannot be measured."


@dataclass(frozen=True)
class Chosen:
    """The methods of one layer, made from its choice, and whether biases take 16 bits."""

    structure: ChannelPruning | FactorMethod | None = None
    sparsity: SparsityMethod | None = None
    precision: PrecisionMethod | None = None
    coding: CodingMethod | None = None
    half_biases: bool = False


def locks(network: Network, coupling: Coupling) -> dict[str, dict[str, str]]:
    """Return for every layer the methods that cannot take it, each with its reason."""
    tied = _tied(network)
    return {
        name: {
            method: reason
            for method, kind in methods().items()
            if (reason := _lock(kind, name, layer, coupling, tied, network))
        }
        for name, layer in network.layers()
    }


def chosen_methods(
    network: Network, coupling: Coupling, recipe: Recipe, check: Check = unchecked
) -> dict[str, Chosen]:
    """Make the methods of every layer that has a choice, in the order of the network's layers.

    Calls `check` where a search for one takes long, which raises to stop it.
    Raises UserError naming the layer and the slot: an unknown layer or method, an option out of
    range, or a method that cannot take its layer, with the reason.
    """
    layers = dict(network.layers())
    for name in recipe.layers:
        if name not in layers:
            near = sorted(difflib.get_close_matches(name, layers), key=list(layers).index)
            hint = f"Did you mean {' or '.join(near)}?" if near else "`inspect` lists its layers."
            raise UserError(f"The recipe names layer {name}, which the network lacks.", hint)
    tied = _tied(network)
    found = {}
    for name, layer in layers.items():
        if name in recipe.layers:
            made = _made(name, recipe.layers[name])
            for method in made.values():
                reason = _lock(type(method), name, layer, coupling, tied, network)
                # Its options may ask for more than the method does by itself.
                if reason := reason or (_lent(network)[1] if method.needs() else ""):
                    message = f"Layer {name} cannot take {method.name}: {reason}"
                    raise UserError(message, "Take it out of the recipe.")
            found[name] = _chosen(made, layer, check)
            if recipe.side_bits == 16:
                found[name] = _narrowed(found[name], layer)
            if reason := _mask_lock(found[name]):
                message = f"Layer {name} cannot have both a sparsity and this precision: {reason}"
                raise UserError(message, "Take one of the two out.")
            if reason := _coding_lock(found[name]):
                raise UserError(f"Layer {name} cannot be coded like this: {reason}")
    return _shared_out(layers, found)


def _shared_out(layers: dict[str, nn.Module], found: dict[str, Chosen]) -> dict[str, Chosen]:
    """Give each layer its own part of a sparsity that layers of equal options have together."""
    pools: dict[ShareMethod, dict[str, list[Tensor]]] = {}
    for name, chosen in found.items():
        if isinstance(chosen.sparsity, ShareMethod):
            layer = layers[name]
            weights: list[Tensor] = [layer.get_parameter(one) for one in stored_weights(layer)]
            pools.setdefault(chosen.sparsity, {})[name] = weights
    own = {
        name: method
        for pool, weights in pools.items()
        for name, method in pool.shared_out(weights).items()
    }
    return {
        name: replace(chosen, sparsity=own.get(name, chosen.sparsity))
        for name, chosen in found.items()
    }


def _narrowed(chosen: Chosen, layer: nn.Module) -> Chosen:
    """Let scales and biases take 16 bits where they keep well, as the source's numbers say.

    By these, because a prediction and a run have to take the same.
    """
    tensors = {name: value.detach() for name, value in layer.named_parameters(recurse=False)}
    weights = [tensors[name] for name in stored_weights(layer)]
    return replace(
        chosen,
        precision=chosen.precision.narrowed(weights) if chosen.precision else None,
        half_biases=all(fits_half(tensors[name]) for name in biases(layer)),
    )


def _made(name: str, choice: Choice) -> dict[Slot, Method]:
    made: dict[Slot, Method] = {}
    for slot in SLOTS:
        setting = choice.setting(slot)
        if setting is None:
            continue
        where = f"layers.{name}.{slot}"
        method = method_of(setting, where)
        if method.slot != slot:
            raise UserError(f"{where}: {method.name} belongs into the slot {method.slot}.")
        made[slot] = method
    return made


def _chosen(made: dict[Slot, Method], layer: nn.Module, check: Check) -> Chosen:
    structure, sparsity = made.get("structure"), made.get("sparsity")
    precision, coding = made.get("precision"), made.get("coding")
    assert structure is None or isinstance(structure, ChannelPruning | FactorMethod)
    if isinstance(structure, BestStructure):
        # On the weights of the source, so that a prediction and a run take the same.
        structure = structure.resolved(layer, check)
    assert sparsity is None or isinstance(sparsity, SparsityMethod)
    assert precision is None or isinstance(precision, PrecisionMethod)
    assert coding is None or isinstance(coding, CodingMethod)
    return Chosen(structure, sparsity, precision, coding)


def check_trainable(network: Network, recipe: Recipe) -> None:
    """Raise UserError where a recipe trains what gives no gradients, or layers without a graph."""
    recovers = recipe.recovery is not None and recipe.recovery.acts
    if recipe.reconstruction and network.graph_lock:
        raise UserError(
            f"The layers cannot be trained one by one: {network.graph_lock}.",
            "Take the reconstruction out of the recipe.",
        )
    if (recovers or recipe.preparation) and isinstance(network.module, OpaqueNetwork):
        training = "recovery" if recovers else "preparation"
        raise UserError(
            f"The network cannot be trained: {TRAINING_LOCK}.",
            f"Take the {training} out of the recipe.",
        )


def _lent(network: Network) -> tuple[str, str]:
    """Return why no other layer takes a layer's place, and why no data says anything of it.

    Both are empty where the network calls its layers itself.
    """
    if isinstance(network.module, ScriptNetwork):
        return SCRIPT_LOCK, UNMEASURED
    if isinstance(network.module, OpaqueNetwork):
        return STRUCTURE_LOCK, EVIDENCE_LOCK
    return "", ""


def _lock(
    kind: type[Method],
    name: str,
    layer: nn.Module,
    coupling: Coupling,
    tied: dict[str, str],
    network: Network,
) -> str:
    structure_lock, evidence_lock = _lent(network)
    if reason := kind.lock(layer):
        return reason
    if issubclass(kind, ChannelPruning):
        return coupling.locks.get(name, "")
    if structure_lock and issubclass(kind, FactorMethod):
        return structure_lock
    if network.graph_lock and issubclass(kind, FactorMethod) and (reason := _code_lock(layer)):
        return reason
    if evidence_lock and kind().needs():
        return evidence_lock
    if name in tied:
        return f"Its weight is shared with {tied[name]}; changed alone it would be stored twice."
    return ""


def _code_lock(layer: nn.Module) -> str:
    """Return why a layer that code calls, and no graph, keeps its place; empty if it need not."""
    if isinstance(layer, nn.RNNBase):
        return CODE_LOCK
    if isinstance(layer, NonDynamicallyQuantizableLinear):
        return ATTENTION_LOCK
    if not is_usual(layer):
        return f"{type(layer).__name__} computes in a way of its own, which a chain would not."
    return ""


def _mask_lock(chosen: Chosen) -> str:
    if chosen.sparsity is None or chosen.precision is None:
        return ""
    return chosen.precision.mask_lock


def _coding_lock(chosen: Chosen) -> str:
    if chosen.coding is None:
        return ""
    bits = chosen.precision.symbol_bits() if chosen.precision else FLOAT_BITS
    has_zero = chosen.sparsity is not None or chosen.precision is None
    has_zero = has_zero or (chosen.precision is not None and chosen.precision.holds_zero)
    return chosen.coding.symbol_lock(bits, has_zero)


def _tied(network: Network) -> dict[str, str]:
    owners: dict[int, list[str]] = {}
    for name, layer in network.layers():
        for parameter in layer.parameters():
            owners.setdefault(id(parameter), []).append(name)
    return {
        name: next(other for other in names if other != name)
        for names in owners.values()
        if len(set(names)) > 1
        for name in names
    }
