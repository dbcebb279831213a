"""From one box of a picture to the next: along the edges, and to what stands beside."""

from collections.abc import Iterable

from featherweight.gui.graph_blocks import Block, Picture, Shown


def step(picture: Picture, place: int, arrow: str) -> int:
    """Return the box that an arrow leads to from a box, the same one where there is none."""
    if arrow == "down":
        ways: Iterable[int] = (end for start, end in picture.edges if start == place)
    elif arrow == "up":
        ways = (start for start, end in picture.edges if end == place)
    else:
        ways = _beside(picture, place, right=arrow == "right")
    middle, _ = _middle(picture.boxes[place])
    across = arrow in ("left", "right")
    return min(
        ways,
        key=lambda other: (
            _distance(picture, place, other) if across else _aside(picture, other, middle)
        ),
        default=place,
    )


def sources(picture: Picture, place: int) -> list[str]:
    """Return the labels of what feeds a box."""
    return [picture.boxes[start].block.label for start, end in picture.edges if end == place]


def targets(picture: Picture, place: int) -> list[str]:
    """Return the labels of what a box feeds."""
    return [picture.boxes[end].block.label for start, end in picture.edges if start == place]


def find(root: Block, text: str) -> list[Block]:
    """Return the nodes whose path or kind hold every word, in computing order."""
    words = text.lower().split()
    if not words:
        return []
    return [
        block
        for block in _leaves(root)
        if block.node is not None
        and all(word in f"{block.node.name} {block.node.kind}".lower() for word in words)
    ]


def around(block: Block) -> set[str]:
    """Return the keys of the blocks that a block lies in."""
    keys: set[str] = set()
    parent = block.parent
    while parent is not None:
        keys.add(parent.key)
        parent = parent.parent
    return keys


def _leaves(block: Block) -> Iterable[Block]:
    if block.node is not None:
        yield block
    for child in block.children:
        yield from _leaves(child)


def _middle(shown: Shown) -> tuple[float, float]:
    return shown.x + shown.width / 2, shown.y + shown.height / 2


def _aside(picture: Picture, place: int, middle: float) -> float:
    return abs(_middle(picture.boxes[place])[0] - middle)


def _distance(picture: Picture, first: int, second: int) -> float:
    (x, y), (to_x, to_y) = _middle(picture.boxes[first]), _middle(picture.boxes[second])
    return abs(x - to_x) + 2 * abs(y - to_y)


def _beside(picture: Picture, place: int, right: bool) -> Iterable[int]:
    own = picture.boxes[place]
    for other, box in enumerate(picture.boxes):
        ahead = box.x >= own.x + own.width if right else box.x + box.width <= own.x
        level = box.y < own.y + own.height + 60 and box.y + box.height > own.y - 60
        if ahead and level:
            yield other
