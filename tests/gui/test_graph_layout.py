"""The layout of one graph and of nested blocks: ranks, gaps, crossings, folding, columns."""

import math
import random
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.engine.layer import GraphNode
from featherweight.gui.graph_blocks import (
    Picture,
    build_blocks,
    draw,
    folded_at_first,
    visible,
)
from featherweight.gui.graph_layout import Graph, Net, Placement, place, ranks_of
from featherweight.gui.graph_steps import find, step

Edges = Sequence[tuple[int, int]]
NODES = 5000
SLOWEST = 4.0  # many times what an idle machine takes, for one that is busy with other tests


def graph(count: int, edges: Edges, width: float = 100.0) -> Graph:
    targets: dict[int, list[tuple[int, float]]] = {}
    for start, end in edges:
        targets.setdefault(start, []).append((end, 0.0))
    nets = [Net(start, ends) for start, ends in targets.items()]
    return Graph([(width, 40.0)] * count, nets)


def overlaps(placement: Placement, drawn: Graph) -> list[tuple[int, int]]:
    rows: dict[float, list[tuple[float, float, int]]] = {}
    for box, (x, y) in enumerate(placement.boxes):
        width = drawn.sizes[box][0]
        rows.setdefault(y, []).append((x - width / 2, x + width / 2, box))
    return [
        (one[2], other[2])
        for row in rows.values()
        for one, other in pairwise(sorted(row))
        if one[1] > other[0] + 1e-6
    ]


def residual_network(blocks: int) -> tuple[list[GraphNode], list[tuple[str, str]]]:
    nodes, edges, last = [GraphNode(name="x", kind="input")], [], "x"
    for place_in_order in range(blocks):
        path, current = f"stages.{place_in_order // 20}.{place_in_order % 20}", last
        for label in ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3"):
            name = f"{path}.{label}"
            nodes.append(GraphNode(name=name, kind="Conv2d", path=path, layer=name))
            edges.append((current, name))
            current = name
        nodes.append(GraphNode(name=f"{path}.add", kind="add", path=path, then=("relu",)))
        edges += [(current, f"{path}.add"), (last, f"{path}.add")]
        last = f"{path}.add"
    return nodes, edges


def keys(picture: Picture) -> list[str]:
    return [shown.block.key for shown in picture.boxes]


