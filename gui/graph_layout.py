"""Layered layout of one acyclic graph: boxes in ranks, edges that run down between them.

After Sugiyama, Tagawa and Toda 1981: longest paths give the ranks, long edges get a joint in every
rank that they pass, barycentres give the order in a rank. Positions are weighted medians of the
neighbours, kept apart by isotonic regression, so that chains and long edges come out straight.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

BOX_GAP, JOINT_GAP, RANK_GAP = 26.0, 12.0, 28.0
JOINT_WIDTH = 6.0
ROUNDS, MANY_LINKS = 4, 40_000
FEW_LINKS = 3
# How straight a link wants to be; branches that bypass what stands beside them yield.
STRONG, WEAK = 100.0, 1.0
# Joints that one graph may have beside its boxes; edges beyond run straight.
MOST_JOINTS = (8, 2000)

Stroke = tuple[float, float, float, float]


@dataclass(frozen=True)
class Net:
    """What leaves one box: `targets` are boxes; the numbers say where beside its middle."""

    source: int
    targets: Sequence[tuple[int, float]]
    leaves: float = 0.0


@dataclass(frozen=True)
class Graph:
    """Boxes by width and height, nets between them, and which boxes stand in the outer ranks."""

    sizes: Sequence[tuple[float, float]]
    nets: Sequence[Net]
    first: frozenset[int] = frozenset()
    last: frozenset[int] = frozenset()


@dataclass
class Placement:
    """Middle and top of every box, and strokes from upper to lower points; x is centred on 0.

    `breaks` are heights between two ranks at which few strokes cross.
    """

    boxes: list[tuple[float, float]]
    strokes: list[Stroke] = field(default_factory=list)
    left: float = 0.0
    right: float = 0.0
    height: float = 0.0
    breaks: list[float] = field(default_factory=list)


def place(graph: Graph, gap: float = RANK_GAP) -> Placement:
    """Lay out a graph. Nets must not run in circles."""
    web = _Web(graph)
    web.order()
    web.align()
    return web.placement(gap)


def ranks_of(graph: Graph) -> list[int]:
    """Return the rank of every box, 0 at the top: every edge runs to a higher one."""
    count = len(graph.sizes)
    below: list[list[int]] = [[] for _ in range(count)]
    incoming = [0] * count
    for net in graph.nets:
        for target, _ in net.targets:
            below[net.source].append(target)
            incoming[target] += 1
    fed = [number > 0 for number in incoming]
    ranks = [0 if box in graph.first or not graph.first else 1 for box in range(count)]
    ready = [box for box in range(count) if not incoming[box]]
    order = []
    while ready:
        box = ready.pop()
        order.append(box)
        for target in below[box]:
            ranks[target] = max(ranks[target], ranks[box] + 1)
            incoming[target] -= 1
            if not incoming[target]:
                ready.append(target)
    for box in reversed(order):
        if not fed[box] and below[box] and box not in graph.first:
            ranks[box] = min(ranks[target] for target in below[box]) - 1
    bottom = max((ranks[box] for box in range(count) if box not in graph.last), default=-1) + 1
    for box in graph.last:
        ranks[box] = bottom
    return ranks


class _Web:
    """Boxes and joints as vertices, with links only between neighbouring ranks."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.boxes = len(graph.sizes)
        self.rank = ranks_of(graph)
        self.width = [width for width, _ in graph.sizes]
        self.above: list[list[tuple[int, float, float]]] = [[] for _ in graph.sizes]
        self.below: list[list[tuple[int, float, float]]] = [[] for _ in graph.sizes]
        self.links: list[tuple[int, float, int, float]] = []
        self.straight: list[tuple[int, float, int, float]] = []
        self._link_nets()
        self.rounds = ROUNDS if len(self.links) < MANY_LINKS else 1
        self.ranks: list[list[int]] = [[] for _ in range(max(self.rank, default=-1) + 1)]
        for vertex in self._depth_first():
            self.ranks[self.rank[vertex]].append(vertex)
        self.spot = [0] * len(self.width)
        self._number(range(len(self.ranks)))
        self.x = [0.0] * len(self.width)

    def _link_nets(self) -> None:
        each, more = MOST_JOINTS
        budget = each * self.boxes + more
        for net in sorted(self.graph.nets, key=self._reach):
            top = self.rank[net.source]
            joints = [net.source]
            pull = STRONG if len(net.targets) == 1 else WEAK
            for target, enters in sorted(net.targets, key=lambda pair: self.rank[pair[0]]):
                length = self.rank[target] - top
                if length - len(joints) > budget:
                    self.straight.append((net.source, net.leaves, target, enters))
                    continue
                while len(joints) < length:
                    budget -= 1
                    joints.append(self._joint(joints[-1], net.leaves, top + len(joints), pull))
                start, near = joints[length - 1], length == 1
                self._link(
                    (start, net.leaves if near else 0.0), (target, enters), STRONG if near else pull
                )

    def _reach(self, net: Net) -> int:
        return (
            max((self.rank[target] for target, _ in net.targets), default=0) - self.rank[net.source]
        )

    def _joint(self, above: int, leaves: float, rank: int, pull: float) -> int:
        joint = len(self.width)
        self.width.append(JOINT_WIDTH)
        self.rank.append(rank)
        self.above.append([])
        self.below.append([])
        self._link((above, leaves if above < self.boxes else 0.0), (joint, 0.0), pull)
        return joint

    def _link(self, start: tuple[int, float], end: tuple[int, float], pull: float) -> None:
        (upper, leaves), (lower, enters) = start, end
        self.below[upper].append((lower, enters - leaves, pull))
        self.above[lower].append((upper, leaves - enters, pull))
        self.links.append((upper, leaves, lower, enters))

    def _depth_first(self) -> list[int]:
        seen = [False] * len(self.width)
        found = []
        for start in range(self.boxes):
            waiting = [start] if not self.above[start] else []
            while waiting:
                vertex = waiting.pop()
                if seen[vertex]:
                    continue
                seen[vertex] = True
                found.append(vertex)
                waiting.extend(lower for lower, _, _ in reversed(self.below[vertex]))
        return found

    def _number(self, ranks: Sequence[int]) -> None:
        for rank in ranks:
            for place_in_rank, vertex in enumerate(self.ranks[rank]):
                self.spot[vertex] = place_in_rank

    def order(self) -> None:
        """Sort the ranks so that few links cross."""
        wide = [rank for rank, line in enumerate(self.ranks) if len(line) > 1]
        if not wide:
            return
        best, kept = self.crossings(), [list(line) for line in self.ranks]
        for _ in range(self.rounds):
            if not best:
                break
            for ranks, links in ((wide, self.above), (wide[::-1], self.below)):
                for rank in ranks:
                    self._sort(rank, links)
                found = self.crossings()
                if found < best:
                    best, kept = found, [list(line) for line in self.ranks]
        self.ranks = kept
        self._number(wide)

    def _sort(self, rank: int, links: list[list[tuple[int, float, float]]]) -> None:
        line, spot, width = self.ranks[rank], self.spot, self.width
        keys = {}
        for vertex in line:
            near = links[vertex]
            total = sum(
                spot[other] + shift / (2.0 * width[other] + 1.0) for other, shift, _ in near
            )
            keys[vertex] = total / len(near) if near else float(spot[vertex])
        line.sort(key=keys.__getitem__)
        self._number((rank,))

    def crossings(self) -> int:
        """Count the pairs of links that cross."""
        total = 0
        for line in self.ranks:
            ends = [
                self.spot[lower]
                for vertex in line
                for lower in sorted((lower for lower, _, _ in self.below[vertex]), key=self._spot)
            ]
            total += _inversions(ends)
        return total

    def _spot(self, vertex: int) -> int:
        return self.spot[vertex]

    def align(self) -> None:
        """Give every vertex its x: near the middle of its neighbours, apart from the next one."""
        if len(self.ranks) == len(self.width) and not any(self._shifted()):
            return
        for line in self.ranks:
            self._spread(line, [0.0] * len(line), [1.0] * len(line))
        down, up = range(1, len(self.ranks)), range(len(self.ranks) - 2, -1, -1)
        for _ in range(self.rounds):
            moved = 0.0
            for ranks, links in ((down, self.above), (up, self.below)):
                for rank in ranks:
                    moved = max(moved, self._settle(self.ranks[rank], links))
            if moved < 1.0:
                break

    def _shifted(self) -> list[float]:
        return [shift for near in self.above for _, shift, _ in near if shift]

    def _settle(self, line: list[int], links: list[list[tuple[int, float, float]]]) -> float:
        x = self.x
        if len(line) == 1:
            near = links[line[0]]
            if not near:
                return 0.0
            before = x[line[0]]
            x[line[0]] = _middle([(x[other] + shift, pull) for other, shift, pull in near])
            return abs(x[line[0]] - before)
        wanted, pulls = [], []
        for vertex in line:
            near = links[vertex]
            if near:
                wanted.append(_middle([(x[other] + shift, pull) for other, shift, pull in near]))
                pulls.append(sum(pull for _, _, pull in near))
            else:
                wanted.append(x[vertex])
                pulls.append(0.25)
        return self._spread(line, wanted, pulls)

    def _spread(self, line: list[int], wanted: list[float], pulls: list[float]) -> float:
        """Put a rank as near to what is wanted as the gaps allow (pool adjacent violators)."""
        offsets, offset = [], 0.0
        for place_in_rank, vertex in enumerate(line):
            if place_in_rank:
                offset += self._gap(line[place_in_rank - 1], vertex)
            offsets.append(offset)
        pools: list[tuple[float, float, int]] = []
        for target, pull, shift in zip(wanted, pulls, offsets, strict=True):
            mean, weight, size = target - shift, pull, 1
            while pools and pools[-1][0] > mean:
                other, heavy, many = pools.pop()
                mean = (mean * weight + other * heavy) / (weight + heavy)
                weight, size = weight + heavy, size + many
            pools.append((mean, weight, size))
        moved, place_in_rank = 0.0, 0
        for mean, _, size in pools:
            for _ in range(size):
                vertex = line[place_in_rank]
                x = mean + offsets[place_in_rank]
                moved = max(moved, abs(x - self.x[vertex]))
                self.x[vertex] = x
                place_in_rank += 1
        return moved

    def _gap(self, left: int, right: int) -> float:
        joint = left >= self.boxes or right >= self.boxes
        gap = JOINT_GAP if joint or not (self.width[left] and self.width[right]) else BOX_GAP
        return (self.width[left] + self.width[right]) / 2 + gap

    def placement(self, gap: float) -> Placement:
        """Give the ranks their heights and draw the links."""
        sizes, x = self.graph.sizes, self.x
        tops, bottoms, y = [], [], 0.0
        for line in self.ranks:
            height = max((sizes[v][1] for v in line if v < self.boxes), default=0.0)
            tops.append(y)
            bottoms.append(y + height)
            y += height + gap
        left = min((x[v] - self.width[v] / 2 for v in range(len(x))), default=0.0)
        right = max((x[v] + self.width[v] / 2 for v in range(len(x))), default=0.0)
        middle = (left + right) / 2
        boxes = []
        for box, (_, height) in enumerate(sizes):
            rank = self.rank[box]
            boxes.append((x[box] - middle, (tops[rank] + bottoms[rank] - height) / 2))
        made = Placement(boxes, [], left - middle, right - middle, bottoms[-1] if bottoms else 0.0)
        for upper, leaves, lower, enters in self.links:
            start, end = x[upper] - middle + leaves, x[lower] - middle + enters
            low, high = bottoms[self.rank[upper]], tops[self.rank[lower]]
            bottom = (
                boxes[upper][1] + sizes[upper][1] if upper < self.boxes else tops[self.rank[upper]]
            )
            top = boxes[lower][1] if lower < self.boxes else high
            _draw(made.strokes, (start, bottom, low), (end, high, top))
        for upper, leaves, lower, enters in self.straight:
            start, end = boxes[upper][0] + leaves, boxes[lower][0] + enters
            made.strokes.append((start, boxes[upper][1] + sizes[upper][1], end, boxes[lower][1]))
        made.breaks = self._breaks(tops, bottoms)
        return made

    def _breaks(self, tops: list[float], bottoms: list[float]) -> list[float]:
        crossing = [0] * len(tops)
        for upper, _, _, _ in self.links:
            crossing[self.rank[upper]] += 1
        if self.straight:
            return []
        return [
            (bottoms[rank] + tops[rank + 1]) / 2
            for rank in range(len(tops) - 1)
            if 0 < crossing[rank] <= FEW_LINKS
        ]


