"""Networks whose lengths, heights and widths stay free, from opening to every exported file."""

import importlib.util
import io
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
import zoo_checks
from architectures.zoo import ZOO
from torch import nn

from featherweight.engine.events import Source
from featherweight.engine.jobs import Job
from featherweight.engine.network import Inputs, Network, capture
from featherweight.engine.reading.formats import read_network
from featherweight.engine.writing.archive import write_archive
from featherweight.engine.writing.exported_program import write_exported_program
from featherweight.engine.writing.onnx import write_onnx
from featherweight.engine.writing.safetensors import write_safetensors

RATIO = 0.3
TEXT, PICTURE = {1: 6}, {2: 24, 3: 8}
# Each network with other sizes than those of its example, by dimension, and what is free of it.
NETWORKS = {
    "gpt": (TEXT, {(0, 1, "sequence")}),
    "bert": (TEXT, {(0, 1, "sequence"), (1, 1, "sequence")}),
    "lstm": (TEXT, {(0, 1, "sequence")}),
    "gru": (TEXT, {(0, 1, "sequence")}),
    "unet": (PICTURE, {(0, 2, "height"), (0, 3, "width")}),
}


@pytest.fixture(scope="module", params=NETWORKS)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Network, Network, Inputs]:
    """Give a module, its network, the network without some channels, and inputs of other sizes."""
    entry = ZOO[request.param]
    module = zoo_checks.module_of(entry.small).eval()
    example = entry.inputs(entry.small.shapes)
    sizes, free = NETWORKS[request.param]
    network = capture(module, example)
    assert {(*size.place, size.name) for size in network.free} == free
    removal = zoo_checks.everywhere(network, zoo_checks.analysed(network), RATIO)
    other = entry.inputs(
        [(3, *(sizes.get(at, size) for at, size in enumerate(x.shape) if at)) for x in example]
    )
    pruned = zoo_checks.pruned_of(network, removal)
    zoo_checks.assert_removed(network, pruned, removal, other)
    return module, network, pruned, other


Case = tuple[nn.Module, Network, Network, Inputs]


def test_that_another_batch_and_other_sizes_give_the_outputs_of_the_module(case: Case) -> None:
    module, network, _, other = case
    zoo_checks.assert_same(network.outputs(*other), zoo_checks.outputs_of(module, other))


def test_that_an_archive_keeps_which_sizes_are_free(case: Case, tmp_path: Path) -> None:
    _, _, pruned, other = case
    write_archive(pruned, {}, tmp_path / "small.fwz")
    again = read_network(Source(path=str(tmp_path / "small.fwz")))
    assert again.free == pruned.free
    zoo_checks.assert_same(again.outputs(*other), pruned.outputs(*other))


def test_that_a_program_runs_and_opens_with_the_same_sizes_free(case: Case, tmp_path: Path) -> None:
    _, _, pruned, other = case
    path = tmp_path / "small.pt2"
    write_exported_program(pruned, path, Job())
    loaded = torch.export.load(io.BytesIO(path.read_bytes())).module()
    zoo_checks.assert_same(zoo_checks.outputs_of(loaded, other), pruned.outputs(*other))
    again = read_network(Source(path=str(path)))
    assert [size.place for size in again.free] == [size.place for size in pruned.free]
    zoo_checks.assert_same(again.outputs(*other), pruned.outputs(*other))


def test_that_the_python_source_follows_the_sizes_of_its_input(case: Case, tmp_path: Path) -> None:
    _, _, pruned, other = case
    write_safetensors(pruned, tmp_path / "small.safetensors", Job())
    spec = importlib.util.spec_from_file_location("small", tmp_path / "small.py")
    assert spec is not None
    assert spec.loader is not None
    written = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(written)
    found = zoo_checks.outputs_of(written.load(), other)
    zoo_checks.assert_same(found, pruned.outputs(*other))


def test_that_an_onnx_file_names_the_free_sizes_and_runs_at_others(
    case: Case, tmp_path: Path
) -> None:
    _, _, pruned, other = case
    path = tmp_path / "small.onnx"
    export = write_onnx(pruned, path, None, None, Job())
    assert not [note for note in export.notes if "older exporter" in note]
    assert_onnx(path, pruned, other)


def test_that_the_older_exporter_follows_the_sizes_too(case: Case, tmp_path: Path) -> None:
    _, _, pruned, other = case
    path = tmp_path / "small.onnx"
    free = {0: "batch", **{size.dimension: size.name for size in pruned.free}}
    zoo_checks.write_traced(pruned.module, zoo_checks.paired(pruned.example), path, free)
    zoo_checks.assert_same(zoo_checks.run_onnx(path, other), pruned.outputs(*other))


def assert_onnx(path: Path, network: Network, other: Inputs) -> None:
    """Assert that a file has every free size by its name, runs at others, and opens with them."""
    graph = onnx.load(path).graph
    for size in network.free:
        sides = graph.input[size.input].type.tensor_type.shape.dim
        assert sides[0].dim_param == "batch"
        assert sides[size.dimension].dim_param == size.name
    expected = network.outputs(*other)
    zoo_checks.assert_same(zoo_checks.run_onnx(path, other), expected)
    shapes = tuple(tuple(tensor.shape) for tensor in network.example)
    again = read_network(Source(path=str(path), input_shapes=shapes))
    assert [size.place for size in again.free] == [size.place for size in network.free]
    zoo_checks.assert_same(again.outputs(*other), expected)


class Chunks(nn.Module):
    """Goes another way for odd lengths: no one graph holds both."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add pairs of steps, the last to itself."""
        if x.shape[1] % 2:
            x = torch.cat([x, x[:, -1:]], 1)
        result: torch.Tensor = self.layer(x[:, ::2] + x[:, 1::2])
        return result


class Positions(nn.Module):
    """Has a position for each of its steps, and of at most 12 others."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.places = nn.Embedding(20, 4), nn.Parameter(torch.randn(12, 4))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return embeddings with their positions."""
        result: torch.Tensor = self.embed(tokens) + self.places[: tokens.shape[1]]
        return result


def test_that_a_length_which_decides_about_the_code_stays_fixed_and_the_batch_free() -> None:
    network = capture(Chunks(), (torch.randn(2, 6, 4),))
    assert (network.free, network.dynamic_batch) == ((), True)


def test_that_the_largest_length_is_known(tmp_path: Path) -> None:
    network = capture(Positions(), (torch.zeros(1, 8, dtype=torch.long),))
    (size,) = network.free
    assert (size.name, size.smallest, size.largest) == ("sequence", 1, 12)
    write_exported_program(network, tmp_path / "a.pt2", Job())
    (again,) = read_network(Source(path=str(tmp_path / "a.pt2"))).free
    assert again.largest == 12


@pytest.mark.parametrize(
    ("call", "shape"),
    [
        (lambda x: x.reshape(3, 4), (3, 4)),
        (lambda x: x.reshape(3, 4), (3, 2, 2)),
        (lambda x: x.reshape(3, -1), (3, 4)),
    ],
)
def test_that_a_batch_which_the_code_names_is_fixed(
    call: Callable[[torch.Tensor], torch.Tensor], shape: tuple[int, ...]
) -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.layer(call(x))
            return result

    assert not capture(Fixed(), (torch.randn(shape),)).dynamic_batch
