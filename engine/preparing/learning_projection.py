"""A layer's weights as its methods would leave them: what fewer numbers can hold, in full again."""

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from featherweight.engine.applicability import Chosen
from featherweight.engine.compression import constrained_form
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.method import FactorMethod, stored_weights
from featherweight.engine.methods.recurrent_factors import Recurrent, input_names
from featherweight.engine.weight_forms import form_lock

Tensors = dict[str, Tensor]
SEED = 20260101
PROBES, LARGEST_MISS = 4, 1e-3
ELEMENTS_AT_ONCE = 1 << 24


def projection_lock(layer: nn.Module, methods: Chosen, check: Check = unchecked) -> str:
    """Return the reason, a sentence, why a layer's weights have no projection; empty if they do."""
    if methods.structure is None:
        if methods.sparsity is None and methods.precision is None:
            return "Its methods leave the weights as they are."
        return form_lock(layer)
    if not isinstance(methods.structure, FactorMethod):
        return "Channels that go leave no weight of the same shape."
    if dense_weights(layer, methods.structure.rewritten(layer, check), check) is None:
        return "Its new structure is no weight of the same shape."
    return ""


@torch.no_grad()
def projected(layer: nn.Module, methods: Chosen, check: Check = unchecked) -> Tensors:
    """Return a layer's weights by name, float32, of their own shapes, under its methods.

    These are the nearest that the structure, then the sparsity and the precision can hold; no data
    is asked. For layers without a `projection_lock` only.
    """
    if not isinstance(methods.structure, FactorMethod):
        return {
            name: constrained_form(layer.get_parameter(name), methods, check=check)().detach()
            for name in stored_weights(layer)
        }
    chain = methods.structure.rewritten(layer, check)
    for part in chain if methods.sparsity or methods.precision else ():
        for name in stored_weights(part):
            value = part.get_parameter(name)
            value.copy_(constrained_form(value, methods, check=check)())
    found = dense_weights(layer, chain, check)
    assert found is not None
    return found


@torch.no_grad()
def dense_weights(
    layer: nn.Module, chain: nn.Sequential, check: Check = unchecked
) -> Tensors | None:
    """Return the weights that make a layer compute what a chain does; None where none do.

    `layer` has the shapes. They are read off the outputs for unit inputs, and tried on others.
    """
    if isinstance(layer, Recurrent):
        return _of_recurrent(layer, chain)
    chain.eval()
    if isinstance(layer, nn.Linear):
        return _of_linear(layer, chain, check)
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return _of_convolution(layer, chain, check)
    return None


def _of_linear(layer: nn.Linear, chain: nn.Sequential, check: Check) -> Tensors | None:
    if all(type(part) is nn.Linear for part in chain):
        made: Tensor = chain[0].get_parameter("weight")
        for part in list(chain)[1:]:
            made = part.get_parameter("weight") @ made
        return {"weight": made}
    count, kind = layer.in_features, layer.weight.dtype
    start = chain(torch.zeros(1, count, dtype=kind))
    rows = []
    for places in torch.arange(count).split(max(1, ELEMENTS_AT_ONCE // count)):
        check()
        rows.append(chain(nn.functional.one_hot(places, count).to(kind)) - start)
    weight = torch.cat(rows).T
    probes = _noise(PROBES, count).to(kind)
    near = _near(probes @ weight.T + start, chain(probes))
    return {"weight": weight.contiguous()} if near else None


def _of_recurrent(layer: Recurrent, chain: nn.Sequential) -> Tensors | None:
    if len(chain) != 2 or not isinstance(chain[1], Recurrent):
        return None
    first, narrow = chain[0].get_parameter("weight"), set(input_names(layer))
    own = {name: chain[1].get_parameter(name) for name in stored_weights(layer)}
    return {name: value @ first if name in narrow else value for name, value in own.items()}


def _of_convolution(layer: Any, chain: nn.Sequential, check: Check) -> Tensors | None:
    """Unit inputs lie in one window that no padding reaches."""
    spreads = [
        spread * (size - 1) for size, spread in zip(layer.kernel_size, layer.dilation, strict=True)
    ]
    paddings = _paddings(layer, spreads)
    places = [math.ceil(low / step) for low, step in zip(paddings, layer.stride, strict=True)]
    starts = [
        place * step - low for place, step, low in zip(places, layer.stride, paddings, strict=True)
    ]
    # A padding that mirrors asks for as much to mirror.
    sides = [
        start + low + spread + 1
        for start, low, spread in zip(starts, paddings, spreads, strict=True)
    ]
    at = (slice(None), slice(None), *places)
    window = tuple(
        slice(start, start + spread + 1, step)
        for start, spread, step in zip(starts, spreads, layer.dilation, strict=True)
    )
    kind = layer.weight.dtype
    start = chain(torch.zeros(1, layer.in_channels, *sides, dtype=kind))[at]
    rows = []
    for inputs in _units(layer, sides, window):
        check()
        rows.append(chain(inputs)[at] - start)
    whole = torch.cat(rows).T.reshape(layer.out_channels, layer.in_channels, *layer.kernel_size)
    probes = _noise(PROBES, layer.in_channels, *sides).to(kind)
    seen = probes[(slice(None), slice(None), *window)].flatten(1)
    if not _near(
        seen @ _own_groups(layer, whole, keep=True).flatten(1).T + start, chain(probes)[at]
    ):
        return None
    return {"weight": _own_groups(layer, whole, keep=False).contiguous()}


def _units(layer: Any, sides: list[int], window: tuple[slice, ...]) -> Iterator[Tensor]:
    """Give inputs with a single 1, channel by channel and there tap by tap, in batches."""
    taps = [range(*part.indices(side)) for part, side in zip(window, sides, strict=True)]
    ones = list(product(range(layer.in_channels), *taps))
    some = max(1, ELEMENTS_AT_ONCE // (layer.in_channels * math.prod(sides)))
    for first in range(0, len(ones), some):
        each = torch.tensor(ones[first : first + some]).T
        inputs = torch.zeros(each.shape[1], layer.in_channels, *sides, dtype=layer.weight.dtype)
        inputs[(torch.arange(each.shape[1]), *each)] = 1.0
        yield inputs


def _own_groups(layer: Any, whole: Tensor, keep: bool) -> Tensor:
    """Return a kernel's weights within groups; with `keep` the others as zeros, else without."""
    outputs, inputs = layer.out_channels // layer.groups, layer.in_channels // layer.groups
    apart = whole.reshape(layer.groups, outputs, layer.groups, inputs, *layer.kernel_size)
    own = torch.stack([apart[group, :, group] for group in range(layer.groups)])
    if not keep:
        return own.flatten(0, 1)
    empty = torch.zeros_like(apart)
    for group in range(layer.groups):
        empty[group, :, group] = own[group]
    return empty.reshape(whole.shape)


def _paddings(layer: Any, spreads: list[int]) -> list[int]:
    """Return how far the padding reaches on the lower side of every axis."""
    if layer.padding == "valid":
        return [0] * len(spreads)
    if layer.padding == "same":
        return [spread // 2 for spread in spreads]
    return list(layer.padding)


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(SEED))


def _near(made: Tensor, wanted: Tensor) -> bool:
    error, power = (made - wanted).square().sum(), wanted.square().sum()
    return bool(error <= LARGEST_MISS**2 * power.clamp_min(1e-12))
