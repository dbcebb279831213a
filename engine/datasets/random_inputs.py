"""Inputs of a network's own shapes for where there is no data: random, and always the same."""

import torch
from torch import Tensor, fx, nn

from featherweight.engine.datasets.samples import Dataset, TensorSamples
from featherweight.engine.network import Network

MOST_SAMPLES = 256
MOST_BYTES = 64 * 1024 * 1024


def read(network: Network) -> Dataset:
    """Draw standard normal numbers, and whole numbers below the size of the embedding they enter.

    There are 256 samples of each set, fewer where they would take more than 64 MB.
    """
    taken = sum(tensor[:1].nbytes for tensor in network.example)
    count = max(8, min(MOST_SAMPLES, MOST_BYTES // max(taken, 1)))
    bounds = [_bound(network, position) for position in range(len(network.example))]
    return Dataset(
        recovery=_drawn(network, bounds, count, seed=0),
        measure=_drawn(network, bounds, count, seed=1),
        labelled=False,
    )


def _drawn(network: Network, bounds: list[int], count: int, seed: int) -> TensorSamples:
    generator = torch.Generator().manual_seed(seed)
    made = []
    for tensor, bound in zip(network.example, bounds, strict=True):
        shape = (count, *tensor.shape[1:])
        if tensor.is_floating_point():
            made.append(torch.randn(shape, generator=generator))
        else:
            made.append(torch.randint(0, bound, shape, generator=generator))
    return TensorSamples(tuple(made))


def _bound(network: Network, position: int) -> int:
    """Return one more than the largest whole number that an input may hold."""
    sizes = [layer.num_embeddings for layer in _embeddings(network, position)]
    return min(sizes) if sizes else int(_largest(network.example[position])) + 1


def _embeddings(network: Network, position: int) -> list[nn.Embedding]:
    if not isinstance(network.module, fx.GraphModule):
        return []
    inputs = [node for node in network.graph.nodes if node.op == "placeholder"]
    called = [
        network.layer(str(user.target))
        for user in inputs[position].users
        if user.op == "call_module"
    ]
    return [layer for layer in called if isinstance(layer, nn.Embedding)]


def _largest(tensor: Tensor) -> float:
    return float(tensor.max()) if tensor.numel() else 0.0
