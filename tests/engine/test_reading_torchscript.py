"""TorchScript, core programs and networks of installed libraries open as layers."""

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from featherweight.engine.errors import TrustNeededError, UserError
from featherweight.engine.events import Source
from featherweight.engine.network import Network
from featherweight.engine.reading.formats import read_network

SHAPE = (2, 3, 16, 16)


class Pictures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 6, 2, 2)
        self.groups = nn.GroupNorm(2, 6)
        self.layers = nn.LayerNorm(6)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.conv(x)))
        x = functional.adaptive_avg_pool2d(self.groups(self.up(x)), 1).flatten(1)
        return self.fc(self.layers(x))


@pytest.fixture
def net() -> Pictures:
    torch.manual_seed(0)
    made = Pictures()
    nn.init.uniform_(made.norm.running_var, 0.5, 2.0)
    return made.eval()


@pytest.fixture
def script(tmp_path: Path, net: Pictures) -> Callable[[str], Path]:
    """Give a function that saves the network as TorchScript."""

    def save(how: str) -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = torch.jit.trace(net, torch.randn(SHAPE)) if how == "trace" else None
            (made or torch.jit.script(net)).save(tmp_path / "net.pt")
        return tmp_path / "net.pt"

    return save


def as_the_module_gives(network: Network, net: nn.Module, count: int = 2) -> None:
    sample = torch.randn(count, *SHAPE[1:])
    with torch.no_grad():
        assert torch.allclose(network.outputs(sample)[0], net(sample), rtol=1e-5, atol=1e-6)
    kinds = [type(layer).__name__ for _, layer in network.layers()]
    assert kinds == [
        *("Conv2d", "BatchNorm2d", "ConvTranspose2d", "GroupNorm", "LayerNorm", "Linear")
    ]


def test_that_traced_torchscript_opens_as_layers_under_their_names(
    net: Pictures, script: Callable[[str], Path]
) -> None:
    network = read_network(Source(path=str(script("trace")), input_shapes=(SHAPE,)))
    as_the_module_gives(network, net, 5)
    assert [name for name, _ in network.layers()] == [name for name, _ in net.named_children()]


def test_that_scripted_torchscript_opens_as_layers_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(net).save(tmp_path / "net.pt")
    network = read_network(Source(path=str(tmp_path / "net.pt"), input_shapes=(SHAPE,)))
    sample = torch.randn(5, *SHAPE[1:])
    assert torch.allclose(network.outputs(sample)[0], net(sample), rtol=1e-5, atol=1e-6)
    assert [name for name, _ in network.layers()] == ["0", "1"]


def test_that_torchscript_without_a_shape_asks_for_it(script: Callable[[str], Path]) -> None:
    with pytest.raises(UserError, match="does not tell the shape") as caught:
        read_network(Source(path=str(script("trace"))))
    assert "--input 1x3x224x224" in caught.value.hint


@pytest.mark.parametrize(
    "code",
    [
        "torch.from_file('mark', True, 9)",
        "torch.save(x, 'mark')",
        "ops.mylib.run(x)",
        "torch.resize_(x, [9, 9])",
        "def __setstate__(self, state: int) -> None:",
    ],
)
def test_that_a_script_that_reaches_past_tensors_is_refused(
    code: str, script: Callable[[str], Path]
) -> None:
    path = script("script")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data + code.encode() if name.endswith(".py") else data)
    with pytest.raises(UserError, match="reaches further than tensors"):
        read_network(Source(path=str(path), input_shapes=(SHAPE,)))
    assert not Path("mark").exists()


def test_that_a_program_of_core_operators_opens_as_layers(net: Pictures, tmp_path: Path) -> None:
    program = torch.export.export(net, (torch.randn(SHAPE),)).run_decompositions()
    targets = {str(node.target) for node in program.graph.nodes}
    assert {"aten.convolution.default", "aten.addmm.default"} <= targets
    torch.export.save(program, tmp_path / "core.pt2")
    as_the_module_gives(read_network(Source(path=str(tmp_path / "core.pt2"))), net)


LIBRARY = """
from torch import nn
def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
def create_model(name):
    if name != "made_by_name":
        raise RuntimeError(f"Unknown model ({name})")
    return small()
def number():
    return 3
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Install a library of networks for one test."""
    (tmp_path / "zoo_for_a_test.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(tmp_path)
    return "zoo_for_a_test"


@pytest.mark.parametrize("name", ["small", "made_by_name"])
def test_that_a_network_of_a_trusted_library_opens_by_its_name(name: str, library: str) -> None:
    path = f"{library}:{name}"
    with pytest.raises(TrustNeededError) as caught:
        read_network(Source(path=path, input_shapes=(SHAPE,)))
    assert caught.value.names == (library,)
    network = read_network(Source(path=path, trust=(library,), input_shapes=(SHAPE,)))
    assert [type(layer).__name__ for _, layer in network.layers()] == ["Linear"]
    assert any("random weights" in note for note in network.notes)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("number", "gives no network"), ("nothing", "Unknown model"), ("small.x", "Unknown model")],
)
def test_that_a_name_that_a_library_does_not_have_is_told(
    name: str, reason: str, library: str
) -> None:
    with pytest.raises(UserError, match=reason):
        read_network(Source(path=f"{library}:{name}", trust=(library,), input_shapes=(SHAPE,)))


def test_that_a_library_that_is_not_installed_is_told_with_its_name() -> None:
    with pytest.raises(UserError, match="needs not_installed_here"):
        read_network(Source(path="not_installed_here:net", trust=("not_installed_here",)))
