"""The outline of a graph: what is drawn of a network, and what leaves no trace."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from featherweight.engine.events import Source
from featherweight.engine.inspecting.graph_outline import outline
from featherweight.engine.inspecting.survey import survey
from featherweight.engine.layer import GraphNode
from featherweight.engine.network import Network, capture
from featherweight.engine.reading.formats import read_network
from featherweight.engine.session import Session


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.conv2(functional.relu(self.conv1(x))) + x)


class Residuals(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.blocks = nn.Sequential(Residual(4), Residual(4))
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.blocks(functional.max_pool2d(self.stem(x), 2))
        scores: Tensor = self.head(self.drop(y.mean((2, 3)).reshape(x.shape[0], -1)))
        return scores


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.out = nn.Linear(8, 8)
        self.place = nn.Embedding(5, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.place(torch.arange(x.shape[1]))
        q, k, v = self.qkv(x).view(x.shape[0], -1, 3, 8).unbind(2)
        scores = (q @ k.transpose(1, 2) / 8**0.5).softmax(-1)
        mixed: Tensor = self.out(scores @ v)
        return mixed


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(4, 4)
        self.step = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.enter(x)
        y = self.step(y * y.sigmoid())
        return self.step(y), y


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.enter(x) if x.sum() > 0 else x


def drawn(network: Network) -> tuple[dict[str, GraphNode], set[tuple[str, str]]]:
    nodes, edges = outline(network, {layer.name for layer in survey(network).layers})
    assert len({node.name for node in nodes}) == len(nodes)
    return {node.name: node for node in nodes}, set(edges)


@pytest.fixture(scope="module")
def residuals() -> Network:
    return capture(Residuals(), (torch.randn(2, 1, 8, 8),))


def test_that_a_residual_network_reads_as_it_was_written(residuals: Network) -> None:
    nodes, edges = drawn(residuals)
    assert list(nodes) == [
        *("x", "stem", "max pool"),
        *("blocks.0.conv1", "blocks.0.conv2", "blocks.0.add"),
        *("blocks.1.conv1", "blocks.1.conv2", "blocks.1.add"),
        *("mean", "head", "output"),
    ]
    assert ("max pool", "blocks.0.add") in edges
    assert ("blocks.0.conv2", "blocks.0.add") in edges
    assert len(edges) == len(nodes) - 1 + 2


def test_that_functions_lie_in_the_module_that_calls_them(residuals: Network) -> None:
    nodes, _ = drawn(residuals)
    assert nodes["blocks.0.add"].path == "blocks.0"
    assert nodes["max pool"].path == ""
    assert nodes["blocks.0.conv1"].layer == "blocks.0.conv1"
    assert nodes["blocks.0.add"].layer == ""


def test_that_an_activation_is_part_of_what_it_is_applied_to(residuals: Network) -> None:
    nodes, _ = drawn(residuals)
    assert nodes["blocks.0.conv1"].then == ("relu",)
    assert nodes["blocks.0.add"].then == ("relu",)
    assert nodes["stem"].then == ()


def test_that_every_row_of_the_table_has_a_node() -> None:
    network = capture(Attention(), (torch.randn(2, 5, 8),))
    nodes, edges = drawn(network)
    assert {layer.name for layer in survey(network).layers} == {
        node.layer for node in nodes.values() if node.layer
    }
    assert [name for name in nodes if nodes[name].layer == "(functions)"] == [
        "matmul",
        "matmul (2)",
    ]
    assert nodes["matmul"].then == ("div", "softmax")
    assert {("split", "matmul"), ("split", "matmul (2)"), ("matmul", "matmul (2)")} <= edges
    assert not [edge for edge in edges if edge[1] == "place"]


def test_that_a_gate_on_a_layer_is_not_drawn_as_a_branch() -> None:
    nodes, edges = drawn(capture(Gated(), (torch.randn(2, 4),)))
    assert nodes["enter"].then == ("sigmoid", "mul")
    assert ("enter", "step") in edges


def test_that_a_layer_called_twice_has_a_node_for_each_call() -> None:
    nodes, edges = drawn(capture(Gated(), (torch.randn(2, 4),)))
    assert nodes["step (2)"].layer == "step"
    assert {("step", "step (2)"), ("step", "output"), ("step (2)", "output")} <= edges


def test_that_edges_follow_the_order_of_nodes(residuals: Network) -> None:
    nodes, edges = drawn(residuals)
    places = {name: place for place, name in enumerate(nodes)}
    assert all(places[start] < places[end] for start, end in edges)


def test_that_a_network_without_a_graph_has_no_outline() -> None:
    network = capture(Branching(), (torch.randn(2, 4),))
    assert network.graph_lock
    assert outline(network) == ((), ())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_that_functions_of_an_onnx_file_lie_where_their_neighbours_do(
    tmp_path: Path, residuals: Network
) -> None:
    path = tmp_path / "net.onnx"
    torch.onnx.export(
        Residuals().eval(), (torch.randn(1, 1, 8, 8),), path, dynamo=False, verbose=False
    )
    nodes, edges = drawn(read_network(Source(path=str(path))))
    assert [node.path for node in nodes.values() if node.kind == "add"] == ["blocks", "blocks"]
    assert nodes["max pool"].path == ""
    assert len(edges) == len(drawn(residuals)[1])


def test_that_an_opened_network_carries_its_outline(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    example = (torch.randn(2, 1, 8, 8),)
    torch.export.save(torch.export.export(Residuals().eval(), example), path)
    summary = Session().open(Source(path=str(path)))
    assert {node.layer for node in summary.nodes} >= {layer.name for layer in summary.layers}
    names = {node.name for node in summary.nodes}
    assert names >= {name for edge in summary.edges for name in edge}
