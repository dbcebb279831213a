"""Which samples a training takes at which step, and a network set to train on them."""

from torch.nn.modules.batchnorm import _BatchNorm

from featherweight.engine.datasets.samples import shuffled
from featherweight.engine.network import Network
from featherweight.engine.task import Task


class Batches:
    """`count` samples in batches of `size`, in an order of its own for every epoch.

    The seed fixes the orders. What does not fill a batch at the end of an epoch is left out.
    """

    def __init__(self, count: int, size: int, seed: int) -> None:
        self.count, self.size, self.seed = count, size, seed
        self._order: tuple[int, list[int]] = (-1, [])

    @property
    def steps(self) -> int:
        """Return the steps of an epoch, at least one."""
        return max(1, self.count // self.size)

    def indices(self, step: int) -> list[int]:
        """Return the numbers of the samples of a step, counted from 0 over all epochs."""
        epoch, position = divmod(step, self.steps)
        if self._order[0] != epoch:
            order = shuffled(self.count, self.seed * 100_003 + epoch)
            # Fewer samples than a fixed batch takes are taken more than once.
            self._order = (epoch, order * -(-self.size // len(order)))
        return self._order[1][position * self.size : (position + 1) * self.size]


def batch_size(wanted: int, task: Task) -> int:
    """Return how many samples a step takes: no more than there are, or the network's fixed size."""
    return task.fixed_batch or min(wanted, len(task.recovery))


def set_training(network: Network, task: Task, batch: int) -> None:
    """Set training mode, in which batch norms follow the data where it tells their statistics."""
    network.module.train()
    if task.source.data and batch > 1:
        return
    # Noise, or one sample, says nothing of the statistics of real ones: the original's stay.
    for module in network.module.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
