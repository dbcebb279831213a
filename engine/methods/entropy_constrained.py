"""Shared values that are cheap to code: error and coded bits weighed against each other.

Chou, Lookabaugh, Gray: Entropy-Constrained Vector Quantization (1989), for single weights as in
Choi, El-Khamy, Lee: Towards the Limit of Network Quantization (2017).
"""

import numpy as np
import numpy.typing as npt

from featherweight.engine.jobs import Check, unchecked

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
MOST_ROUNDS = 200


def entropy_constrained(
    values: Floats, centres: Floats, price: float, check: Check = unchecked
) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Return shared values, and which of them takes the place of each value.

    From `centres` (ascending) on, rounds lower the mean of (w - c)² + `price` * variance * bits,
    where bits are -log2 of how often c is used. A shared value without use stays where it was.
    """
    # What takes the same shared value is a range in sorted order, as in k-means.
    ordered = np.sort(values)
    sums = np.concatenate(([0.0], np.cumsum(ordered, dtype=np.float64)))
    bit = price * float(values.var(dtype=np.float64))
    shared, costs = centres.astype(np.float64), np.zeros(centres.size)
    before: list[int] = []
    for _ in range(MOST_ROUNDS):
        check()
        used, edges = cheapest(shared, costs)
        bounds = np.concatenate(([0], np.searchsorted(ordered, edges), [values.size]))
        counts = np.diff(bounds)
        now = [*used, *bounds]
        if now == before:
            break
        before = now
        means = np.diff(sums[bounds]) / np.maximum(counts, 1)
        shared[used] = np.where(counts > 0, means, shared[used])
        # None uses what no range is left for; one use is the least that has a price.
        uses = np.ones(shared.size)
        uses[used] = np.maximum(counts, 1)
        costs = -bit * np.log2(uses / values.size)
        # One may have moved past another that nobody uses.
        order = shared.argsort(kind="stable")
        shared, costs = shared[order], costs[order]
    used, edges = cheapest(shared, costs)
    places = np.searchsorted(edges.astype(np.float32), values, side="right")
    return shared.astype(np.float32), np.array(used, np.intp)[places]


def cheapest(shared: Doubles, costs: Doubles) -> tuple[list[int], Doubles]:
    """Return which of the shared values (ascending) are ever the cheapest, and where each ends.

    Taking c for w costs (w - c)² and what c costs itself; less w², these are straight lines in w,
    and the lower envelope of lines whose slopes fall is found in one pass.
    """
    used: list[int] = []
    edges: list[float] = []
    for new, (value, cost) in enumerate(zip(shared, costs, strict=True)):
        edge = -np.inf
        while used:
            last, its_cost = shared[used[-1]], costs[used[-1]]
            if value > last:
                edge = (last + value) / 2 + (cost - its_cost) / (2 * (value - last))
            else:
                edge = -np.inf if cost < its_cost else np.inf
            if edge > (edges[-1] if edges else -np.inf):
                break
            used.pop()
            edges = edges[:-1]
        if not used:
            used = [new]
        elif edge < np.inf:
            used.append(new)
            edges.append(edge)
    return used, np.array(edges, np.float64)