@st.composite
def acyclic(draws: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    count = draws(st.integers(1, 24))
    pairs = [(start, end) for end in range(count) for start in range(end)]
    return count, draws(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []


@given(acyclic())
@settings(max_examples=60, deadline=None)
def test_that_edges_run_down_and_boxes_keep_apart(given_graph: tuple[int, Edges]) -> None:
    count, edges = given_graph
    drawn = graph(count, edges)
    ranks, placement = ranks_of(drawn), place(drawn)
    assert all(ranks[start] < ranks[end] for start, end in edges)
    assert all(
        placement.boxes[start][1] + drawn.sizes[start][1] < placement.boxes[end][1]
        for start, end in edges
    )
    assert overlaps(placement, drawn) == []
    assert all(
        placement.left - 1e-6 <= x - 50 and x + 50 <= placement.right + 1e-6
        for x, _ in placement.boxes
    )


@given(acyclic())
@settings(max_examples=30, deadline=None)
def test_that_strokes_lead_from_every_source_to_its_targets(
    given_graph: tuple[int, Edges],
) -> None:
    count, edges = given_graph
    drawn = graph(count, edges)
    placement = place(drawn)
    starts = {(round(x, 3), round(y, 3)) for x, y, _, _ in placement.strokes}
    ends = {(round(x, 3), round(y, 3)) for _, _, x, y in placement.strokes}
    for start, end in edges:
        x, y = placement.boxes[start]
        assert (round(x, 3), round(y + 40.0, 3)) in starts
        assert any(math.dist(point, placement.boxes[end]) < 0.6 for point in ends), (
            f"nothing arrives at {end}"
        )


def test_that_a_chain_is_one_straight_line() -> None:
    placement = place(graph(30, [(start, start + 1) for start in range(29)]))
    assert {x for x, _ in placement.boxes} == {0.0}
    assert len(placement.strokes) == 29


def test_that_a_shortcut_leaves_the_main_path_straight() -> None:
    chain = [(start, start + 1) for start in range(6)]
    placement = place(graph(7, [*chain, (1, 5)]))
    assert max(x for x, _ in placement.boxes) - min(x for x, _ in placement.boxes) < 3.0


def test_that_many_modules_in_a_row_do_not_drift_sideways() -> None:
    edges, last, count = [], 0, 1
    for _ in range(60):
        ends = []
        for length in (1, 2, 3, 4):
            current = last
            for _ in range(length):
                edges.append((current, count))
                current, count = count, count + 1
            ends.append(current)
        edges += [(end, count) for end in ends]
        last, count = count, count + 1
    placement = place(graph(count, edges))
    assert placement.right - placement.left < 900


def test_that_branches_that_need_not_cross_do_not() -> None:
    rng = random.Random(3)
    edges = [(0, arm + 1) for arm in range(8)]
    edges += [(arm + 1, arm + 9) for arm in range(8)]
    edges += [(arm + 9, 17) for arm in range(8)]
    rng.shuffle(edges)
    placement = place(graph(18, edges))
    crossed = [
        (one, other)
        for one in placement.strokes
        for other in placement.strokes
        if one[1] == other[1] and one[3] == other[3] and one[0] < other[0] and one[2] > other[2]
    ]
    assert crossed == []


def test_that_a_source_stands_just_above_what_it_feeds() -> None:
    drawn = graph(6, [(0, 1), (1, 2), (2, 3), (3, 5), (4, 5)])
    assert ranks_of(drawn)[4] == 3


def test_that_modules_become_blocks_and_lone_ones_do_not() -> None:
    nodes, _ = residual_network(2)
    nodes.append(GraphNode(name="head.fc", kind="Linear", path="head", layer="head.fc"))
    root = build_blocks(nodes)
    assert [child.label for child in root.children] == ["x", "stages.0", "head.fc"]
    assert [child.label for child in root.children[1].children] == ["0", "1"]


def test_that_a_module_called_twice_has_a_block_for_each_call() -> None:
    nodes = [
        GraphNode(name=f"{path}.{label}", kind="Linear", path=path.split(" ")[0], layer=label)
        for path in ("shared", "between", "shared (2)")
        for label in ("a", "b")
    ]
    root = build_blocks(nodes)
    assert [child.key for child in root.children] == ["shared", "between", "shared (2)"]


def test_that_a_folded_block_takes_the_edges_of_what_it_holds() -> None:
    nodes, edges = residual_network(3)
    root = build_blocks(nodes)
    folded = frozenset({"stages.0.1"})
    picture = draw(root, edges, folded)
    shown = keys(picture)
    middle = shown.index("stages.0.1")
    assert "stages.0.1.conv1" not in shown
    assert {shown[s] for s, e in picture.edges if e == middle} == {"stages.0.0.add"}
    assert {shown[e] for s, e in picture.edges if s == middle} == {
        "stages.0.2.conv1",
        "stages.0.2.add",
    }


def test_that_boxes_lie_inside_the_frames_of_their_blocks() -> None:
    nodes, edges = residual_network(30)
    picture = draw(build_blocks(nodes), edges, frozenset())
    frames = {frame.block: frame for frame in picture.frames}
    for shown in (*picture.boxes, *picture.frames):
        frame = frames.get(shown.block.parent) if shown.block.parent else None
        if frame is not None:
            assert frame.x <= shown.x
            assert shown.x + shown.width <= frame.x + frame.width
            assert frame.y <= shown.y
            assert shown.y + shown.height <= frame.y + frame.height


def test_that_no_two_boxes_of_a_picture_overlap() -> None:
    nodes, edges = residual_network(25)
    boxes = draw(build_blocks(nodes), edges, frozenset()).boxes
    for place_in_list, one in enumerate(boxes):
        for other in boxes[place_in_list + 1 :]:
            apart = one.x + one.width <= other.x or other.x + other.width <= one.x
            assert apart or one.y + one.height <= other.y or other.y + other.height <= one.y


def test_that_a_large_network_is_folded_at_first() -> None:
    nodes, _ = residual_network(60)
    root = build_blocks(nodes)
    folded = folded_at_first(root, most=20)
    assert [shown.key for shown in visible(root, folded)] == [
        *("x", "stages.0", "stages.1", "stages.2"),
    ]
    assert folded_at_first(root, most=1000) == frozenset()


def test_that_a_tall_picture_is_set_in_columns() -> None:
    nodes, edges = residual_network(20)
    root = build_blocks(nodes)
    folded = frozenset(f"stages.0.{number}" for number in range(20))
    picture = draw(root, edges, folded)
    tops = sorted({round(shown.x) for shown in picture.boxes})
    assert len(tops) > 1
    assert picture.width > picture.height / 3


def test_that_arrows_follow_the_edges_and_the_sides() -> None:
    nodes = [GraphNode(name=name, kind="Conv2d", layer=name) for name in "abcd"]
    edges = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]
    picture = draw(build_blocks(nodes), edges, frozenset())
    left, right = sorted((1, 2), key=lambda place_in_list: picture.boxes[place_in_list].x)
    assert step(picture, 0, "down") in (1, 2)
    assert step(picture, left, "right") == right
    assert step(picture, right, "left") == left
    assert step(picture, right, "down") == 3
    assert step(picture, 3, "down") == 3
    assert step(picture, left, "up") == 0


def test_that_search_asks_for_every_word() -> None:
    nodes, _ = residual_network(3)
    root = build_blocks(nodes)
    assert [found.key for found in find(root, "0.1 conv2")] == [
        "stages.0.1.conv1",
        "stages.0.1.bn1",
        "stages.0.1.conv2",
        "stages.0.1.bn2",
        "stages.0.1.conv3",
        "stages.0.1.bn3",
    ]
    assert find(root, "  ") == []


@pytest.mark.parametrize("nested", [True, False])
def test_that_five_thousand_nodes_are_laid_out_quickly(nested: bool) -> None:
    nodes, edges = residual_network(NODES // 7)
    if not nested:
        nodes = [GraphNode(name=node.name, kind=node.kind, layer=node.layer) for node in nodes]
    started = time.perf_counter()
    picture = draw(build_blocks(nodes), edges, frozenset())
    assert time.perf_counter() - started < SLOWEST
    assert len(picture.boxes) == len(nodes)


def test_that_a_stopped_layout_ends_between_two_blocks() -> None:
    nodes, edges = residual_network(40)
    asked: list[int] = []

    def check() -> None:
        asked.append(1)
        if len(asked) == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        draw(build_blocks(nodes), edges, frozenset(), check)
    assert len(asked) == 5
