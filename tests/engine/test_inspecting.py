"""What a survey says of whole networks, against torch's own counter and counting by hand."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from featherweight.engine.inspecting.survey import FUNCTIONS_KIND, layers_of, survey
from featherweight.engine.layer import Layer
from featherweight.engine.methods.method import FactorMethod
from featherweight.engine.methods.structure.svd import Svd
from featherweight.engine.methods.structure.tucker import Tucker
from featherweight.engine.network import Network, Origin, capture
from featherweight.engine.weight_forms import CompactLayer, WeightForm


class Residual(nn.Module):
    """Convolutions of several kinds, a shared one, norms, a residual sum and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.shared = nn.Conv2d(8, 8, (1, 3), padding=(0, 1))
        self.up = nn.ConvTranspose2d(8, 4, 2, 2)
        self.fc = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images."""
        x = functional.relu(self.norm(self.stem(x)))
        x = x + self.depthwise(x)
        x = self.shared(functional.relu(self.shared(x)))
        return self.fc(self.up(x).mean((2, 3)))


class Mixing(nn.Module):
    """Attention, loose parameters, and products of functions."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 8)
        self.places = nn.Parameter(torch.zeros(1, 5, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.mix = nn.Parameter(torch.randn(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        """Mix tokens."""
        x = self.embed(x) + self.places
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return torch.einsum("btw,wk->btk", x, self.mix)


class Tied(nn.Module):
    """A language model whose output layer is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Predict tokens."""
        return self.head(self.norm(self.embed(tokens)))


def captured(module: nn.Module, *example: Tensor) -> Network:
    """Capture a module that can be captured."""
    network = capture(module, example)
    assert not network.graph_lock
    return network


def by_name(network: Network) -> dict[str, Layer]:
    """Return the layers of a network by name."""
    return {layer.name: layer for layer in layers_of(network)}


@pytest.mark.parametrize(
    ("module", "example"),
    [(Residual(), torch.randn(3, 3, 12, 12)), (Mixing(), torch.randn(3, 5, 6))],
)
def test_that_a_whole_network_counts_as_torch_counts_it(module: nn.Module, example: Tensor) -> None:
    module.eval()
    # torch's counter knows attention only as the matrix products that it stands for.
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        fast_path = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        with FlopCounterMode(display=False) as counter:
            module(example)
        torch.backends.mha.set_fastpath_enabled(fast_path)
    summary = survey(captured(module, example))
    assert summary.macs * 2 * len(example) == counter.get_total_flops()
    assert summary.macs == sum(layer.macs or 0 for layer in summary.layers)
    assert summary.uncounted == ()


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_that_counts_are_for_one_sample_whatever_the_batch(batch: int) -> None:
    layers = by_name(captured(Residual(), torch.randn(batch, 3, 12, 12)))
    assert layers["stem"].macs == 8 * 36 * 27
    assert layers["stem"].activations == 8 * 36
    assert layers["up"].activations == 4 * 144
    assert layers["stem"].input_shape == (batch, 3, 12, 12)
    assert layers["stem"].output_shape == (batch, 8, 6, 6)


def test_that_layers_stand_in_the_order_of_their_calls_with_their_settings() -> None:
    layers = layers_of(captured(Residual(), torch.randn(2, 3, 12, 12)))
    assert [(layer.name, layer.kind, layer.summary) for layer in layers] == [
        ("stem", "Conv2d", "3×3, 3 → 8, stride 2"),
        ("norm", "BatchNorm2d", "8 channels"),
        ("depthwise", "Conv2d", "3×3, 8 → 8, depthwise"),
        ("shared", "Conv2d", "1×3, 8 → 8"),
        ("up", "ConvTranspose2d", "2×2, 8 → 4, stride 2"),
        ("fc", "Linear", "4 → 10"),
    ]
    assert layers[0].weights == {"weight": (8, 3, 3, 3)}
    assert layers[-1].parameters == 50


def test_that_a_layer_called_twice_counts_twice() -> None:
    shared = by_name(captured(Residual(), torch.randn(2, 3, 12, 12)))["shared"]
    assert shared.calls == 2
    assert shared.macs == 2 * 8 * 36 * 24
    assert shared.parameters == 8 * 24 + 8


def test_that_shared_tensors_count_once_in_the_whole() -> None:
    summary = survey(captured(Tied(), torch.zeros(2, 7, dtype=torch.long)))
    assert summary.parameters == 160 + 16
    assert sum(layer.parameters for layer in summary.layers) == 160 + 16 + 160
    assert summary.macs == 7 * 8 * 20


def test_that_what_no_layer_holds_or_computes_is_listed() -> None:
    layers = by_name(captured(Mixing(), torch.randn(2, 5, 6)))
    loose, attention = layers["(functions)"], layers["attention.(functions)"]
    assert loose.kind == attention.kind == FUNCTIONS_KIND
    assert loose.weights == {"places": (1, 5, 8), "mix": (8, 4)}
    assert loose.parameters == 40 + 32
    assert loose.macs == 5 * 8 * 4
    assert attention.macs == 5 * 5 * 8 * 2
    assert attention.summary == "1 attention"


def test_that_operations_nobody_can_count_are_named_with_their_place() -> None:
    class Spectral(nn.Module):
        """A layer, then a Fourier transform."""

        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.rfft(self.fc(x)).real

    summary = survey(captured(Spectral(), torch.randn(2, 4)))
    assert summary.uncounted == ("_fft_r2c in the network itself",)
    assert [layer.macs for layer in summary.layers] == [16, None]


@pytest.mark.parametrize(
    ("module", "example"),
    [(Residual(), torch.randn(3, 3, 12, 12)), (Mixing(), torch.randn(3, 5, 6))],
)
def test_that_a_network_without_a_graph_counts_the_same(module: nn.Module, example: Tensor) -> None:
    module.eval()
    without = survey(Network(module, (example,), graph_lock="it branches on data"))
    graph = survey(captured(module, example))
    assert without.macs == graph.macs
    assert without.parameters == graph.parameters
    assert without.output_shapes == graph.output_shapes
    assert without.graph_lock == "it branches on data"


def test_that_a_survey_leaves_the_network_as_it_was() -> None:
    network = captured(Residual(), torch.randn(2, 3, 12, 12))
    network.layer("norm").train()
    before = {name: value.clone() for name, value in network.module.state_dict().items()}
    for kind in (network, Network(Residual(), network.example, graph_lock="none")):
        training = [part.training for part in kind.module.modules()]
        survey(kind)
        assert [part.training for part in kind.module.modules()] == training
        assert not any(part._forward_hooks for part in kind.module.modules())
        assert not any(part._forward_pre_hooks for part in kind.module.modules())
    after = network.module.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize(("name", "method"), [("stem", Tucker()), ("fc", Svd())])
def test_that_a_skeleton_without_numbers_counts_as_the_real_layer(
    name: str, method: FactorMethod
) -> None:
    network = captured(Residual(), torch.randn(2, 3, 12, 12))
    shape, real = network.copy(), network.copy()
    shape.replace(name, method.skeleton(network.layer(name)))
    real.replace(name, method.rewritten(network.layer(name)))
    assert layers_of(shape) == layers_of(real)
    assert survey(shape).macs == survey(real).macs < survey(network).macs
    assert f"{name}.0" in by_name(real)


class Unpacked(WeightForm):
    """A weight whose decoding needs its numbers."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__(tuple(weight.shape))
        self.register_buffer("packed", weight)

    def forward(self) -> Tensor:
        """Return the weight."""
        return torch.from_numpy(self.get_buffer("packed").numpy().copy())


def test_that_a_layer_in_another_form_counts_as_the_layer_it_runs_like() -> None:
    network = captured(Residual(), torch.randn(2, 3, 12, 12))
    plain, layer = survey(network), network.layer("stem")
    form = Unpacked(layer.get_parameter("weight").detach())
    network.replace("stem", CompactLayer(layer, {"weight": form}))
    compact = survey(network)
    assert compact.layers == plain.layers
    assert (compact.parameters, compact.macs) == (plain.parameters, plain.macs)


def test_that_the_summary_tells_the_file_and_the_shapes(tmp_path: Path) -> None:
    path = tmp_path / "network.pt"
    path.write_bytes(b"x" * 321)
    origin = Origin(str(path), "pickle")
    summary = survey(capture(Residual(), (torch.randn(1, 3, 12, 12),), origin))
    assert (summary.path, summary.format, summary.file_bytes) == (str(path), "pickle", 321)
    assert summary.input_shapes == ((1, 3, 12, 12),)
    assert summary.output_shapes == ((1, 10),)


def test_that_a_recurrent_layer_counts_every_step() -> None:
    class Reader(nn.Module):
        """An LSTM over a sequence."""

        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(5, 6, num_layers=2, bidirectional=True, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.lstm(x)[0]

    layer = by_name(captured(Reader(), torch.randn(3, 9, 5)))["lstm"]
    assert layer.macs == 9 * 2 * (24 * 11 + 24 * 18)
    assert layer.summary == "5 → 6, 2 layers, both directions"
    assert layer.output_shape == (3, 9, 12)
