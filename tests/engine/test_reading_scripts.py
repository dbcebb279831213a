"""Scripts that torch's own converter cannot follow open by what they do, or as they are."""

import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from featherweight.engine.errors import UserError
from featherweight.engine.events import Source
from featherweight.engine.inspecting.survey import survey
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network
from featherweight.engine.reading.formats import read_network
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.session import Session
from featherweight.engine.trainings import FineTuning

PICTURES = ((2, 3, 8, 8),)


class Pooled(nn.Module):
    """A head for one size of pictures, which stops sizes from being free."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.fc = nn.Linear(8 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.max_pool2d(self.conv(x), 2).flatten(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(x)[0])


class Branching(nn.Module):
    """Takes one of two ways by its data; all kinds of layers have weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1, groups=1)
        self.norm = nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 6, 2, 2)
        self.lstm = nn.LSTM(8, 16, batch_first=True)
        self.own = nn.PReLU(6)
        self.fc = nn.Linear(16, 32)
        self.scale = nn.Parameter(torch.full((32,), 0.5))

    def forward(self, picture: Tensor) -> Tensor:
        y = self.own(self.up(self.norm(self.conv(picture)))).mean(1)
        y = self.fc(self.lstm(y)[0][:, -1]) * self.scale
        if bool(picture.sum() > 0):
            y = -y
        return y


