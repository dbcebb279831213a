"""What many tests of the engine prove in one way, and a trained network opened with its data."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import zoo_checks
from torch import Tensor, nn

from featherweight.engine.channel_removal import remove_channels
from featherweight.engine.events import Source, TaskSource
from featherweight.engine.inspecting.coupling import Coupling, analyse
from featherweight.engine.inspecting.removal import Plan
from featherweight.engine.jobs import Job
from featherweight.engine.methods.method import CodingMethod
from featherweight.engine.methods.structure.channel_pruning import ChannelPruning, plan
from featherweight.engine.network import Network, capture
from featherweight.engine.reading.formats import read_network
from featherweight.engine.results import Export
from featherweight.engine.session import Session
from featherweight.engine.writing.archive import write_archive
from featherweight.engine.writing.exported_program import write_exported_program
from featherweight.engine.writing.onnx import write_onnx
from featherweight.engine.writing.onnx_half import write_half_onnx
from featherweight.engine.writing.safetensors import write_safetensors

Inputs = tuple[Tensor, ...]
Settings = Mapping[str, ChannelPruning]


@pytest.fixture(scope="session", name="trained_session")
def _trained_session() -> Callable[[Path, Tensor, Tensor], Session]:
    """Give a function that trains 48 → 24 → 4 on inputs and labels and opens it with them."""
    return trained_session


def trained_session(folder: Path, inputs: Tensor, labels: Tensor) -> Session:
    torch.manual_seed(2)
    module = nn.Sequential(nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 4, bias=False))
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(inputs), labels).backward()
        optimizer.step()
    write_archive(capture(module, (inputs[:1],)), {}, folder / "source.fwz")
    np.savez(folder / "data.npz", images=inputs.numpy(), labels=labels.numpy())
    session = Session()
    session.open(Source(path=str(folder / "source.fwz")))
    session.set_task(TaskSource(data=str(folder / "data.npz")))
    return session


@pytest.fixture
def marked_session(tmp_path: Path) -> Session:
    """Open 36 → 20 → 4, untrained, with 160 noisy images that a pixel marks with their label."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(36, 20), nn.ReLU(), nn.Linear(20, 4))
    write_archive(capture(module, (torch.zeros(2, 1, 6, 6),)), {}, tmp_path / "network.fwz")
    random = np.random.default_rng(0)
    labels = np.arange(160) % 4
    images = random.normal(size=(160, 1, 6, 6)).astype(np.float32)
    images[np.arange(160), 0, labels] += 2.0
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    session = Session()
    session.open(Source(path=str(tmp_path / "network.fwz")))
    session.set_task(TaskSource(data=str(tmp_path / "data.npz")))
    return session


@pytest.fixture(scope="session", name="in_every_file")
def _in_every_file() -> Callable[..., dict[str, Export]]:
    """Give a function that writes a network in every format and proves each.

    The archive opens again bit for bit, the others compute what it computes, and the Python file
    beside the weights asks for nothing of ours. It returns the exports by their formats.
    """
    return in_every_file


def in_every_file(
    made: Network,
    coders: Mapping[str, CodingMethod],
    folder: Path,
    inputs: Inputs,
    source: Network | None = None,
) -> dict[str, Export]:
    write_archive(made, coders, folder / "made.fwz")
    again = read_network(Source(path=str(folder / "made.fwz")))
    torch.testing.assert_close(again.outputs(*inputs), made.outputs(*inputs), rtol=0, atol=0)
    exports = {
        "onnx": write_onnx(made, folder / "made.onnx", None, source, Job()),
        "pt2": write_exported_program(made, folder / "made.pt2", Job()),
        "safetensors": write_safetensors(made, folder / "made.safetensors", Job()),
        "onnx16": write_half_onnx(made, folder / "half.onnx", None, source, Job()),
    }
    for kind, export in exports.items():
        limit = 0.05 if kind == "onnx16" else 1e-4
        assert export.checks["relative_error"].value < limit, kind
    assert "featherweight" not in (folder / "made.py").read_text().partition("import")[2]
    return exports


@pytest.fixture(scope="session", name="proven_removal")
def _proven_removal() -> Callable[..., Network]:
    """Give a function that removes channels from a module and proves the result.

    It checks that the network left equals the original with every removed slice set to zero, also
    at another batch size, that it is as small as the plan says, that it trains, and that the
    original is unchanged. Settings are made from the coupling; without, every set loses 40 %.
    """
    return proven_removal


def proven_removal(
    module: nn.Module,
    example: Inputs,
    settings: Callable[[Coupling], Settings] | None = None,
) -> Network:
    torch.manual_seed(0)
    _unsettle_norms(module)
    network = capture(module, example)
    assert network.graph_lock == ""
    coupling = analyse(network)
    chosen = settings(coupling) if settings else _everywhere(coupling)
    removal = plan(network, coupling, chosen)
    pruned = network.copy()
    remove_channels(pruned, removal)

    inputs = tuple(_other_batch(tensor) for tensor in example)
    with torch.no_grad():
        before, after = network.outputs(*inputs), pruned.outputs(*inputs)
        zeroed = zoo_checks.zeroed(network, removal).outputs(*inputs)
    for original, expected, given in zip(before, zeroed, after, strict=True):
        assert given.shape == original.shape
        assert (given - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert (_parameters(pruned) < _parameters(network)) == bool(len(removal.atoms))
    _check_shapes(pruned, removal)
    _check_training(pruned, inputs)
    return pruned


def _everywhere(coupling: Coupling) -> Settings:
    assert coupling.sets
    return {found.layers[0]: ChannelPruning(ratio=0.4) for found in coupling.sets}


def _unsettle_norms(module: nn.Module) -> None:
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean, 0.0, 0.3)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0.0, 0.3)


def _other_batch(tensor: Tensor) -> Tensor:
    if tensor.is_floating_point():
        return torch.randn(3, *tensor.shape[1:])
    return torch.cat([tensor, tensor.flip(-1), tensor])


def _parameters(network: Network) -> int:
    return sum(parameter.numel() for parameter in network.module.parameters())


def _check_shapes(pruned: Network, removal: Plan) -> None:
    for name, shape in removal.shapes.items():
        layer = pruned.layer(name)
        assert min(shape.outputs, shape.groups) > 0 or isinstance(layer, nn.RNNBase)
        if isinstance(layer, nn.modules.conv._ConvNd):
            sizes = (layer.out_channels, layer.in_channels, layer.groups)
            assert sizes == (shape.outputs, shape.inputs, shape.groups)
            rows = shape.inputs if layer.transposed else shape.outputs
            assert layer.weight.shape[0] == rows
            assert layer.weight.shape[1] * shape.groups == shape.inputs + shape.outputs - rows
        elif isinstance(layer, nn.Linear):
            assert (layer.out_features, layer.in_features) == (shape.outputs, shape.inputs)
            assert layer.weight.shape == (shape.outputs, shape.inputs)


def _check_training(pruned: Network, inputs: Inputs) -> None:
    pruned.module.train()
    optimizer = torch.optim.SGD(pruned.module.parameters(), 0.01)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        loss = sum((output.square().mean() for output in pruned.outputs(*inputs)), torch.zeros(()))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] != losses[1]
    pruned.module.eval()
