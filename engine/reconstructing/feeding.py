"""What flows into layers that train, and what the original gives where they are compared."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from featherweight.engine.jobs import Check
from featherweight.engine.reconstructing.pieces import inputs_of, piece
from featherweight.engine.reconstructing.places import Pair, Stage, first_tensor
from featherweight.engine.recovering.distilling import MOST_KEPT_BYTES
from featherweight.engine.task import Task

Fed = tuple[tuple[Any, ...], list[Tensor]]


class Feed:
    """Batches of what flows into a stage, and of what is wanted of it.

    They are kept if they fit into 256 MB, else computed whenever they are asked for. Both networks
    have to be in eval mode.
    """

    def __init__(
        self,
        pair: Pair,
        stage: Stage,
        given: Sequence[fx.Node],
        task: Task,
        batches: Sequence[Sequence[int]],
    ) -> None:
        module, original = pair.network.module, pair.original.module
        assert isinstance(module, fx.GraphModule)
        assert isinstance(original, fx.GraphModule)
        self._before = piece(module, inputs_of(module.graph), given)
        self._original = piece(original, inputs_of(original.graph), stage.wanted)
        self._task, self._batches = task, batches
        self._kept: list[Fed] = []

    def prepare(self, check: Check) -> None:
        """Compute all batches, if they fit. Raises what `check` does."""
        first = self.batch(0)
        size = sum(part.nbytes for part in tree_leaves(first) if isinstance(part, Tensor))
        if size * len(self._batches) > MOST_KEPT_BYTES:
            return
        kept = [first]
        for number in range(1, len(self._batches)):
            check()
            kept.append(self.batch(number))
        self._kept = kept

    @torch.no_grad()
    def batch(self, number: int) -> Fed:
        """Return what flows in, in the order of the nodes, and the outputs wanted."""
        if self._kept:
            return self._kept[number]
        inputs, _ = self._task.recovery.batch(self._batches[number])
        wanted = [first_tensor(value) for value in self._original(*inputs)]
        return tuple(self._before(*inputs)), wanted