class Sized(nn.Module):
    """Takes one of two ways by the number of samples."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] > 3:
            return self.fc(x)
        return -self.fc(x)


def saved(net: nn.Module, folder: Path, example: Tensor | None = None) -> Path:
    """Save a network as a script, or as a trace on an example."""
    path = folder / "net.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.jit.script(net) if example is None else torch.jit.trace(net, example)
        made.save(path)
    return path


@pytest.fixture
def branching() -> Branching:
    torch.manual_seed(0)
    net = Branching()
    nn.init.uniform_(net.norm.running_var, 0.5, 2.0)
    return net.eval()


def same(network: Network, net: nn.Module, *inputs: Tensor) -> bool:
    with torch.no_grad():
        return torch.equal(network.outputs(*inputs)[0], net(*inputs))


@pytest.mark.parametrize("how", ["script", "trace"])
def test_that_a_network_for_one_size_of_pictures_opens_with_its_batch_free(
    how: str, tmp_path: Path
) -> None:
    net = Pooled().eval()
    path = saved(net, tmp_path, torch.randn(*PICTURES[0]) if how == "trace" else None)
    network = read_network(Source(path=str(path), input_shapes=((1, 3, 8, 8),)))
    assert not network.graph_lock
    assert network.dynamic_batch
    assert [type(layer).__name__ for _, layer in network.layers()] == ["Conv2d", "Linear"]
    assert same(network, net, torch.randn(5, 3, 8, 8))


def test_that_a_scripted_recurrent_layer_is_a_layer(tmp_path: Path) -> None:
    net = Recurrent().eval()
    network = read_network(Source(path=str(saved(net, tmp_path)), input_shapes=((2, 7, 4),)))
    assert not network.graph_lock
    assert [(name, type(layer).__name__) for name, layer in network.layers()] == [
        ("lstm", "LSTM"),
        ("fc", "Linear"),
    ]
    with torch.no_grad():
        x = torch.randn(2, 7, 4)
        assert torch.allclose(network.outputs(x)[0], net(x), atol=1e-6)


def test_that_a_script_that_branches_on_its_batch_keeps_the_batch_of_its_example(
    tmp_path: Path,
) -> None:
    net = Sized().eval()
    network = read_network(Source(path=str(saved(net, tmp_path)), input_shapes=((2, 4),)))
    assert not network.graph_lock
    assert not network.dynamic_batch
    assert same(network, net, torch.randn(2, 4))


def test_that_a_frozen_script_with_a_branch_tells_where_its_weights_are(
    branching: Branching, tmp_path: Path
) -> None:
    path = tmp_path / "frozen.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.freeze(torch.jit.script(branching)).save(path)
    network = read_network(Source(path=str(path), input_shapes=PICTURES))
    assert network.graph_lock
    assert any("frozen" in note for note in network.notes)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.allclose(network.outputs(x)[0], branching(x), atol=1e-5)


def test_that_a_script_that_branches_on_its_data_opens_with_its_layers_and_the_reason(
    branching: Branching, tmp_path: Path
) -> None:
    path = saved(branching, tmp_path)
    network = read_network(Source(path=str(path), input_shapes=PICTURES))
    assert "branches" in network.graph_lock
    assert network.input_names == ("picture",)
    x = torch.randn(3, 3, 8, 8)
    assert same(network, branching, x.abs())
    assert same(network, branching, -x.abs())
    assert same(network.copy(), branching, x)
    summary = survey(network)
    layers = {layer.name: layer for layer in summary.layers}
    assert summary.parameters == sum(value.numel() for value in branching.parameters())
    kinds = {name: layers[name].kind for name in ("conv", "norm", "up", "lstm", "own", "fc")}
    assert kinds == {name: type(getattr(branching, name)).__name__ for name in kinds}
    assert layers["conv"].macs == 8 * 3 * 9 * 16
    assert layers["up"].macs == 8 * 6 * 4 * 16
    assert layers["fc"].macs == 16 * 32


@pytest.mark.parametrize("epochs", [0, 1])
def test_that_a_script_is_compressed_and_opens_again_with_its_file_bit_for_bit(
    epochs: int, branching: Branching, tmp_path: Path
) -> None:
    path = saved(branching, tmp_path)
    before = path.read_bytes()
    session = Session()
    summary = session.open(Source(path=str(path), input_shapes=PICTURES))
    locks = {layer.name: layer.locks for layer in summary.layers}
    assert "no other layer" in locks["fc"]["svd"]
    assert "cannot be measured" in locks["fc"]["wanda"]
    assert "magnitude" not in locks["fc"]
    choices = {
        "conv": Choice(precision=Setting("float16")),
        "lstm": Choice(
            sparsity=Setting("magnitude", {"sparsity": 0.5}),
            precision=Setting("integer", {"bits": 4}),
            coding=Setting("huffman"),
        ),
        "fc": Choice(precision=Setting("codebook")),
    }
    recovery = FineTuning(epochs=epochs) if epochs else None
    result = session.compress(
        Recipe(layers=choices, recovery=recovery), "small", str(tmp_path / "results"), Job()
    )
    assert path.read_bytes() == before
    archive = tmp_path / "results" / result.archive
    session.export(str(archive), "safetensors", str(tmp_path / "w.safetensors"), Job())
    again = read_network(Source(path=str(archive), factory=str(path)))
    state = load_file(tmp_path / "w.safetensors")
    branching.load_state_dict({name: value.float() for name, value in state.items()}, strict=False)
    assert again.graph_lock
    x = torch.randn(3, 3, 8, 8)
    assert same(again, branching, x)
    assert same(again, branching, -x)


def test_that_gradients_reach_the_layers_of_a_script(branching: Branching, tmp_path: Path) -> None:
    network = read_network(Source(path=str(saved(branching, tmp_path)), input_shapes=PICTURES))
    x = torch.randn(2, 3, 8, 8)
    network.outputs(x)[0].square().sum().backward()
    branching(x).square().sum().backward()
    for (name, ours), (other, theirs) in zip(
        sorted(network.module.named_parameters()),
        sorted(branching.named_parameters()),
        strict=True,
    ):
        assert name == other
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-6), name


def test_that_a_script_that_does_not_run_on_its_input_is_told(
    branching: Branching, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="does not run on an input of 2x5") as caught:
        read_network(Source(path=str(saved(branching, tmp_path)), input_shapes=((2, 5),)))
    assert "--input" in caught.value.hint
