"""Whole modules, state dicts and safetensors open to the network that was saved."""

import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

from featherweight.engine.errors import UserError
from featherweight.engine.events import Source
from featherweight.engine.network import Network
from featherweight.engine.reading.formats import read_network

SHAPES = ((1, 3, 12, 12),)
FACTORIES = """
import torch
from torch import nn

def small():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(400, 5)
    )

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(11, 6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, x):
        return self.head(self.tokens(x))

def needs_width(width):
    return nn.Linear(width, width)

def gives_text():
    return "network"

number = 3
"""

Save = Callable[[Any], Path]


@pytest.fixture(scope="module")
def factories(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("factories") / "factories_of_tests.py"
    path.write_text(FACTORIES)
    return str(path)


@pytest.fixture
def net(factories: str, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    torch.manual_seed(0)
    monkeypatch.syspath_prepend(Path(factories).parent)
    import factories_of_tests

    module: nn.Module = factories_of_tests.small().eval()
    nn.init.uniform_(module[1].running_var, 0.5, 2.0)
    return module


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def saved(value: Any) -> Path:
        torch.save(value, tmp_path / "saved.pt")
        return tmp_path / "saved.pt"

    return saved


def opened(path: Path, factory: str = "", shapes: Any = SHAPES) -> Network:
    trust = (factory.rpartition(":")[0],) if factory else ()
    return read_network(Source(path=str(path), factory=factory, trust=trust, input_shapes=shapes))


def assert_same(network: Network, module: nn.Module, data: Tensor | None = None) -> None:
    data = torch.randn(3, 3, 12, 12) if data is None else data
    with torch.no_grad():
        assert torch.equal(network.outputs(data)[0], module(data))


def test_that_a_whole_module_of_torch_opens_without_trust(net: nn.Module, save: Save) -> None:
    network = opened(save(net))
    assert_same(network, net)
    assert network.origin.format == "PyTorch module"
    assert [name for name, _ in network.layers()] == ["0", "1", "4"]


@pytest.mark.parametrize(
    "module",
    [
        nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True),
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        nn.Sequential(nn.GELU(), nn.Hardswish(), nn.Linear(8, 3), nn.Softmax(-1)),
        nn.Sequential(nn.Conv1d(5, 4, 3), nn.GroupNorm(2, 4), nn.PReLU(), nn.Upsample(4)),
    ],
    ids=["gelu", "relu", "activations", "convolution"],
)
def test_that_layers_and_activations_of_torch_need_no_trust(module: nn.Module, save: Save) -> None:
    network = opened(save(module.eval()), shapes=((2, 5, 8),))
    data = torch.randn(2, 5, 8)
    with torch.no_grad():
        torch.testing.assert_close(network.outputs(data)[0], module(data))


def test_that_a_network_inside_a_checkpoint_is_found(net: nn.Module, save: Save) -> None:
    assert_same(opened(save({"epoch": 3, "net": net, "best": 0.9})), net)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"lr": torch.ones(1)}},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"model": {f"_orig_mod.module.{key}": state[key] for key in state}},
        lambda state: OrderedDict(reversed(state.items())),
    ],
    ids=["plain", "state_dict", "model", "parallel", "compiled", "reversed"],
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_that_a_state_dict_is_found_in_its_wrappings(
    wrap: Callable[[Any], Any], zipped: bool, net: nn.Module, factories: str, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(wrap(net.state_dict()), path, _use_new_zipfile_serialization=zipped)
    assert_same(opened(path, f"{factories}:small"), net)


def test_that_a_factory_in_an_importable_module_builds_the_network(
    net: nn.Module, save: Save
) -> None:
    network = opened(save(net.state_dict()), "factories_of_tests:small")
    assert_same(network, net)
    assert network.origin.format == "PyTorch state dict"


def test_that_safetensors_open_with_their_factory(
    net: nn.Module, factories: str, tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(net.state_dict(), path)
    assert_same(opened(path, f"{factories}:small"), net)
    renamed = path.rename(tmp_path / "weights.dat")
    assert opened(renamed, f"{factories}:small").origin.format == "safetensors"


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_that_tied_weights_stay_one_parameter(
    kind: str, net: nn.Module, factories: str, tmp_path: Path
) -> None:
    del net
    tied = sys.modules["factories_of_tests"].Tied().eval()
    path = tmp_path / f"tied.{kind}"
    if kind == "pt":
        torch.save(tied.state_dict(), path)
    else:
        save_model(tied, str(path))
    network = opened(path, f"{factories}:Tied", ((1, 4),))
    assert_same(network, tied, torch.randint(0, 11, (3, 4)))
    assert network.layer("head").weight is network.layer("tokens").weight
    assert network.example[0].dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_that_other_floats_open_as_float32_with_a_note(
    dtype: torch.dtype, net: nn.Module, factories: str, save: Save
) -> None:
    path = save(net.to(dtype).state_dict())
    network = opened(path, f"{factories}:small")
    assert_same(network, net.float())
    assert str(dtype).removeprefix("torch.") in network.notes[0]


def test_that_weights_without_a_factory_ask_for_one(net: nn.Module, save: Save) -> None:
    with pytest.raises(UserError, match="8 tensors") as caught:
        opened(save({key: value for key, value in net.state_dict().items() if "num" not in key}))
    assert "--factory" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "no function missing"),
        ("number", "no function number"),
        ("needs_width", "TypeError"),
        ("gives_text", "gave str"),
        ("", "names no factory"),
    ],
)
def test_that_a_factory_that_builds_no_network_is_told(
    name: str, reason: str, net: nn.Module, factories: str, save: Save
) -> None:
    with pytest.raises(UserError, match=reason):
        opened(save(net.state_dict()), f"{factories}:{name}")


