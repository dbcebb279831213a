"""How fast a graph of 5,000 nodes is laid out, and how long its frames take to paint.

Run it with `python tests/benchmarks/graph.py`; it exits with 1 where a layout takes a second or
more, or a frame 33 ms or more at the 95th percentile.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from PySide6.QtCore import QPointF
from PySide6.QtWidgets import QApplication

from featherweight.engine.events import Opened
from featherweight.engine.layer import GraphNode, Layer, NetworkSummary
from featherweight.gui import theme
from featherweight.gui.document import Document
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.graph_blocks import build_blocks, draw
from featherweight.gui.views.graph import GraphView

NODES = 5000
LAYOUT_TARGET, FRAME_TARGET_MS = 1.0, 33.0
FRAMES = 60

Edges = list[tuple[str, str]]


class Drawing:
    """Nodes and edges that are added one after the other."""

    def __init__(self) -> None:
        self.nodes = [GraphNode(name="x", kind="input")]
        self.edges: Edges = []

    def add(self, name: str, path: str, *sources: str) -> str:
        """Add a layer, or a function where it joins several sources."""
        joins = len(sources) > 1
        kind = "Conv2d" if not joins else "add"
        layer = "" if joins else name
        self.nodes.append(GraphNode(name=name, kind=kind, path=path, layer=layer))
        self.edges += [(source, name) for source in sources]
        return name


def residual(nested: bool = True) -> Drawing:
    """Blocks of six layers with a shortcut, forty to a stage."""
    made, last, count = Drawing(), "x", 0
    while len(made.nodes) < NODES:
        prefix = f"stages.{count // 40}.{count % 40}"
        path, current = prefix if nested else "", last
        for label in ("conv1", "norm1", "conv2", "norm2", "conv3", "norm3"):
            current = made.add(f"{prefix}.{label}", path, current)
        last = made.add(f"{prefix}.add", path, current, last)
        count += 1
    return made


def branching() -> Drawing:
    """Modules of four branches, one to four layers long."""
    made, last, count = Drawing(), "x", 0
    while len(made.nodes) < NODES:
        ends = []
        for branch in range(4):
            current = last
            for depth in range(branch + 1):
                path = f"mixed.{count}.branch{branch}"
                for label in ("conv", "norm"):
                    current = made.add(f"{path}.{label}{depth}", path, current)
            ends.append(current)
        last = made.add(f"mixed.{count}.concat", f"mixed.{count}", *ends)
        count += 1
    return made


def summary(drawing: Drawing) -> NetworkSummary:
    """Return a network of such a graph; every fourth layer is coupled to a hundred others."""
    names = [node.layer for node in drawing.nodes if node.layer]
    groups = [names[start : start + 400 : 4] for start in range(0, len(names), 400)]
    coupled = {name: tuple(group) for group in groups for name in group}
    layers = tuple(
        Layer(
            name=name, kind="Conv2d", summary="3×3, 64 → 64", weights={"weight": (64, 64, 3, 3)},
            parameters=100 + place * 7 % 4001, macs=place * 31 % 9001, activations=64,
            input_shape=(1, 64, 8, 8), output_shape=(1, 64, 8, 8), coupled=coupled.get(name, ()),
        )
        for place, name in enumerate(names)
    )  # fmt: skip
    return NetworkSummary(
        path="large.pt2", format="test", layers=layers, parameters=1, macs=1, input_shapes=(),
        output_shapes=(), file_bytes=0, nodes=tuple(drawing.nodes), edges=tuple(drawing.edges),
    )  # fmt: skip


def frames(view: GraphView, move: Callable[[int], None]) -> list[float]:
    """Return the sorted milliseconds of so many frames, each after a move."""
    taken = []
    for count in range(FRAMES):
        started = time.perf_counter()
        move(count)
        view.canvas.repaint()
        taken.append((time.perf_counter() - started) * 1000)
    return sorted(taken)


def gestures(view: GraphView, document: Document) -> Iterator[tuple[str, list[float]]]:
    """Yield what a person does with the graph, and how long its frames took."""
    canvas = view.canvas
    canvas.fit()
    yield "pan, everything seen", frames(view, lambda count: canvas.pan(3 - count % 7, 2))
    names = list(document.layers)
    canvas.fit()
    yield (
        "select, everything seen",
        frames(view, lambda count: document.select((names[count * 4],))),
    )
    canvas.fit()
    at = QPointF(canvas.width() / 3, canvas.height() / 3)
    yield "zoom in from everything", frames(view, lambda _: canvas.zoom(1.12, at))
    canvas.scale = 1.0
    canvas.centre_on(canvas.rect_of(NODES // 2).center())
    yield "pan, readable", frames(view, lambda _: canvas.pan(5, 12))
    canvas.scale = 0.44
    canvas.centre_on(canvas.rect_of(NODES // 2).center())
    yield "pan, smallest text", frames(view, lambda _: canvas.pan(5, 12))


def wait(view: GraphView) -> float:
    """Let the window live until the picture is there; return the longest stall in milliseconds."""
    longest, last = 0.0, time.perf_counter()
    while view.busy:
        QApplication.processEvents()
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
        time.sleep(0.001)
    return longest * 1000


def laid_out(drawing: Drawing) -> float:
    """Return the seconds of the best of three layouts."""
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        draw(build_blocks(drawing.nodes), drawing.edges, frozenset())
        taken.append(time.perf_counter() - started)
    return min(taken)


def measure(name: str, drawing: Drawing, folder: Path) -> bool:
    """Print the lines of one graph; return whether the targets are met."""
    seconds = laid_out(drawing)
    met = seconds < LAYOUT_TARGET
    print(f"{name}: {len(drawing.nodes)} nodes, layout {seconds:.2f} s")
    client = EngineClient()
    document = Document(client, folder)
    document.receive(Opened(network=summary(drawing)))
    view = GraphView(document)
    view.resize(1400, 900)
    view.show()
    wait(view)
    view.bar.unfold.click()
    print(f"  longest stall while it is laid out {wait(view):7.1f} ms")
    for title, taken in gestures(view, document):
        p95 = taken[int(0.95 * (FRAMES - 1))]
        met = met and p95 < FRAME_TARGET_MS
        print(f"  {title:26} median {taken[FRAMES // 2]:6.1f} ms, p95 {p95:6.1f} ms")
    view.close()
    document.close()
    return met


def main() -> int:
    """Print the table; return the exit status."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    app = QApplication(sys.argv[:1])
    theme.apply(app, "light")
    with tempfile.TemporaryDirectory() as folder:
        met = [
            measure(name, drawing, Path(folder))
            for name, drawing in (
                ("residual, in modules", residual()),
                ("branching, in modules", branching()),
                ("residual, without modules", residual(nested=False)),
            )
        ]
    print(f"targets: layout under {LAYOUT_TARGET} s, frames under {FRAME_TARGET_MS} ms at p95")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
