"""Statistics of batch norms, measured again where compression changed what flows into them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from featherweight.engine.datasets.samples import shuffled
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network
from featherweight.engine.task import Task

SAMPLES = 2048
STAGE = "Measuring the statistics of batch norms"


def stale_norms(network: Network, original: Network) -> list[_BatchNorm]:
    """Return the batch norms with statistics that come after a layer unlike the original's."""
    before, changed, found = dict(original.layers()), False, []
    for name, layer in network.layers():
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None and changed:
            found.append(layer)
        changed = changed or not alike(layer, before.get(name))
    return found


def measure_norms(
    network: Network, task: Task, norms: list[_BatchNorm], seed: int, job: Job
) -> None:
    """Put the mean statistics of whole batches of recovery samples into norms, in place.

    They are up to 2048, in an order that `seed` fixes, for data may lie label by label. Raises
    CancelledError.
    """
    order = shuffled(len(task.recovery), seed)
    ranges = list(task.ranges(min(SAMPLES, len(order))))
    network.module.eval()
    with torch.no_grad(), _averaging(norms):
        for positions in ranges:
            job.check()
            # A shorter one at the end would count as much as a whole one.
            if len(positions) == len(ranges[0]):
                inputs, _ = task.recovery.batch([order[position] for position in positions])
                network.outputs(*inputs)
    network.module.eval()


def takes_statistics(task: Task) -> bool:
    """Say whether the recovery data tells the statistics of real samples, batch by batch."""
    batch = next(task.ranges(len(task.recovery)))
    return bool(task.source.data) and len(batch) > 1 and len(batch) >= (task.fixed_batch or 0)


@contextmanager
def _averaging(norms: list[_BatchNorm]) -> Iterator[None]:
    """Let norms take the plain mean over batches instead of a moving one."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def alike(layer: nn.Module, other: nn.Module | None) -> bool:
    """Say whether two layers are of one kind and hold the same numbers."""
    if other is None or type(layer) is not type(other):
        return False
    ours, theirs = layer.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(
        torch.equal(value, theirs[name]) for name, value in ours.items()
    )
