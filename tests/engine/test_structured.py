"""Structured matrices: what they are exactly, how near they come, and every file they go into."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from featherweight.engine.applicability import chosen_methods, locks
from featherweight.engine.compression import codings, constrain, restructured
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.inspecting.survey import survey
from featherweight.engine.methods.method import CodingMethod
from featherweight.engine.methods.structure.monarch import Monarch
from featherweight.engine.network import Network, capture
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.results import Export
from featherweight.engine.weight_forms import settle

TAKEN = [
    (nn.Linear(48, 30), torch.randn(2, 5, 48)),
    (nn.Linear(64, 10, bias=False), torch.randn(3, 64)),
    (nn.Conv2d(16, 24, 1, stride=2), torch.randn(2, 16, 7, 7)),
    (nn.Conv2d(12, 16, 3, padding=1, dilation=2), torch.randn(2, 12, 8, 8)),
    (nn.Conv1d(8, 12, 5, stride=3, padding_mode="circular", padding=2), torch.randn(2, 8, 17)),
    (nn.Conv3d(6, 10, 2, bias=False), torch.randn(2, 6, 4, 4, 4)),
]


class Tokens(nn.Module):
    """A linear layer on tokens, and a 1×1 convolution of all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(32, 48)
        self.mix = nn.Conv1d(48, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.mix(self.fc(x).relu().transpose(1, 2))
        return result


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(7)
    return capture(Tokens().eval(), (torch.randn(2, 6, 32),))


def compressed(network: Network, choice: Choice) -> tuple[Network, dict[str, CodingMethod]]:
    coupling = analyse(network)
    locked, method = locks(network, coupling), str(choice.structure and choice.structure.method)
    layers = [name for name in ("fc", "mix") if method not in locked[name]]
    recipe = Recipe(layers=dict.fromkeys(layers, choice))
    chosen = chosen_methods(network, coupling, recipe)
    made = restructured(network, coupling, chosen)
    constrain(made, chosen)
    settle(made)
    return made, codings(made, chosen)


def matrix_of(layer: nn.Module, method: Monarch) -> Tensor:
    """Return the matrix that the layer computes after the method, outputs by inputs."""
    assert isinstance(layer, nn.Linear)
    chain = method.rewritten(layer)
    with torch.no_grad():
        return (
            chain(torch.eye(layer.in_features)).T - chain(torch.zeros(layer.in_features))[:, None]
        )


def linear(matrix: Tensor) -> nn.Linear:
    layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False)
    layer.weight = nn.Parameter(matrix.float())
    return layer


@pytest.mark.parametrize(("layer", "x"), TAKEN)
@pytest.mark.parametrize("keep", [0.3, 0.6])
def test_that_the_blocks_give_the_layers_shape_and_hold_at_most_what_is_kept(
    layer: nn.Module, x: Tensor, keep: float
) -> None:
    chain = Monarch(keep=keep).rewritten(layer)
    held = sum(value.numel() for name, value in chain.named_parameters() if "bias" not in name)
    assert held <= keep * layer.get_parameter("weight").numel()
    assert chain(x).shape == layer(x).shape


@pytest.mark.parametrize(("layer", "_x"), TAKEN)
def test_that_the_skeleton_has_the_shapes_of_the_real_blocks(layer: nn.Module, _x: Tensor) -> None:
    shapes = [
        {name: (value.shape, value.dtype) for name, value in chain.named_parameters()}
        for chain in (Monarch().skeleton(layer), Monarch().rewritten(layer))
    ]
    assert shapes[0] == shapes[1]


def test_that_each_block_is_cut_to_the_nearest_of_its_rank() -> None:
    layer = linear(torch.randn(40, 24))
    made = matrix_of(layer, Monarch(keep=0.34, blocks=4))
    weight = layer.weight.detach()
    for rows, near in zip(weight.chunk(4), made.chunk(4), strict=True):
        for block, found in zip(rows.chunk(4, 1), near.chunk(4, 1), strict=True):
            left, values, right = torch.linalg.svd(block)
            nearest = left[:, :1] * values[0] @ right[:1]
            torch.testing.assert_close(found, nearest, rtol=1e-4, atol=1e-4)


def test_that_the_fourier_matrix_is_recovered_with_its_inputs_in_another_order() -> None:
    steps = torch.arange(16)
    angle = torch.outer(steps, steps) * (2 * torch.pi / 16)
    strided = steps.reshape(4, 4).T.reshape(-1)
    for part in (angle.cos(), angle.sin()):
        layer = linear(part[strided][:, strided])
        made = matrix_of(layer, Monarch(keep=1.0, blocks=4))
        assert float((made - layer.weight.detach()).abs().max()) < 1e-5


@pytest.mark.parametrize(("layer", "x"), TAKEN[2:4])
def test_that_a_convolution_and_a_linear_layer_are_cut_alike(layer: nn.Module, x: Tensor) -> None:
    method = Monarch(keep=0.5, blocks=2)
    made = method.rewritten(layer)(x)
    whole = layer.get_parameter("weight")
    rows = []
    rank = next(method.rewritten(layer).parameters()).shape[0] // 4
    for half in whole.detach().chunk(2):
        blocks = []
        for block in half.chunk(2, 1):
            left, values, right = torch.linalg.svd(block.flatten(1), full_matrices=False)
            near = (left[:, :rank] * values[:rank]) @ right[:rank]
            blocks.append(near.reshape(block.shape))
        rows.append(torch.cat(blocks, 1))
    expected = torch.func.functional_call(layer, {"weight": torch.cat(rows)}, x)
    torch.testing.assert_close(made, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("layer", "word"),
    [
        (nn.Linear(3, 2), "too small"),
        (nn.Linear(257, 131), "evenly"),
        (nn.Conv2d(8, 8, 3, groups=8), "groups"),
        (nn.ConvTranspose2d(8, 8, 2), "transposed"),
        (nn.Embedding(8, 8), "linear layers"),
    ],
)
def test_that_a_layer_without_blocks_is_locked_with_the_reason(layer: nn.Module, word: str) -> None:
    assert word in Monarch.lock(layer)


def test_that_multiplications_are_counted_as_the_weights_that_work(network: Network) -> None:
    made, _ = compressed(network, Choice(structure=Setting("monarch")))
    layer = next(layer for layer in survey(made).layers if layer.kind == "MonarchLinear")
    assert layer.summary == "32 → 48"
    assert layer.macs == 6 * (layer.parameters - 48)


@pytest.mark.parametrize(
    ("structure", "bits"),
    [
        (Setting("monarch"), 4),
        (Setting("circulant", {"block": 5}), 0),
        (Setting("circulant", {"block": 80}), 4),
        (Setting("toeplitz_like"), 0),
    ],
)
def test_that_structured_layers_go_into_every_file_and_back(
    network: Network,
    structure: Setting,
    bits: int,
    tmp_path: Path,
    in_every_file: Callable[..., dict[str, Export]],
) -> None:
    precision = Setting("integer", {"bits": bits}) if bits else None
    made, coders = compressed(network, Choice(structure=structure, precision=precision))
    in_every_file(made, coders, tmp_path, (torch.randn(3, 6, 32),), network)
