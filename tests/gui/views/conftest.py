"""Fixtures of the views' tests: a network with its methods as plain data, open in a document."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from pytestqt.qtbot import QtBot

from featherweight.engine.events import Opened, Ready, TaskReady, TaskSource, TaskSummary
from featherweight.engine.layer import GraphNode, Layer, NetworkSummary
from featherweight.engine.options import MethodDescription, Option, Slot
from featherweight.gui.document import Document
from featherweight.gui.engine_client import EngineClient

Kind = Literal["integer", "number", "choice", "switch"]


@pytest.fixture
def methods() -> tuple[MethodDescription, ...]:
    """Return descriptions of one or two methods in every slot."""

    def number(name: str, default: float, kind: Kind = "number", maximum: float = 1.0) -> Option:
        words = name.replace("_", " ").capitalize()
        return Option(
            name=name, title=words, help=f"{words}.", kind=kind, default=default,
            minimum=0.0, maximum=maximum,
        )  # fmt: skip

    def method(name: str, slot: Slot, strength: str, *options: Option) -> MethodDescription:
        return MethodDescription(
            name=name, slot=slot, title=name.replace("_", " ").capitalize(), strength=strength,
            advice=f"Advice on {name}.", options=options,
            gain="file and speed" if slot == "structure" else "file",
        )  # fmt: skip

    bits = Option(name="bits", title="Bits", help="Bits.", kind="choice", default=8, choices=(8, 4))
    switch = Option(name="per_channel", title="Per channel", help="", kind="switch", default=True)
    return (
        method("channel_pruning", "structure", "ratio", number("ratio", 0.5)),
        method("svd", "structure", "keep", number("keep", 0.5)),
        method("magnitude", "sparsity", "ratio", number("ratio", 0.8)),
        method("integer", "precision", "bits", bits, switch),
        method("codebook", "precision", "clusters", number("clusters", 16, "integer", 256)),
        method("huffman", "coding", ""),
    )


def graph_of(blocks: tuple[str, ...]) -> tuple[tuple[GraphNode, ...], tuple[tuple[str, str], ...]]:
    """Return the graph of the residual blocks between a stem and a classifier."""
    nodes, edges, last = [GraphNode(name="x", kind="input")], [("x", "stem")], "stem"
    nodes.append(GraphNode(name="stem", kind="Conv2d", layer="stem", then=("relu",)))
    for block in blocks:
        current = last
        for label in ("conv1", "bn1", "conv2", "bn2"):
            name, kind = f"{block}.{label}", "Conv2d" if "conv" in label else "BatchNorm2d"
            nodes.append(GraphNode(name=name, kind=kind, path=block, layer=name))
            edges.append((current, name))
            current = name
        nodes.append(GraphNode(name=f"{block}.add", kind="add", path=block, then=("relu",)))
        edges += [(current, f"{block}.add"), (last, f"{block}.add")]
        last = f"{block}.add"
    nodes.append(GraphNode(name="classifier", kind="Linear", layer="classifier"))
    nodes.append(GraphNode(name="output", kind="output"))
    edges += [(last, "classifier"), ("classifier", "output")]
    return tuple(nodes), tuple(edges)


@pytest.fixture
def network(methods: tuple[MethodDescription, ...]) -> NetworkSummary:
    """Return two residual blocks of convolutions with batch norms, and a classifier."""
    everything = {method.name: "A batch norm has no matrix to change." for method in methods}
    group = ("stem", "blocks.0.conv2", "blocks.1.conv2")
    layers: list[Layer] = []

    def add(name: str, kind: str, sides: tuple[int, ...], locks: dict[str, str]) -> None:
        size = math.prod(sides)
        output = (1, sides[0], 14, 14) if kind != "Linear" else (1, sides[0])
        layers.append(
            Layer(
                name=name, kind=kind, summary="×".join(map(str, sides)), weights={"weight": sides},
                parameters=size, bits=size * 32, macs=size * 196 if kind == "Conv2d" else size,
                activations=math.prod(output), input_shape=(1, 16, 14, 14), output_shape=output,
                coupled=tuple(other for other in group if other != name) if name in group else (),
                locks=locks,
            )
        )  # fmt: skip

    add("stem", "Conv2d", (16, 1, 3, 3), {"svd": "Its kernel is not 1×1."})
    for block in ("blocks.0", "blocks.1"):
        for place in "12":
            add(f"{block}.conv{place}", "Conv2d", (16, 16, 3, 3), {"svd": "Its kernel is not 1×1."})
            add(f"{block}.bn{place}", "BatchNorm2d", (16,), everything)
    add("classifier", "Linear", (10, 16), {"channel_pruning": "Its outputs are the classes."})
    total = sum(layer.parameters for layer in layers)
    nodes, edges = graph_of(("blocks.0", "blocks.1"))
    return NetworkSummary(
        path="net.pt", format="test", layers=tuple(layers), parameters=total,
        macs=sum(layer.macs or 0 for layer in layers), input_shapes=((1, 1, 14, 14),),
        output_shapes=((1, 10),), file_bytes=total * 4, nodes=nodes, edges=edges,
    )  # fmt: skip


@pytest.fixture
def opened(
    qtbot: QtBot, own_folder: Path, methods: tuple[MethodDescription, ...], network: NetworkSummary
) -> Iterator[Document]:
    """Return a document in which the network is open; the test gives it the engine's events."""
    del qtbot
    client = EngineClient()
    made = Document(client, own_folder)
    made.receive(Ready(methods=methods))
    made.receive(Opened(network=network))
    yield made
    made.close()
    made.deleteLater()
    client.deleteLater()


@pytest.fixture
def supplied(opened: Document) -> Document:
    """Return the document with data."""
    source = TaskSource(data="images.npz")
    found = TaskSummary(
        source=source, recovery_samples=40, measure_samples=20, classes=10, metrics=("top1",)
    )
    opened.set_task(source)
    for request in range(1, 10):
        opened.receive(TaskReady(id=request, task=found))
    return opened
