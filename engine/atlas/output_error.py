"""How far the outputs of one changed layer are from those it gives now."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from featherweight.engine.applicability import Chosen
from featherweight.engine.atlas.layer_inputs import (
    Trial,
    affordable,
    fewer,
    trial_lock,
    view_of,
    white_inputs,
    work_of,
)
from featherweight.engine.compression import constrained_form
from featherweight.engine.evidence import NOTHING, Evidence, input_lock
from featherweight.engine.inspecting.spectrum import singular_values
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.method import FactorMethod, stored_weights
from featherweight.engine.methods.structure.channel_pruning import ChannelPruning
from featherweight.engine.methods.structure.svd import Svd

# Of a tensor with more elements some rows stand for all.
ELEMENTS = 1 << 18
FEWEST_ROWS = 16
# A wider matrix takes seconds to be taken apart; its spectrum alone tells of low rank.
WIDE = 1024

CHANNELS = (
    "Channels that are removed are no error of this layer's outputs; the layers that read them "
    "lose inputs."
)


@dataclass(frozen=True)
class Known:
    """What is known of a layer's inputs: rows (groups, rows, columns) of them, and evidence."""

    rows: Tensor | None = None
    evidence: Mapping[str, Evidence] | None = None

    @property
    def elements(self) -> int:
        """How many numbers are held."""
        held = [] if self.rows is None else [self.rows]
        for told in (self.evidence or {}).values():
            held += told.moments.blocks if told.moments else ()
            held += [told.gradients.squares] if told.gradients else []
        return sum(tensor.numel() for tensor in held)


def error_lock(layer: nn.Module, chosen: Chosen) -> str:
    """Return why no error of the layer's outputs can be told, a sentence; empty if it can."""
    if isinstance(chosen.structure, ChannelPruning):
        return CHANNELS
    if chosen.structure is not None:
        return trial_lock(layer)
    return "" if stored_weights(layer) else "It has no weights that a method changes."


@torch.no_grad()
def output_error(layer: nn.Module, chosen: Chosen, known: Known, check: Check = unchecked) -> float:
    """Return ‖(f - f̂)(X)‖² / ‖W X‖² of a layer f and what its choice makes of it, f̂.

    X are the rows of inputs; without them it is the relative error of the weights, on white noise
    where a structure takes the layer's place. Structure, sparsity and precision act together; the
    layer is unchanged. Where no structure does, a tensor of more than 262144 elements is told by
    evenly spaced rows (outputs) of it: methods that go by rows give exactly these rows, those that
    go by the whole tensor about these. Infinite where the layer gives only zeros, nan where
    something is not finite. Raises CancelledError.
    """
    if isinstance(chosen.structure, FactorMethod):
        return _by_trial(layer, chosen, known, check)
    return _by_weights(layer, chosen, known, check)


def spectral_rank_error(layer: nn.Module, method: Svd, spectrum: tuple[float, ...]) -> float:
    """Return the relative error of the weights at the rank of a method: ‖W - Ŵ‖² / ‖W‖²."""
    rank = method.skeleton(layer)[0].get_parameter("weight").shape[0]
    squares = [value * value for value in spectrum]
    return sum(squares[rank:]) / sum(squares) if any(squares) else 0.0


def told_by_spectrum(layer: nn.Module, chosen: Chosen) -> bool:
    """Say whether the spectrum of a wide layer tells its error in a fraction of the time."""
    alone = chosen.sparsity is None and chosen.precision is None
    if not alone or not isinstance(chosen.structure, Svd) or chosen.structure.needs():
        return False
    return not trial_lock(layer) and min(_matrix(layer).shape) > WIDE


def spectrum_of(layer: nn.Module) -> tuple[float, ...]:
    """Return the singular values of a layer's weight seen as outputs by the rest."""
    return singular_values(_matrix(layer))


def _matrix(layer: nn.Module) -> Tensor:
    return layer.get_parameter("weight").detach().flatten(1)


def _by_trial(layer: nn.Module, chosen: Chosen, known: Known, check: Check) -> float:
    assert isinstance(chosen.structure, FactorMethod)
    chain = chosen.structure.informed(layer, known.evidence or {}, check).eval()
    _constrain(chain, chosen, check)
    count = affordable(work_of(layer))
    rows = white_inputs(layer, count) if known.rows is None else fewer(known.rows, count)
    trial = Trial(layer, rows)
    check()
    now = trial.outputs(layer)
    error = float((trial.outputs(chain) - now).double().square().sum())
    bias = layer.bias
    if isinstance(bias, Tensor):
        now = now - bias.float()
    return _ratio(error, float(now.double().square().sum()))


def _constrain(chain: nn.Module, chosen: Chosen, check: Check) -> None:
    constrained = replace(chosen, structure=None)
    if constrained.sparsity is None and constrained.precision is None:
        return
    for part in chain.children():
        for name in stored_weights(part):
            check()
            held = part.get_parameter(name)
            value = constrained_form(held, constrained, NOTHING, check)()
            part.register_parameter(name, nn.Parameter(value.to(held.dtype)))


def _by_weights(layer: nn.Module, chosen: Chosen, known: Known, check: Check) -> float:
    error = power = 0.0
    for name in stored_weights(layer):
        check()
        weight = layer.get_parameter(name).detach()
        evidence = (known.evidence or {}).get(name, NOTHING)
        rows = known.rows if name == "weight" and not input_lock(layer) else None
        weight = _some_rows(layer, weight, evidence, rows)
        held = constrained_form(weight, chosen, evidence, check)()
        lost, all_of_it = weight - held, weight
        if rows is not None:
            view = view_of(layer)
            seen = fewer(rows, affordable(weight.numel())).transpose(1, 2)
            lost, all_of_it = (view.matrix(part.float()) @ seen for part in (lost, weight))
            if any(m.corrects_bias() for m in (chosen.sparsity, chosen.precision) if m):
                lost = lost - lost.mean(2, keepdim=True)
        error += float(lost.double().square().sum())
        power += float(all_of_it.double().square().sum())
    return _ratio(error, power)


def _some_rows(layer: nn.Module, weight: Tensor, evidence: Evidence, rows: Tensor | None) -> Tensor:
    """Return evenly spaced rows of a large tensor, the whole of one that cannot be divided."""
    grouped = rows is not None and (view_of(layer).groups > 1 or view_of(layer).transposed)
    if weight.numel() <= ELEMENTS or grouped or evidence.gradients is not None:
        return weight
    count = max(FEWEST_ROWS, ELEMENTS // math.prod(weight.shape[1:]))
    return weight[torch.arange(count) * len(weight) // count] if count < len(weight) else weight


def _ratio(error: float, power: float) -> float:
    if not error:
        return 0.0
    return error / power if power else math.inf
