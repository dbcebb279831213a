"""Breaks a tall layout into columns, as a text is set: windows are wider than networks.

Columns break only where a few lines cross; each line is led below its column, up beside it and
into the top of the next.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from featherweight.gui.graph_layout import Placement, Stroke

TALL = 800.0
ASPECT = 1.6
LANE, LEAD, COLUMN_GAP = 7.0, 16.0, 44.0


@dataclass
class _Column:
    top: float
    bottom: float
    boxes: list[int] = field(default_factory=list)
    strokes: list[Stroke] = field(default_factory=list)
    onward: list[Stroke] = field(default_factory=list)
    left: float = 0.0
    right: float = 0.0
    shift: float = 0.0


def in_columns(
    placement: Placement,
    sizes: list[tuple[float, float]],
    first: Collection[int] = (),
    last: Collection[int] = (),
) -> Placement:
    """Return the layout in columns, or as it is where it is low or cannot be broken.

    Boxes in `first` stay at its upper edge, those in `last` at its lower one.
    """
    columns = _columns(placement)
    if len(columns) < 2:
        return placement
    _fill(columns, placement, sizes)
    lanes = max(len(column.onward) for column in columns)
    room = LEAD + LANE * lanes
    x = 0.0
    for column in columns:
        column.shift = x - column.left
        x += column.right - column.left + COLUMN_GAP + LANE * len(column.onward)
    width = x - COLUMN_GAP
    height = max(column.bottom - column.top for column in columns) + 2 * room
    made = Placement(list(placement.boxes), [], -width / 2, width / 2, height)
    for column, following in zip(columns, (*columns[1:], None), strict=True):
        across, down = column.shift - width / 2, room - column.top
        for box in column.boxes:
            middle, top = placement.boxes[box]
            made.boxes[box] = (middle + across, top + down)
        made.strokes += [
            (a + across, b + down, c + across, d + down) for a, b, c, d in column.strokes
        ]
        if following is not None:
            _lead_on(made, column, following, width, room)
    _keep_ports(made, first, 0.0)
    _keep_ports(made, last, height)
    return made


def _columns(placement: Placement) -> list[_Column]:
    width, height = placement.right - placement.left + COLUMN_GAP, placement.height
    if height < TALL or height < ASPECT * width or not placement.breaks:
        return []
    count = max(2, round((ASPECT * height / width) ** 0.5))
    target = height / count
    columns, top = [], 0.0
    for place, cut in enumerate(placement.breaks):
        after = placement.breaks[place + 1] if place + 1 < len(placement.breaks) else height
        full = cut - top >= target or (after - top > 1.25 * target and cut - top > 0.6 * target)
        if full and height - cut > 0.25 * target:
            columns.append(_Column(top, cut))
            top = cut
    return [*columns, _Column(top, height)]


def _fill(columns: list[_Column], placement: Placement, sizes: list[tuple[float, float]]) -> None:
    ends = [column.bottom for column in columns[:-1]]
    for box, (_, top) in enumerate(placement.boxes):
        columns[_column_of(ends, top)].boxes.append(box)
    for stroke in placement.strokes:
        upper, lower = _column_of(ends, stroke[1]), _column_of(ends, stroke[3])
        column = columns[upper]
        (column.strokes if upper == lower else column.onward).append(stroke)
    for place, column in enumerate(columns):
        arrived = columns[place - 1].onward if place else []
        lefts = [placement.boxes[b][0] - sizes[b][0] / 2 for b in column.boxes]
        rights = [placement.boxes[b][0] + sizes[b][0] / 2 for b in column.boxes]
        points = [x for stroke in column.strokes for x in (stroke[0], stroke[2])]
        points += [stroke[0] for stroke in column.onward] + [stroke[2] for stroke in arrived]
        column.left = min(*lefts, *points, placement.right)
        column.right = max(*rights, *points, column.left)
        tops = [placement.boxes[b][1] for b in column.boxes]
        tops += [stroke[1] for stroke in column.strokes]
        bottoms = [placement.boxes[b][1] + sizes[b][1] for b in column.boxes]
        column.top, column.bottom = min(tops), max(bottoms)


def _column_of(ends: list[float], y: float) -> int:
    low, high = 0, len(ends)
    while low < high:
        middle = (low + high) // 2
        if ends[middle] < y:
            low = middle + 1
        else:
            high = middle
    return low


def _lead_on(
    made: Placement, column: _Column, following: _Column, width: float, room: float
) -> None:
    across, down = column.shift - width / 2, room - column.top
    to_across, to_down = following.shift - width / 2, room - following.top
    right = column.right + across + COLUMN_GAP / 2
    for lane, (start, top, end, bottom) in enumerate(sorted(column.onward, reverse=True)):
        beside = right + LANE * lane
        below = column.bottom + down + LEAD / 2 + LANE * lane
        above = room - LEAD / 2 - LANE * lane
        start, end = start + across, end + to_across
        made.strokes += [
            (start, top + down, start, below),
            (start, below, beside, below),
            (beside, above, beside, below),
            (beside, above, end, above),
            (end, above, end, bottom + to_down),
        ]


def _keep_ports(made: Placement, ports: Collection[int], edge: float) -> None:
    for port in ports:
        x, y = made.boxes[port]
        made.strokes.append((x, min(y, edge), x, max(y, edge)))
        made.boxes[port] = (x, edge)
