"""Batch norms at rest: of statistics, scale and shift only one factor and one summand stay.

In eval mode a batch norm is y = a x + b. Settled it has mean 0 and a variance that makes its
denominator 1, and both a and b as float16: a quarter of its channels' numbers, in half the bits.
"""

from collections import Counter
from collections.abc import Iterable
from itertools import chain

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from featherweight.engine.network import Network

BITS = 16


def norms_after(network: Network, layers: Iterable[str]) -> list[str]:
    """Return the names of batch norms that alone read the outputs of these source's layers.

    They hold statistics, a scale and a shift, and each is called once. Without a graph: none.
    """
    if not isinstance(network.module, fx.GraphModule):
        return []
    given = set(chain.from_iterable(network.parts.get(name, ()) for name in layers))
    calls = [node for node in network.graph.nodes if node.op == "call_module"]
    count = Counter(str(node.target) for node in calls)
    return [
        str(node.target)
        for node in calls
        if count[str(node.target)] == 1
        and node.args
        and isinstance(before := node.args[0], fx.Node)
        and before.op == "call_module"
        and str(before.target) in given
        and _whole(network.layer(str(node.target)))
    ]


def settled_bits(norm: nn.Module) -> int:
    """Return how many bits a settled batch norm stores."""
    return 2 * BITS * norm.get_parameter("weight").numel()


@torch.no_grad()
def settle_norms(network: Network, layers: Iterable[str]) -> None:
    """Settle the batch norms after layers of the source, in place.

    One whose numbers 16 bits cannot hold stays as it is.
    """
    for name in norms_after(network, layers):
        norm = network.layer(name)
        assert isinstance(norm, _BatchNorm)
        _settle(norm)


def _settle(norm: _BatchNorm) -> None:
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    factor = norm.weight.double() / (variance.double() + norm.eps).sqrt()
    summand = norm.bias.double() - mean.double() * factor
    halves = factor.half(), summand.half()
    if not all(bool(half.isfinite().all()) for half in halves):
        return
    norm.weight.copy_(halves[0])
    norm.bias.copy_(halves[1])
    mean.zero_()
    variance.fill_(_rest_variance(norm))
    norm.get_buffer("num_batches_tracked").zero_()


def is_settled(norm: nn.Module) -> bool:
    """Say whether a layer is a batch norm that was settled."""
    if not isinstance(norm, _BatchNorm) or not _whole(norm):
        return False
    return (
        not norm.get_buffer("running_mean").any()
        and bool((norm.get_buffer("running_var") == _rest_variance(norm)).all())
        and not norm.get_buffer("num_batches_tracked").any()
        and all(torch.equal(value, value.half().float()) for value in (norm.weight, norm.bias))
    )


def _rest_variance(norm: _BatchNorm) -> Tensor:
    return torch.tensor(1.0 - norm.eps)


def _whole(norm: nn.Module) -> bool:
    return isinstance(norm, _BatchNorm) and {
        "weight", "bias", "running_mean", "running_var", "num_batches_tracked"
    } == set(norm.state_dict())  # fmt: skip
