"""Draws pictures of a graph off the window's thread; only the newest one asked for arrives."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from PySide6.QtCore import QObject, Qt, Signal

from featherweight.engine.layer import GraphNode
from featherweight.gui.graph_blocks import Block, Picture, build_blocks, draw, folded_at_first

Edges = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Draft:
    """A picture, the blocks that it shows, and which of them are folded."""

    root: Block
    folded: frozenset[str]
    picture: Picture


@dataclass(eq=False)
class _Order:
    edges: Edges
    nodes: Sequence[GraphNode] = ()
    root: Block | None = None
    folded: frozenset[str] | None = None
    dropped: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Stop where something newer was asked for."""
        if self.dropped.is_set():
            raise _DroppedError


class _DroppedError(Exception):
    pass


class _Carrier(QObject):
    """Carries drafts over; the thread keeps it alive, so that the window may close meanwhile."""

    arrived = Signal(object, object)


class Drafter(QObject):
    """Answers `begin` and `redraw` by `drawn`."""

    drawn = Signal(object)  # Draft

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._carrier = _Carrier()
        self._carrier.arrived.connect(self._on_arrived, Qt.ConnectionType.QueuedConnection)
        self._order: _Order | None = None

    @property
    def busy(self) -> bool:
        """Whether a picture is on its way."""
        return self._order is not None

    def begin(self, nodes: Sequence[GraphNode], edges: Edges) -> None:
        """Draw another graph, folded so that its boxes are few."""
        self._start(_Order(edges, nodes))

    def redraw(self, root: Block, edges: Edges, folded: frozenset[str]) -> None:
        """Draw a graph with other blocks folded."""
        self._start(_Order(edges, root=root, folded=folded))

    def drop(self) -> None:
        """Forget what was asked for."""
        if self._order is not None:
            self._order.dropped.set()
            self._order = None

    def _start(self, order: _Order) -> None:
        self.drop()
        self._order = order
        threading.Thread(target=_work, args=(order, self._carrier), name="graph layout").start()

    def _on_arrived(self, order: _Order, draft: Draft) -> None:
        if order is self._order:
            self._order = None
            self.drawn.emit(draft)


def _work(order: _Order, carrier: _Carrier) -> None:
    try:
        root = order.root or build_blocks(order.nodes)
        folded = folded_at_first(root) if order.folded is None else order.folded
        picture = draw(root, order.edges, folded, order.check)
    except _DroppedError:
        return
    carrier.arrived.emit(order, Draft(root, folded, picture))
