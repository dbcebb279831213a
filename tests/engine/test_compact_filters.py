"""1×1 filters, groups and fire modules: planted ones are found, others are near, files hold all."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from featherweight.engine.applicability import chosen_methods
from featherweight.engine.calibrating.patches import rows_of
from featherweight.engine.compact_layers import CentredPlaces
from featherweight.engine.compression import codings, constrain, restructured
from featherweight.engine.evidence import Convolution, Evidence, InputMoments
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.methods.channel_blocks import assigned, best_blocks
from featherweight.engine.methods.method import FactorMethod
from featherweight.engine.methods.structure.fire import Fire
from featherweight.engine.methods.structure.grouped import Grouped
from featherweight.engine.methods.structure.pointwise import Pointwise
from featherweight.engine.network import Network, capture
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.results import Export
from featherweight.engine.weight_forms import settle

Made = Callable[[], Convolution]
CONVOLUTIONS: list[tuple[Made, Tensor]] = [
    (lambda: nn.Conv2d(8, 12, 3, padding=1, stride=2), torch.randn(2, 8, 9, 10)),
    (lambda: nn.Conv2d(8, 12, 3, bias=False), torch.randn(2, 8, 6, 7)),
    (lambda: nn.Conv2d(8, 12, (4, 3), padding=(1, 2), dilation=(1, 2)), torch.randn(2, 8, 9, 8)),
    (lambda: nn.Conv1d(8, 12, 4, padding="same", padding_mode="reflect"), torch.randn(2, 8, 9)),
    (lambda: nn.Conv1d(8, 12, 4, padding=3, padding_mode="circular"), torch.randn(2, 8, 9)),
    (lambda: nn.Conv2d(8, 12, 3, padding=2, stride=2), torch.randn(2, 8, 9, 8)),
    (lambda: nn.Conv3d(8, 12, 2, stride=2), torch.randn(2, 8, 5, 6, 4)),
]
BY_DATA: list[FactorMethod] = [
    Pointwise(metric="outputs"),
    Grouped(groups=4, metric="outputs"),
    Fire(squeeze=0.5, metric="outputs"),
]


def measured(layer: Convolution, x: Tensor) -> dict[str, Evidence]:
    """Return the moments of all patches of an input, exactly."""
    rows = rows_of(layer, x, 10**9, 0)
    block = rows.transpose(1, 2) @ rows / rows.shape[1]
    return {"weight": Evidence(InputMoments(layer.groups, (block,), rows.mean(1)))}


def only_centres(layer: Convolution) -> Convolution:
    """Leave nothing of a kernel but its centre."""
    centre = tuple((size - 1) // 2 for size in layer.kernel_size)
    kernel = torch.zeros_like(layer.weight)
    place = (slice(None), slice(None), *centre)
    kernel[place] = layer.weight.detach()[place]
    layer.weight = nn.Parameter(kernel)
    return layer


@pytest.mark.parametrize(("made", "x"), CONVOLUTIONS)
def test_that_a_kernel_that_is_only_its_centre_becomes_pointwise_exactly(
    made: Made, x: Tensor
) -> None:
    layer = only_centres(made())
    chain = Pointwise().rewritten(layer)
    weight = chain[-1].get_parameter("weight")
    assert weight.numel() == layer.in_channels * layer.out_channels
    torch.testing.assert_close(chain(x), layer(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("made", "x"), CONVOLUTIONS)
@pytest.mark.parametrize("method", [*BY_DATA, Pointwise(taps="sum")])
def test_that_shapes_are_those_of_the_layer_and_of_the_skeleton(
    made: Made, x: Tensor, method: FactorMethod
) -> None:
    layer = made()
    chain = method.rewritten(layer)
    assert chain(x).shape == layer(x).shape
    tensors = [
        {name: (value.shape, value.dtype) for name, value in each.state_dict().items()}
        for each in (method.skeleton(layer), chain)
    ]
    assert tensors[0] == tensors[1]


def test_that_the_sum_of_taps_is_right_for_inputs_that_are_all_alike() -> None:
    layer = nn.Conv2d(4, 6, 3)
    x = torch.randn(2, 4, 1, 1).expand(2, 4, 5, 5)
    torch.testing.assert_close(Pointwise(taps="sum").rewritten(layer)(x), layer(x))


@pytest.mark.parametrize("bias", [True, False])
def test_that_pointwise_by_outputs_is_the_least_squares_answer(bias: bool) -> None:
    torch.manual_seed(5)
    layer = nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=bias)
    x = nn.functional.avg_pool2d(torch.randn(8, 4, 14, 14) + 0.5, 3, 1)
    chain = Pointwise(metric="outputs").informed(layer, measured(layer, x))
    with torch.no_grad():
        made, wanted = chain(x), layer(x)
    for half in (slice(0, 2), slice(2, 4)):
        outputs = slice(3 * half.start // 2, 3 * half.stop // 2)
        seen = x[:, half].movedim(1, 3).flatten(0, 2).double()
        seen = torch.cat([seen, torch.ones(len(seen), 1)], 1) if bias else seen
        target = wanted[:, outputs].movedim(1, 3).flatten(0, 2).double()
        best = seen @ torch.linalg.lstsq(seen, target).solution
        near = made[:, outputs].movedim(1, 3).flatten(0, 2).double()
        torch.testing.assert_close(near, best, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", BY_DATA)
@pytest.mark.parametrize("bias", [True, False])
def test_that_evidence_brings_the_outputs_nearer(method: FactorMethod, bias: bool) -> None:
    torch.manual_seed(5)
    layer = nn.Conv2d(16, 24, 3, padding=1, bias=bias)
    mixed = torch.einsum("oc,nchw->nohw", torch.randn(16, 16).tril(), torch.randn(4, 16, 12, 12))
    x = nn.functional.avg_pool2d(mixed, 3, 1) + 0.3
    with torch.no_grad():
        plain, near = (
            float((chain(x) - layer(x)).square().mean())
            for chain in (method.rewritten(layer), method.informed(layer, measured(layer, x)))
        )
    assert method.needs() == {"moments"}
    assert near < 0.8 * plain


def with_hidden_blocks(layer: nn.Module, groups: int, blocks: int) -> nn.Module:
    """Leave of each group of a layer nothing but blocks between channels in a random order."""
    weight = layer.get_parameter("weight")
    kept = torch.zeros_like(weight)
    for group in range(groups):
        start = group * (len(weight) // groups)
        outputs = start + torch.randperm(len(weight) // groups)
        for rows, columns in zip(
            outputs.chunk(blocks), torch.randperm(weight.shape[1]).chunk(blocks), strict=True
        ):
            kept[rows[:, None], columns] = weight.detach()[rows[:, None], columns]
    layer.register_parameter("weight", nn.Parameter(kept))
    return layer


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    ("made", "x", "blocks"),
    [
        (lambda: nn.Conv2d(24, 36, 3, padding=1), torch.randn(2, 24, 5, 5), 4),
        (lambda: nn.Conv2d(24, 24, 3, groups=2, bias=False), torch.randn(2, 24, 5, 5), 3),
        (lambda: nn.Conv1d(32, 16, 3, stride=2), torch.randn(2, 32, 9), 8),
        (lambda: nn.Linear(40, 64), torch.randn(3, 2, 40), 4),
    ],
)
def test_that_hidden_blocks_are_found(
    made: Callable[[], nn.Module], x: Tensor, blocks: int, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = made()
    layer = with_hidden_blocks(layer, getattr(layer, "groups", 1), blocks)
    chain = Grouped(groups=blocks).rewritten(layer)
    held = chain[1].get_parameter("weight").numel()
    assert held * blocks == layer.get_parameter("weight").numel()
    torch.testing.assert_close(chain(x), layer(x), rtol=1e-4, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(1, 6), st.integers(0, 2**31))
def test_that_channels_are_shared_out_about_as_well_as_can_be(
    blocks: int, each: int, seed: int
) -> None:
    gains = torch.rand(blocks * each, blocks, generator=torch.Generator().manual_seed(seed))
    found = assigned(gains)
    assert found.bincount(minlength=blocks).tolist() == [each] * blocks
    rows, places = linear_sum_assignment(gains.repeat_interleave(each, 1), maximize=True)
    best = float(gains[rows, torch.from_numpy(places) // each].sum())
    held = float(gains.gather(1, found[:, None]).sum())
    assert held >= best * (1 - 1e-5) if blocks == 2 else held >= 0.8 * best


def test_that_blocks_hold_more_than_the_channels_as_they_stand() -> None:
    torch.manual_seed(5)
    energies = torch.randn(24, 32, dtype=torch.float64).square()
    blocks = best_blocks(energies, 4)
    pairs = zip(blocks.outputs, blocks.inputs, strict=True)
    held = sum(float(energies[rows[:, None], columns].sum()) for rows, columns in pairs)
    standing = sum(
        float(energies[6 * at : 6 * at + 6, 8 * at : 8 * at + 8].sum()) for at in range(4)
    )
    assert held > 1.2 * standing


@pytest.mark.parametrize("seed", range(10))
def test_that_a_planted_fire_module_is_found(seed: int) -> None:
    torch.manual_seed(seed)
    layer = nn.Conv2d(12, 20, 3, padding=1, stride=2)
    squeeze, kernels = torch.randn(4, 12), torch.randn(20, 4, 3, 3)
    narrow = torch.randperm(20)[:12]
    centres = kernels[narrow, :, 1, 1]
    kernels[narrow] = 0.0
    kernels[narrow, :, 1, 1] = centres
    layer.weight = nn.Parameter(torch.einsum("nshw,sc->nchw", kernels, squeeze))
    chain = Fire(squeeze=1 / 3, share=0.4).rewritten(layer)
    shapes = [tuple(value.shape) for value in chain.parameters() if value.ndim > 1]
    assert shapes == [(4, 12, 1, 1), (12, 4), (8, 4, 3, 3)]
    x = torch.randn(2, 12, 7, 7)
    torch.testing.assert_close(chain(x), layer(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("squeeze", [0.01, 0.4, 1.0])
@pytest.mark.parametrize("share", [0.05, 0.95])
def test_that_a_fire_module_holds_fewer_weights_than_the_layer(
    squeeze: float, share: float
) -> None:
    for layer in (nn.Conv2d(16, 6, 3), nn.Conv2d(64, 2, 3), nn.Conv2d(2, 64, 3)):
        chain = Fire(squeeze=squeeze, share=share).rewritten(layer)
        held = sum(value.numel() for value in chain.parameters() if value.ndim > 1)
        assert held < layer.weight.numel()


@pytest.mark.parametrize(
    ("kind", "layer", "word"),
    [
        (Pointwise, nn.Conv2d(8, 8, 1), "1×1 already"),
        (Pointwise, nn.ConvTranspose2d(8, 8, 3), "transposed"),
        (Pointwise, nn.Linear(8, 8), "for convolutions"),
        (Grouped, nn.Conv2d(8, 8, 3, groups=8), "one channel already"),
        (Grouped, nn.Conv2d(8, 9, 3), "no equal groups"),
        (Grouped, nn.Linear(131, 131), "no equal groups"),
        (Grouped, nn.ConvTranspose2d(8, 8, 3), "transposed"),
        (Grouped, nn.Embedding(8, 8), "linear layers"),
        (Fire, nn.Conv2d(8, 8, 1), "nothing to expand"),
        (Fire, nn.Conv2d(8, 8, 3, groups=2), "in groups"),
        (Fire, nn.Conv2d(8, 1, 3), "too small"),
        (Fire, nn.ConvTranspose2d(8, 8, 3), "transposed"),
        (Fire, nn.Linear(8, 8), "for convolutions"),
    ],
)
def test_that_a_layer_that_gains_nothing_is_locked_with_the_reason(
    kind: type[FactorMethod], layer: nn.Module, word: str
) -> None:
    assert word in kind.lock(layer)


def test_that_groups_that_fit_no_channels_are_taken_as_near_as_they_do() -> None:
    for groups, layer, held in (
        (4, nn.Linear(12, 18), 72),
        (4, nn.Linear(25, 15), 75),
        (64, nn.Linear(64, 32), 64),
    ):
        chain = Grouped(groups=groups).skeleton(layer)
        assert chain[1].get_parameter("weight").numel() == held


class Small(nn.Module):
    """Convolutions whose kernels see to the borders or not, with a norm, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3)
        self.norm = nn.BatchNorm2d(16)
        self.conv1 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(16, 24, 3)
        self.conv3 = nn.Conv2d(24, 16, 3, padding=1)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(self.norm(self.stem(x)).relu()).relu()
        result: Tensor = self.fc(self.conv3(self.conv2(x).relu()).mean((2, 3)))
        return result


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(3)
    return capture(Small().eval(), (torch.randn(2, 3, 8, 8),))


def test_that_compact_filters_go_into_every_file_and_back(
    network: Network, tmp_path: Path, in_every_file: Callable[..., dict[str, Export]]
) -> None:
    integers = Setting("integer", {"bits": 4})
    recipe = Recipe(
        layers={
            "stem": Choice(structure=Setting("pointwise"), precision=integers),
            "conv1": Choice(structure=Setting("grouped")),
            "conv2": Choice(structure=Setting("fire"), precision=integers),
            "conv3": Choice(structure=Setting("fire"), sparsity=Setting("magnitude")),
            "fc": Choice(structure=Setting("grouped", {"groups": 2}), precision=integers),
        }
    )
    coupling = analyse(network)
    chosen = chosen_methods(network, coupling, recipe)
    made = restructured(network, coupling, chosen)
    assert isinstance(made.layer("stem.0"), CentredPlaces)
    constrain(made, chosen)
    settle(made)
    inputs = torch.randn(3, 3, 8, 8)
    in_every_file(made, codings(made, chosen), tmp_path, (inputs,), network)
