"""Convolutions with a structured matrix on every tap: exact, small, and the same in every file."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from featherweight.engine.applicability import chosen_methods
from featherweight.engine.compression import codings, constrain, restructured
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.inspecting.survey import survey
from featherweight.engine.matrix_convolutions import CirculantConvolution
from featherweight.engine.methods.method import FactorMethod
from featherweight.engine.methods.structure.best_structure import BestStructure
from featherweight.engine.methods.structure.circulant import Circulant
from featherweight.engine.methods.structure.toeplitz_like import ToeplitzLike
from featherweight.engine.network import capture
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.results import Export
from featherweight.engine.weight_forms import settle

TAKEN = [
    (nn.Conv2d(12, 20, 1, stride=2), torch.randn(2, 12, 7, 7)),
    (nn.Conv2d(20, 12, 3, padding=1, bias=False), torch.randn(2, 20, 8, 8)),
    (nn.Conv2d(16, 16, (3, 1), dilation=2, padding="same"), torch.randn(2, 16, 8, 8)),
    (nn.Conv1d(8, 18, 5, stride=3, padding=2, padding_mode="circular"), torch.randn(2, 8, 17)),
    (nn.Conv3d(6, 10, 2), torch.randn(2, 6, 4, 4, 4)),
]
METHODS: list[FactorMethod] = [Circulant(block=4), Circulant(block=7), ToeplitzLike(rank=1)]


def matrices_of(method: FactorMethod, layer: nn.Module) -> list[Tensor]:
    """Return what the method makes of each tap of a kernel seen as a linear layer."""
    made = []
    for tap in layer.get_parameter("weight").detach().flatten(2).unbind(2):
        linear = nn.Linear(tap.shape[1], tap.shape[0], bias=False)
        linear.weight = nn.Parameter(tap.contiguous())
        made.append(method.rewritten(linear)(torch.eye(tap.shape[1])).T.detach())
    return made


@pytest.mark.parametrize(("layer", "x"), TAKEN)
@pytest.mark.parametrize("method", METHODS)
def test_that_every_tap_becomes_what_a_linear_layer_of_it_would(
    layer: nn.Module, x: Tensor, method: FactorMethod
) -> None:
    assert method.lock(layer) == ""
    weight = layer.get_parameter("weight")
    kernel = torch.stack(matrices_of(method, layer), 2).reshape(weight.shape)
    expected = torch.func.functional_call(layer, {"weight": kernel}, x)
    chain = method.rewritten(layer)
    torch.testing.assert_close(chain(x), expected, rtol=1e-4, atol=1e-5)
    held = sum(value.numel() for name, value in chain.named_parameters() if "bias" not in name)
    assert held < weight.numel()
    skeleton = {name: value.shape for name, value in method.skeleton(layer).named_parameters()}
    assert skeleton == {name: value.shape for name, value in chain.named_parameters()}


@settings(max_examples=10, deadline=None)
@given(st.integers(8, 20), st.integers(8, 20), st.sampled_from([4, 5, 8]))
def test_that_planted_circulant_taps_are_recovered_exactly(
    outputs: int, inputs: int, side: int
) -> None:
    torch.manual_seed(outputs * 21 + inputs)
    planted = CirculantConvolution(inputs, outputs, (3, 3), side, bias=False)
    planted.vectors = nn.Parameter(torch.randn_like(planted.vectors))
    layer = nn.Conv2d(inputs, outputs, 3, bias=False)
    layer.weight = nn.Parameter(planted.kernel({"vectors": planted.vectors.detach()}))
    x = torch.randn(2, inputs, 5, 5)
    made = Circulant(block=side).rewritten(layer)
    torch.testing.assert_close(made(x), planted(x), rtol=1e-4, atol=1e-4)


def test_that_the_search_finds_circulant_taps_in_noise() -> None:
    for seed in range(10):
        torch.manual_seed(seed)
        planted = CirculantConvolution(16, 16, (3, 3), 8, bias=False)
        kernel = planted.kernel({"vectors": torch.randn_like(planted.vectors)})
        layer = nn.Conv2d(16, 16, 3)
        layer.weight = nn.Parameter(kernel + 0.01 * kernel.std() * torch.randn_like(kernel))
        found = BestStructure(keep=0.25).resolved(layer)
        assert isinstance(found, Circulant)
        assert found.block == 8


@pytest.mark.parametrize("kind", [Circulant, ToeplitzLike])
@pytest.mark.parametrize(
    ("layer", "word"),
    [
        (nn.Conv2d(8, 8, 3, groups=2), "groups"),
        (nn.ConvTranspose2d(8, 8, 3), "linear layers and convolutions"),
        (nn.Conv2d(1, 8, 3), "too small"),
    ],
)
def test_that_convolutions_it_cannot_take_are_locked_with_the_reason(
    kind: type[FactorMethod], layer: nn.Module, word: str
) -> None:
    assert word in kind.lock(layer)


@pytest.mark.parametrize(
    ("structure", "bits", "share"),
    [
        (Setting("circulant", {"block": 8}), 0, 8),
        (Setting("circulant", {"block": 5}), 4, 5),
        (Setting("toeplitz_like", {"rank": 2}), 0, 6),
    ],
)
def test_that_such_convolutions_go_into_every_file_small_and_back(
    structure: Setting,
    bits: int,
    share: float,
    tmp_path: Path,
    in_every_file: Callable[..., dict[str, Export]],
) -> None:
    torch.manual_seed(5)
    module = nn.Sequential(
        nn.Conv2d(3, 48, 1), nn.Conv2d(48, 48, 3, 2, 1), nn.ReLU(), nn.Conv2d(48, 24, 1)
    )
    network = capture(module.eval(), (torch.randn(2, 3, 6, 6),))
    names = [name for name, layer in network.layers() if layer.in_channels == 48]
    precision = Setting("integer", {"bits": bits}) if bits else None
    choice, coupling = Choice(structure=structure, precision=precision), analyse(network)
    chosen = chosen_methods(network, coupling, Recipe(layers=dict.fromkeys(names, choice)))
    made = restructured(network, coupling, chosen)
    constrain(made, chosen)
    settle(made)
    wide = next(one for one in survey(made).layers if one.kind.endswith("Convolution"))
    assert wide.macs == 3 * 3 * 9 * 48 * 48
    x = torch.randn(3, 3, 6, 6)
    exports = in_every_file(made, codings(made, chosen), tmp_path, (x,), network)
    dense = 4 * (48 * 48 * 9 + 48 * 24)
    assert exports["onnx"].checks["bytes"].value < 1.2 * dense / share + 9_000
