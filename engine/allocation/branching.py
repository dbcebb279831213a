"""Branch and bound: what the relaxation leaves undecided is decided item by item."""

import heapq
from dataclasses import dataclass, field

import numpy as np

from featherweight.engine.allocation.nearby import nearby
from featherweight.engine.allocation.polishing import rounded
from featherweight.engine.allocation.problem import Flags, Floats, Ints, Problem
from featherweight.engine.allocation.reduction import Known, Part
from featherweight.engine.allocation.relaxation import Relaxed, relaxed

# So many changes in question are listed rather than branched on.
FEW = 160
# So many of the choices known to a relaxation are handed on.
COLUMNS = 30


@dataclass(order=True)
class _Node:
    """Of the choices of finite losses those of one option of an item; they lose the bound or more.

    `columns` and `prices` are what the relaxation of all of them found.
    """

    bound: float
    order: int
    losses: Floats = field(compare=False)
    columns: Ints = field(compare=False)
    prices: Floats = field(compare=False)
    item: int = field(compare=False)
    option: int = field(compare=False)

    def parted(self) -> tuple[Floats, Ints]:
        """Return the losses with no other option of the item, and columns that are of them."""
        losses, columns = self.losses.copy(), self.columns.copy()
        losses[self.item] = np.inf
        losses[self.item, self.option] = self.losses[self.item, self.option]
        columns[:, self.item] = self.option
        different = {column.tobytes(): column for column in columns}
        return losses, np.array(list(different.values()))


class Tree:
    """The search for a choice that is better by enough than the known one (Land and Doig 1960)."""

    def __init__(self, part: Part, known: Known) -> None:
        self._part, self._known = part, known
        self._heap: list[_Node] = []
        self._made = 0

    def run(self, root: Relaxed, nodes: int) -> bool:
        """Search so many nodes, the least bounds first; say whether that was all of them."""
        columns = self._part.part(root.columns)
        self._visit(self._part.problem.losses, columns, root.prices)
        for _ in range(nodes - 1):
            if self._ended():
                break
            node = heapq.heappop(self._heap)
            self._visit(*node.parted(), node.prices)
        return self._ended()

    def _ended(self) -> bool:
        return not self._heap or self._heap[0].bound >= self._known.aim

    def _visit(self, losses: Floats, columns: Ints, prices: Floats) -> None:
        """Bound some choices, make one of them, and part them by the options of an item."""
        part = self._part
        problem = Problem(losses, part.problem.costs, part.problem.limits)
        found = relaxed(problem, columns, prices, self._known.aim - part.lost)
        if found.bound + part.lost >= self._known.aim:
            return
        priced = losses + np.tensordot(found.prices, problem.costs, 1)
        surplus = priced - priced.min(1, keepdims=True)
        if self._settled(problem, found, priced):
            return
        core = (surplus <= self._known.aim - part.lost - found.bound) & np.isfinite(losses)
        if not (core.sum(1) > 1).any():
            self._known.offer(part.whole(priced.argmin(1)))
            return
        item = _undecided(problem, found, core)
        for option in np.flatnonzero(core[item]):
            self._made += 1
            bound = found.bound + part.lost + float(surplus[item, option])
            kept = found.columns[-COLUMNS:]
            node = _Node(bound, self._made, losses, kept, found.prices, item, int(option))
            heapq.heappush(self._heap, node)

    def _settled(self, problem: Problem, found: Relaxed, priced: Floats) -> bool:
        """Offer the best choice near the prices; say whether the node has no better one."""
        known, part = self._known, self._part
        least = known.aim - part.lost - found.bound
        changes = (priced - priced.min(1, keepdims=True) <= least).sum() - problem.items
        whole = False
        if np.isfinite(least) and changes <= FEW:
            choices, whole = nearby(problem, found.prices, least)
        else:
            choices = rounded(part.problem, priced.argmin(1), found.prices)
        if choices is not None:
            known.offer(part.whole(choices))
        return whole or found.bound + part.lost >= known.aim


def _undecided(problem: Problem, found: Relaxed, core: Flags) -> int:
    """Return the item of several options whose mixture is the furthest from any one of them."""
    rows = np.arange(problem.items)
    used = np.flatnonzero(found.weights > 1e-6)
    columns, weights = found.columns[used], found.weights[used]
    shares = np.zeros(problem.losses.shape)
    np.add.at(shares, (rows[None], columns), weights[:, None])
    lost = problem.losses[rows, columns]
    score = (1 - shares.max(1)) * (np.ptp(lost, axis=0) + 1e-9) + 1e-15
    return int(np.where(core.sum(1) > 1, score, -np.inf).argmax())
