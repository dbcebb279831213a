"""Every network of the zoo, in its small size, through formats, counts, removal and export."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
import torch
import zoo_checks
from architectures.zoo import ZOO
from torch import nn

from featherweight.engine.events import Source
from featherweight.engine.inspecting.coupling import FIXED, Coupling
from featherweight.engine.inspecting.removal import Plan
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.session import Session
from featherweight.engine.writing.onnx import write_onnx

RATIO = 0.3
WITH_GRAPH = [name for name, entry in ZOO.items() if entry.graph]
# The newer exporter takes seconds for each; the benchmark tries it on all.
BY_NEWER_EXPORTER = ["resnet_18", "vit_split", "two_inputs"]
OUTPUT = "Its channels are the network's output."
NORM = "Layer norm mixes its channels."


@dataclass(frozen=True)
class Opened:
    """A network of the zoo, its files, and the network that the whole module opens as."""

    module: nn.Module
    files: zoo_checks.Files
    network: Network

    @cached_property
    def coupling(self) -> Coupling:
        """Its coupling."""
        return zoo_checks.analysed(self.network)

    @cached_property
    def removal(self) -> Plan:
        """The plan that takes a share of the channels from every set."""
        return zoo_checks.everywhere(self.network, self.coupling, RATIO)

    @cached_property
    def pruned(self) -> Network:
        """The network without these channels."""
        return zoo_checks.pruned_of(self.network, self.removal)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Opened]]:
    """Give a function that opens a network of the zoo, once for all tests of this file."""
    known: dict[str, Opened] = {}

    def open_once(name: str) -> Opened:
        if name not in known:
            entry = ZOO[name]
            module = zoo_checks.module_of(entry.small)
            folder = tmp_path_factory.mktemp(name)
            files = zoo_checks.Files(entry, entry.small, module, folder)
            known[name] = Opened(module, files, files.pickle())
        return known[name]

    yield open_once
    known.clear()


@pytest.mark.parametrize("name", WITH_GRAPH)
def test_that_every_format_opens_to_the_same_outputs(
    name: str, opened: Callable[[str], Opened]
) -> None:
    entry = opened(name)
    files, expected = entry.files, zoo_checks.outputs_of(entry.module, entry.files.inputs)
    networks = {
        "pickle": entry.network,
        "state dict": files.state_dict(),
        "safetensors": files.safetensors(),
        "pt2": files.exported_program(),
        "archive": files.archive(entry.network),
    }
    for kind, network in networks.items():
        assert network.graph_lock == "", kind
        assert network.dynamic_batch, kind
        zoo_checks.assert_same(network.outputs(*files.inputs), expected)


@pytest.mark.parametrize("name", ZOO)
def test_that_parameters_and_macs_are_those_that_torch_counts(
    name: str, opened: Callable[[str], Opened]
) -> None:
    entry = opened(name)
    zoo_checks.assert_counts(entry.network, entry.module, entry.files.inputs)


@pytest.mark.parametrize("name", WITH_GRAPH)
def test_that_channels_removed_everywhere_leave_what_zeros_would(
    name: str, opened: Callable[[str], Opened], tmp_path: Path
) -> None:
    entry, inputs = opened(name), opened(name).files.inputs
    zoo_checks.assert_removed(entry.network, entry.pruned, entry.removal, inputs)
    zoo_checks.assert_trains(entry.pruned, inputs)
    path = tmp_path / "pruned.onnx"
    zoo_checks.write_traced(entry.pruned.module, zoo_checks.paired(inputs), path)
    zoo_checks.assert_same(zoo_checks.run_onnx(path, inputs), entry.pruned.outputs(*inputs))


@pytest.mark.parametrize("name", WITH_GRAPH)
def test_that_its_onnx_file_opens_and_can_be_pruned_like_the_network(
    name: str, opened: Callable[[str], Opened]
) -> None:
    entry = opened(name)
    assert_as_good(entry, entry.files.traced_onnx())


@pytest.mark.parametrize("name", BY_NEWER_EXPORTER)
def test_that_the_onnx_file_of_the_newer_exporter_opens_as_well(
    name: str, opened: Callable[[str], Opened], tmp_path: Path
) -> None:
    entry = opened(name)
    assert_as_good(entry, entry.files.graph_onnx())
    path = tmp_path / "pruned.onnx"
    export = write_onnx(entry.pruned, path, None, None, Job())
    assert not [note for note in export.notes if "older exporter" in note]
    inputs = entry.files.inputs
    zoo_checks.assert_same(zoo_checks.run_onnx(path, inputs), entry.pruned.outputs(*inputs))


def assert_as_good(entry: Opened, network: Network) -> None:
    """Assert of a network from an ONNX file what is asserted of the module that it came from."""
    inputs = entry.files.inputs
    expected = zoo_checks.outputs_of(entry.module, inputs)
    zoo_checks.assert_same(network.outputs(*inputs), expected)
    assert network.dynamic_batch
    zoo_checks.assert_counts(network, entry.module, inputs)
    coupling = zoo_checks.analysed(network)
    removal = zoo_checks.everywhere(network, coupling, RATIO)
    pruned = zoo_checks.pruned_of(network, removal)
    zoo_checks.assert_removed(network, pruned, removal, inputs)
    zoo_checks.assert_trains(pruned, inputs)
    path = entry.files.folder / "pruned.onnx"
    zoo_checks.write_traced(pruned.module, zoo_checks.paired(inputs), path)
    zoo_checks.assert_same(zoo_checks.run_onnx(path, inputs), pruned.outputs(*inputs))


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("vit_fused", {NORM, OUTPUT}),
        ("bert", {NORM, OUTPUT}),
        ("swin_t", {NORM, OUTPUT}),
        ("convnext_t", {NORM, OUTPUT}),
        ("lstm", {OUTPUT}),
        ("gru", {OUTPUT}),
        ("shufflenet_v2", {OUTPUT}),
        ("resnet_50", {OUTPUT}),
    ],
)
def test_that_layers_which_keep_their_channels_say_why(
    name: str, kept: set[str], opened: Callable[[str], Opened]
) -> None:
    assert set(opened(name).coupling.locks.values()) == kept


def test_that_heads_lose_width_and_feed_forward_layers_units(
    opened: Callable[[str], Opened],
) -> None:
    pruned = opened("vit_split").pruned
    for block in ("blocks.0", "blocks.1"):
        widths = {
            kind: pruned.layer(f"{block}.attn.{kind}").out_features
            for kind in ("query", "key", "value")
        }
        assert set(widths.values()) == {16}
        assert pruned.layer(f"{block}.mlp.0").out_features == 67
    assert pruned.layer("patches").out_channels == 24


def test_that_shortcuts_padded_with_zeros_leave_every_channel_free_to_go(
    opened: Callable[[str], Opened],
) -> None:
    channels = dict(opened("resnet_56").coupling.channels)
    del channels["fc"]
    kept = [name for name, layer in channels.items() if (layer.outputs == FIXED).any()]
    assert kept == []


def test_that_hidden_units_and_the_embedding_of_a_recurrent_network_shrink(
    opened: Callable[[str], Opened],
) -> None:
    pruned = opened("lstm").pruned
    layer = pruned.layer("lstm")
    assert (layer.input_size, layer.hidden_size) == (8, 7)
    assert pruned.layer("embed").embedding_dim == 8


def test_that_a_branch_on_data_is_inspected_and_takes_what_only_changes_weights(
    opened: Callable[[str], Opened], tmp_path: Path
) -> None:
    entry = opened("branching")
    expected = zoo_checks.outputs_of(entry.module, entry.files.inputs)
    for network in (entry.network, entry.files.state_dict(), entry.files.safetensors()):
        assert network.graph_lock.startswith("it decides by its data which way to go in forward")
        zoo_checks.assert_same(network.outputs(*entry.files.inputs), expected)

    session = Session()
    shapes = entry.files.size.shapes
    path = str(entry.files.folder / "whole.pt")
    summary = session.open(Source(path=path, trust=("architectures",), input_shapes=shapes))
    locks = {layer.name: layer.locks for layer in summary.layers}
    assert "integer" not in locks["bright"]
    assert "has no graph" in locks["bright"]["channel_pruning"]
    recipe = Recipe(layers={"bright": Choice(precision=Setting("integer", {"bits": 4}))})
    predicted = session.predict(recipe)
    assert predicted.after.bits < predicted.before.bits
    result = session.compress(recipe, "small", str(tmp_path), Job())
    archive = tmp_path / result.archive
    assert result.ledger.bytes == archive.stat().st_size
    again = read_network(Source(path=str(archive), factory=path, trust=("architectures",)))
    assert again.graph_lock == entry.network.graph_lock
    assert again.layer("bright").weights()["weight"].unique().numel() <= 64 * 16


def test_that_full_sizes_have_the_published_numbers_of_parameters() -> None:
    with torch.device("meta"):
        counts = {name: zoo_checks.parameters_of(entry.full.make()) for name, entry in ZOO.items()}
    assert counts == {name: entry.parameters for name, entry in ZOO.items()}
