"""Batch norms between the factors of a layer, which change nothing until they are trained."""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from featherweight.engine.options import words

InnerNorms = Annotated[
    bool,
    words(
        "Batch norm",
        "Puts batch norms between the factors, which change nothing before training.",
    ),
]
_KINDS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
}


def chained(parts: Sequence[nn.Module], norms: bool) -> nn.Sequential:
    """Return convolutions as a chain, with a batch norm behind each but the last if asked for."""
    if not norms:
        return nn.Sequential(*parts)
    chain = [parts[0]]
    for part in parts[1:]:
        before = chain[-1]
        assert isinstance(before, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        chain += [_KINDS[type(before)](before.out_channels), part]
    return nn.Sequential(*chain)


def factors_and_norms(chain: nn.Sequential) -> tuple[list[nn.Module], list[nn.Module]]:
    """Return the convolutions of a chain, and the batch norms between them."""
    norms = [part for part in chain if isinstance(part, tuple(_KINDS.values()))]
    return [part for part in chain if part not in norms], norms


def start_norms(
    norms: Sequence[nn.Module], statistics: Sequence[tuple[Tensor, Tensor]] = ()
) -> None:
    """Give batch norms the function x ↦ x, and of each channel the mean and variance there.

    Where nothing was measured the statistics are 0 and 1.
    """
    for place, norm in enumerate(norms):
        assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
        size, dtype = norm.num_features, norm.weight.dtype
        mean, variance = statistics[place] if statistics else (torch.zeros(size), torch.ones(size))
        norm.register_buffer("running_mean", mean.to(dtype))
        norm.register_buffer("running_var", variance.to(dtype))
        norm.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long))
        norm.weight = nn.Parameter((variance + norm.eps).sqrt().to(dtype))
        norm.bias = nn.Parameter(mean.to(dtype, copy=True))
