"""Filters as copies of fewer kernels: each output is a kernel's times a factor of its own.

What methods choose is which filters share a kernel and with which sign. For each such group the
nearest kernel and factors are the leading singular vectors of its filters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from featherweight.engine.copying_layers import CopiedChannels
from featherweight.engine.evidence import Convolution
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.low_rank import COLUMNS_AT_ONCE, assign
from featherweight.engine.methods.output_factors import UNSEEN
from featherweight.engine.methods.output_fitting import Patches, mended_bias, seen_by
from featherweight.engine.methods.transformed import settings_of

# Where eigenvectors have factors of both signs, so many steps find the nearest without.
POWER_STEPS = 30


@dataclass(frozen=True)
class Copies:
    """For each of N filters its kernel, int64 from 0 on, and the sign of its factor, 1.0 or -1.0.

    Every kernel has at least one filter.
    """

    kernels: Tensor
    signs: Tensor


# Chooses the copies by the inner products of filters, N×N float64, for a number of kernels.
Grouping = Callable[[Tensor, int, Check], Copies]


def filters_lock(layer: nn.Module) -> str:
    """Return why filters of the layer cannot share kernels; empty if they can."""
    if not isinstance(layer, nn.Linear | Convolution):
        return "It takes linear layers and convolutions that are not transposed."
    groups = layer.groups if isinstance(layer, Convolution) else 1
    filters, numbers = len(layer.weight) // groups, layer.weight[0].numel()
    if filters < 2:
        return "No filter has another one beside it in its group to share a kernel with."
    if numbers < 4:
        return "The layer is too small: factors of the copies would take what the kernels save."
    return ""


def copying_skeleton(layer: nn.Module, kernels: int) -> nn.Sequential:
    """Return the layer with so many kernels in each group, and their copies, on the meta device."""
    weight, bias = layer.get_parameter("weight"), layer.bias is not None
    with torch.device("meta"):
        if isinstance(layer, nn.Linear):
            first: nn.Module = nn.Linear(layer.in_features, kernels, bias=False)
            copies = CopiedChannels(kernels, layer.out_features, 0, bias)
        else:
            assert isinstance(layer, Convolution)
            kernels *= layer.groups
            kind: Any = type(layer)
            first = kind(**{**settings_of(layer), "out_channels": kernels, "bias": False})
            copies = CopiedChannels(kernels, layer.out_channels, len(layer.kernel_size), bias)
        return nn.Sequential(first, copies).to(weight.dtype)


@torch.no_grad()
def copied(
    layer: nn.Module,
    chain: nn.Sequential,
    grouping: Grouping,
    found: Sequence[Patches],
    check: Check = unchecked,
) -> nn.Sequential:
    """Return a skeleton's chain with the nearest kernels and factors of a grouping.

    Near are weights, or outputs on patches where `found` has them for each group of the layer; a
    bias then takes up the mean of what is lost.
    """
    matrices = _matrices(layer)
    bias = layer.bias if isinstance(layer.bias, Tensor) else None
    seen: Sequence[Patches | None] = seen_by(found, bias) if found else [None] * len(matrices)
    first, copies = chain
    assert isinstance(copies, CopiedChannels)
    count = copies.in_features // len(matrices)
    kernels, factors, sources = [], [], []
    for matrix, patches in zip(matrices, seen, strict=True):
        gram = _gram(matrix, patches, check)
        chosen = grouping(gram, count, check)
        mix, own = nearest_factors(gram, chosen, count, check)
        kernels.append(mix.T @ matrix)
        factors.append(own)
        sources.append(chosen.kernels)
    if found:
        parts = zip(kernels, factors, sources, strict=True)
        made = [kernel[source] * own[:, None] for kernel, own, source in parts]
        bias = mended_bias(bias, matrices, made, found)
    assign(first, torch.cat(kernels))
    places = torch.cat([count * group + source for group, source in enumerate(sources)])
    copies.register_buffer("sources", places.to(copies.get_buffer("sources").dtype))
    copies.scales = nn.Parameter(torch.cat(factors).to(copies.scales.dtype))
    if bias is not None:
        copies.bias = nn.Parameter(bias.detach().clone())
    return chain.train(layer.training)


def nearest_factors(
    gram: Tensor, copies: Copies, count: int, check: Check = unchecked
) -> tuple[Tensor, Tensor]:
    """Return what the best kernels are mixed of, N×count, and the best factors of them, N; float64.

    The largest factor of a kernel is 1 or -1.
    """
    mix = torch.zeros(len(gram), count, dtype=torch.float64)
    factors = torch.ones(len(gram), dtype=torch.float64)
    for kernel in range(count):
        check()
        members = (copies.kernels == kernel).nonzero().flatten()
        signs = copies.signs[members]
        among = gram[members][:, members] * signs * signs[:, None]
        coefficients, own = _shared(among)
        mix[members, kernel] = coefficients * signs
        factors[members] = own * signs
    return mix, factors


def shared_loss(energy: Tensor, other: Tensor, inner: Tensor) -> Tensor:
    """Return the energy that two filters lose in one kernel with factors that are not negative.

    The three are their energies and their inner product, of shapes that go together, float64.
    """
    apart = (energy - other) / 2
    lost = (energy + other) / 2 - (apart.square() + inner.square()).sqrt()
    return torch.where(inner > 0, lost.clamp_min(0), torch.minimum(energy, other))


def _shared(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Return the coefficients of filters in their best kernel, and its factors in them, n each."""
    if len(gram) == 1:
        return torch.ones(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    vector = torch.linalg.eigh(gram).eigenvectors[:, -1]
    vector = vector * (1.0 if vector.sum() >= 0 else -1.0)
    if (vector < 0).any():
        vector = _without_negative(gram, vector.clamp_min(0))
    pulled = gram @ vector
    energy = vector @ pulled
    if not energy > 0:
        return torch.ones_like(vector) / len(vector), torch.ones_like(vector)
    factors = (pulled / energy).clamp_min(0)
    largest = factors.max()
    return vector * largest, factors / largest


def _without_negative(gram: Tensor, vector: Tensor) -> Tensor:
    for _ in range(POWER_STEPS):
        step = (gram @ vector).clamp_min(0)
        length = torch.linalg.vector_norm(step)
        if not length > 0:
            break
        vector = step / length
    return vector


def _gram(matrix: Tensor, patches: Patches | None, check: Check) -> Tensor:
    """Return the inner products of rows, as weights or as outputs on patches."""
    gram = torch.zeros(len(matrix), len(matrix), dtype=torch.float64)
    for start in range(0, matrix.shape[1], COLUMNS_AT_ONCE):
        check()
        part = matrix[:, start : start + COLUMNS_AT_ONCE]
        gram += part @ part.T
    if patches is None:
        return gram
    # Directions that no input takes count a little: then they still have an order.
    level = UNSEEN * sum(float(block.diagonal().sum()) for block in patches.blocks)
    gram, start = gram * (level / matrix.shape[1]), 0
    for block in patches.blocks:
        check()
        part = matrix[:, start : start + len(block)]
        gram += part @ block @ part.T
        start += len(block)
    return (gram + gram.T) / 2


def _matrices(layer: nn.Module) -> list[Tensor]:
    """Return the filters of each group, filters by numbers, float64."""
    groups = layer.groups if isinstance(layer, Convolution) else 1
    weight = layer.get_parameter("weight").detach()
    return list(weight.flatten(1).double().chunk(groups))
