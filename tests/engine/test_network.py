"""Capturing a module: the same outputs, real layers by their names, and reasons where it fails."""

import copy

import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.network import Network, capture


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm(self.conv(x)))
        y += x
        return y


class Vision(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding="valid")
        self.block = Residual()
        self.depthwise = nn.Conv2d(4, 8, 3, groups=4, dilation=2, padding=2)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.prelu = nn.PReLU()
        self.norm = nn.GroupNorm(2, 4)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(self.depthwise(self.block(self.stem(x))))
        x = self.norm(self.prelu(x)).mean((2, 3))
        result: Tensor = self.head(self.drop(x))
        return result


class Language(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8, padding_idx=0)
        self.rnn = nn.LSTM(8, 6, num_layers=2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(12, 8, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.out = nn.Linear(8, 11, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        x, _ = self.rnn(self.embed(tokens))
        x, last = self.gru(x)
        x = self.norm(x + self.attention(x, x, x, need_weights=False)[0])
        return self.out(x), last


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(5, 3, 3, 3) / 5)
        self.mix = nn.Parameter(torch.randn(5, 7))
        self.register_buffer("scale", torch.rand(7))

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.conv2d(x, self.kernel).relu().flatten(2).mean(2)
        result: Tensor = torch.einsum("nc,cd->nd", x, self.mix) * self.scale
        return result


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.once = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.once(self.once(x).relu())
        return result


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x) if x.sum() > 0 else x
        return result


IMAGES = (torch.randn(1, 3, 18, 18, generator=torch.Generator().manual_seed(1)),)
TOKENS = (torch.arange(10).reshape(2, 5),)
CASES = [
    (Vision, IMAGES),
    (Language, TOKENS),
    (Functional, IMAGES),
    (Shared, (torch.ones(2, 6),)),
]


def captured(kind: type[nn.Module], example: tuple[Tensor, ...]) -> tuple[nn.Module, Network]:
    torch.manual_seed(0)
    module = kind().eval()
    return module, capture(copy.deepcopy(module), example)


@pytest.mark.parametrize(("kind", "example"), CASES)
def test_that_a_captured_network_gives_the_module_outputs_at_any_batch(
    kind: type[nn.Module], example: tuple[Tensor, ...]
) -> None:
    module, network = captured(kind, example)
    assert network.graph_lock == ""
    for batch in (1, 2, 5):
        inputs = tuple(torch.cat([tensor] * batch)[:batch] for tensor in example)
        expected = module(*inputs)
        expected = expected if isinstance(expected, tuple) else (expected,)
        for found, wanted in zip(network.outputs(*inputs), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_that_a_plain_recurrent_layer_keeps_its_nonlinearity(nonlinearity: str) -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.RNN(4, 6, nonlinearity=nonlinearity, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.rnn(x)[0]
            return result

    x = torch.randn(2, 3, 4)
    module, network = captured(Plain, (x,))
    torch.testing.assert_close(network.outputs(x)[0], module(x), rtol=0, atol=0)
    assert network.layer("rnn").nonlinearity == nonlinearity


@pytest.mark.parametrize(
    ("kind", "example", "layers"),
    [
        (
            Vision,
            IMAGES,
            ["stem", "block.conv", "block.norm", "depthwise", "up", "prelu", "norm", "head"],
        ),
        (
            Language,
            TOKENS,
            ["embed", "rnn", "gru", "attention.in_proj", "attention.out_proj", "norm", "out"],
        ),
        (Functional, IMAGES, ["kernel"]),
        (Shared, (torch.ones(2, 6),), ["once"]),
    ],
)
def test_that_layers_keep_the_names_of_the_module_in_call_order(
    kind: type[nn.Module], example: tuple[Tensor, ...], layers: list[str]
) -> None:
    _, network = captured(kind, example)
    assert [name for name, _ in network.layers()] == layers


def test_that_tied_weights_stay_one_parameter_of_two_layers() -> None:
    module, network = captured(Language, TOKENS)
    assert network.layer("out").weight is network.layer("embed").weight
    parameters = sum(value.numel() for value in network.module.parameters())
    assert parameters == sum(value.numel() for value in module.parameters())


def test_that_a_captured_network_trains_with_dropout_and_running_statistics() -> None:
    _, network = captured(Vision, IMAGES)
    network.module.train()
    before = network.layer("block.norm").running_mean.clone()
    first, second = (network.outputs(IMAGES[0].repeat(2, 1, 1, 1))[0] for _ in range(2))
    first.sum().backward()
    assert all(value.grad is not None for value in network.module.parameters())
    assert not torch.equal(before, network.layer("block.norm").running_mean)
    assert not torch.equal(first, second)


def test_that_a_data_dependent_branch_opens_with_the_reason_and_still_runs() -> None:
    network = capture(Branching().eval(), (torch.ones(2, 4),))
    assert network.graph_lock.startswith("it decides by its data which way to go in forward (test_")
    assert [name for name, _ in network.layers()] == ["layer"]
    assert network.outputs(torch.ones(3, 4))[0].shape == (3, 4)


def test_that_a_network_with_a_fixed_batch_is_captured_at_its_own_batch() -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(1, 12).relu()

    network = capture(Fixed(), (torch.randn(1, 3, 4),))
    assert not network.dynamic_batch
    assert network.outputs(torch.ones(1, 3, 4))[0].shape == (1, 12)


def test_that_replacing_a_layer_by_a_chain_splices_every_call_of_it() -> None:
    module, network = captured(Shared, (torch.ones(2, 6),))
    chain = nn.Sequential(nn.Linear(6, 3, bias=False), nn.Linear(3, 6))
    source = copy.deepcopy(network)
    network.replace("once", chain)
    assert [name for name, _ in network.layers()] == ["once.0", "once.1"]
    assert network.parts == {"once": ("once.0", "once.1")}
    x = torch.randn(4, 6)
    torch.testing.assert_close(network.outputs(x)[0], chain(chain(x).relu()))
    torch.testing.assert_close(source.outputs(x)[0], module(x))


def test_that_changing_a_copy_leaves_the_network_as_it_was() -> None:
    module, network = captured(Vision, IMAGES)
    changed = network.copy()
    with torch.no_grad():
        for value in changed.module.parameters():
            value.zero_()
    changed.replace("head", nn.Linear(4, 2))
    torch.testing.assert_close(network.outputs(*IMAGES)[0], module(*IMAGES))
    assert changed.outputs(*IMAGES)[0].shape == (1, 2)


def test_that_a_skeleton_has_every_shape_and_no_numbers() -> None:
    _, network = captured(Vision, IMAGES)
    skeleton = network.skeleton()
    assert all(value.is_meta for value in skeleton.module.parameters())
    assert not any(value.is_meta for value in network.module.parameters())
    assert skeleton.outputs(*skeleton.example)[0].shape == (1, 10)


def test_that_a_shell_shares_tensors_but_no_hooks_with_its_network() -> None:
    _, network = captured(Vision, IMAGES)
    shell = network.shell()
    heard: list[str] = []
    shell.layer("head").register_forward_hook(lambda *_: heard.append("head"))
    network.outputs(*IMAGES)
    assert heard == []
    torch.testing.assert_close(shell.outputs(*IMAGES), network.outputs(*IMAGES), rtol=0, atol=0)
    assert heard == ["head"]
    assert shell.layer("head").weight is network.layer("head").weight