def _draw(
    strokes: list[Stroke], leave: tuple[float, float, float], enter: tuple[float, float, float]
) -> None:
    """Go straight to the end of the upper rank, across the gap, and straight to the lower end."""
    (start, bottom, low), (end, high, top) = leave, enter
    if abs(start - end) < 0.5:
        strokes.append((start, bottom, end, top))
        return
    if bottom < low:
        strokes.append((start, bottom, start, low))
    strokes.append((start, low, end, high))
    if high < top:
        strokes.append((end, high, end, top))


def _middle(points: list[tuple[float, float]]) -> float:
    """Return the weighted median; between two that weigh the same, their mean."""
    if len(points) == 1:
        return points[0][0]
    points.sort()
    half = sum(weight for _, weight in points) / 2
    passed = 0.0
    for place_in_list, (value, weight) in enumerate(points):
        passed += weight
        if passed > half:
            return value
        if passed == half:
            return (value + points[place_in_list + 1][0]) / 2
    return points[-1][0]


def _inversions(values: list[int]) -> int:
    """Count the pairs that stand in the wrong order, by merging."""
    if len(values) < 2:
        return 0
    counts = [0] * (max(values) + 2)
    total = 0
    for seen, value in enumerate(values):
        at = value + 1
        before = 0
        while at:
            before += counts[at]
            at -= at & -at
        total += seen - before
        at = value + 1
        while at < len(counts):
            counts[at] += 1
            at += at & -at
    return total