def test_that_weights_of_another_network_name_the_first_differences(
    net: nn.Module, factories: str, save: Save
) -> None:
    state = dict(net.state_dict())
    del state["0.weight"], state["4.bias"]
    state["extra.weight"] = torch.ones(1)
    with pytest.raises(UserError) as caught:
        opened(save(state), f"{factories}:small")
    assert "lacks 2 tensors (0.weight, 4.bias)" in caught.value.message
    assert "1 tensor (extra.weight) that the network does not" in caught.value.message
    state = {**net.state_dict(), "4.weight": torch.ones(5, 9)}
    with pytest.raises(UserError, match=r"4\.weight is 5x9 in the file and 5x400"):
        opened(save(state), f"{factories}:small")


@pytest.mark.parametrize(
    ("module", "guess"),
    [
        (nn.Conv2d(3, 4, 3), "3 channels: try --input 1x3x224x224"),
        (nn.Conv2d(1, 4, 3), "1 channel: try --input 1x1x28x28"),
        (nn.Conv1d(2, 4, 3), "1x2x1024"),
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 3)), "784 features: try --input 1x784"),
        (nn.Embedding(7, 3), "indices below 7: try --input 1x16"),
        (nn.LSTM(5, 3), "1x16x5"),
    ],
    ids=["color", "gray", "signal", "features", "words", "steps"],
)
def test_that_a_missing_input_shape_brings_a_guess_from_the_first_layer(
    module: nn.Module, guess: str, save: Save
) -> None:
    path = save(module)
    with pytest.raises(UserError, match="does not tell the shape") as caught:
        opened(path, shapes=())
    assert guess in caught.value.hint


@pytest.mark.parametrize("shape", [(1, 4, 12, 12), (1, 3, 2, 2), (0, 3, 12, 12), ()])
def test_that_a_shape_that_the_network_does_not_take_is_told(
    shape: tuple[int, ...], net: nn.Module, save: Save
) -> None:
    with pytest.raises(UserError) as caught:
        opened(save(net), shapes=(shape,))
    assert "--input 1x3x224x224" in caught.value.hint


def test_that_example_inputs_are_the_same_at_every_opening(net: nn.Module, save: Save) -> None:
    path = save(net)
    first, second = opened(path), opened(path)
    assert torch.equal(first.example[0], second.example[0])


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        ("self.fc(x) if x.sum() > 0 else x", "decides by its data which way to go"),
        ("self.fc(x) + torch.rand_like(x)", "gives other outputs"),
    ],
    ids=["branches", "noise"],
)
def test_that_a_network_without_a_true_graph_opens_with_the_reason(
    forward: str, reason: str, tmp_path: Path
) -> None:
    file = tmp_path / "odd.py"
    file.write_text(
        "import torch\nfrom torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.fc = nn.Linear(4, 4)\n"
        f"    def forward(self, x):\n        return {forward}\n"
    )
    weights = tmp_path / "odd.pt"
    torch.save(nn.ModuleDict({"fc": nn.Linear(4, 4)}).state_dict(), weights)
    network = opened(weights, f"{file}:Net", ((1, 4),))
    assert reason in network.graph_lock
    assert [name for name, _ in network.layers()] == ["fc"]
