"""Filters of moved prototypes: what they are exactly, how near they come, and their files."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from featherweight.engine.applicability import Chosen
from featherweight.engine.bit_packing import packed
from featherweight.engine.compression import constrain
from featherweight.engine.methods.method import FactorMethod
from featherweight.engine.methods.precision.integer import Integer
from featherweight.engine.methods.structure.doubly_convolutional import DoublyConvolutional
from featherweight.engine.methods.structure.rotations import Rotations
from featherweight.engine.methods.structure.translations import Translations
from featherweight.engine.network import Network, capture
from featherweight.engine.results import Export
from featherweight.engine.transformed_layers import (
    DoublyConvolution,
    RotatedConvolution,
    ShiftedConvolution,
    TransformedConvolution,
)
from featherweight.engine.weight_forms import settle
from featherweight.engine.writing.archive import write_archive

METHODS: list[FactorMethod] = [
    DoublyConvolutional(),
    DoublyConvolutional(margin=2),
    Rotations(),
    Rotations(units="filters", group="C4"),
    Rotations(units="tied"),
    Translations(),
    Translations(cut=False, copies=2),
    Translations(resized=True, shift=2),
]
TAKEN = [
    (nn.Conv2d(6, 8, 3, stride=2, padding=1), torch.randn(2, 6, 9, 9)),
    (nn.Conv2d(6, 12, 3, padding="same", dilation=2, bias=False), torch.randn(2, 6, 8, 8)),
    (nn.Conv2d(12, 12, 5, groups=3, padding=2, padding_mode="reflect"), torch.randn(2, 12, 8, 8)),
    (nn.Conv2d(24, 24, 3, groups=24), torch.randn(2, 24, 5, 5)),
    (nn.Conv1d(5, 9, 5, stride=3, padding=2, padding_mode="circular"), torch.randn(2, 5, 17)),
    (nn.Conv3d(3, 8, 3, padding=1, bias=False), torch.randn(2, 3, 4, 4, 4)),
    (nn.Conv2d(5, 9, (1, 3)), torch.randn(2, 5, 6, 6)),
]


def kernel_of(layer: TransformedConvolution) -> Tensor:
    held = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
    return layer.kernel(held)


def made_by(method: FactorMethod, layer: nn.Module) -> TransformedConvolution:
    made = method.rewritten(layer)[0]
    assert isinstance(made, TransformedConvolution)
    return made


def planted(layer: TransformedConvolution, codes: Tensor | None = None) -> TransformedConvolution:
    """Give a layer numbers of its own and, where it has a table, codes."""
    layer.prototypes = nn.Parameter(torch.randn_like(layer.prototypes))
    if layer.scaled:
        layer.scales = nn.Parameter(torch.rand_like(layer.scales) + 0.5)
    if codes is not None:
        layer.codes = torch.from_numpy(packed(codes.numpy(), layer.bits))
    return layer


def convolution(kernel: Tensor) -> nn.Module:
    """Return a convolution that has been trained to a kernel."""
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[kernel.ndim - 3]
    layer = kind(kernel.shape[1], kernel.shape[0], tuple(kernel.shape[2:]), bias=False)
    layer.weight = nn.Parameter(kernel.detach().clone())
    return layer


def lost(method: FactorMethod, layer: nn.Module) -> float:
    made = kernel_of(made_by(method, layer))
    return float((made - layer.get_parameter("weight")).detach().abs().max())


def held_bits(layer: nn.Module) -> int:
    tensors = [*layer.named_parameters(), *layer.named_buffers()]
    return sum(8 * value.nbytes for name, value in tensors if name != "bias")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("layer", "x"), TAKEN)
def test_that_every_convolution_that_is_taken_computes_with_the_kernel_of_its_prototypes(
    method: FactorMethod, layer: nn.Module, x: Tensor
) -> None:
    if method.lock(layer):
        assert not isinstance(layer, nn.Conv2d) or layer.kernel_size != (3, 3)
        return
    chain = method.rewritten(layer)
    made = chain[0]
    assert isinstance(made, TransformedConvolution)
    assert held_bits(made) < held_bits(layer)
    expected = torch.func.functional_call(layer, {"weight": kernel_of(made)}, x)
    torch.testing.assert_close(chain(x), expected)
    shapes = [
        {name: (value.shape, value.dtype) for name, value in each.state_dict().items()}
        for each in (method.skeleton(layer), chain)
    ]
    assert shapes[0] == shapes[1]


@settings(max_examples=20, deadline=None)
@given(st.integers(4, 40), st.integers(1, 12), st.sampled_from([2, 3, 5]), st.floats(0.05, 1.0))
def test_that_all_stand_ins_together_take_no_more_than_the_share_that_is_kept(
    outputs: int, inputs: int, side: int, keep: float
) -> None:
    layer = nn.Conv2d(inputs, outputs, side)
    whole = held_bits(layer)
    for method in (DoublyConvolutional(keep=keep), Rotations(keep=keep)):
        if not method.lock(layer):
            made = method.skeleton(layer)[0]
            assert isinstance(made, TransformedConvolution)
            assert held_bits(made) <= keep * whole or made.count == 1


@pytest.mark.parametrize("kernel", [(3,), (3, 3), (2, 4), (2, 2, 2)])
@pytest.mark.parametrize("margin", [1, 2])
def test_that_overlapping_crops_are_found_again_in_any_order(
    kernel: tuple[int, ...], margin: int
) -> None:
    torch.manual_seed(margin)
    ways = (margin + 1) ** len(kernel)
    layer = DoublyConvolution(6, 3 * ways, kernel, 3, margin=margin)
    weight = kernel_of(planted(layer, torch.randperm(3 * ways)))
    method = DoublyConvolutional(
        keep=1.02 * held_bits(layer) / (32 * weight.numel()), margin=margin
    )
    assert lost(method, convolution(weight)) < 1e-5


def test_that_filters_are_the_crops_that_their_codes_name() -> None:
    codes = torch.tensor([0, 5, 3, 6, 7])
    layer = planted(DoublyConvolution(2, 5, (3, 2), 2), codes)
    large = layer.prototypes.detach().reshape(2, 2, 4, 3)
    for unit, code in enumerate(codes.tolist()):
        down, right = divmod(code % 4, 2)
        expected = large[code // 4, :, down : down + 3, right : right + 2]
        assert torch.equal(kernel_of(layer)[unit], expected)


def test_that_the_gradient_of_a_larger_filter_is_the_sum_over_its_crops() -> None:
    layer, x = (
        planted(DoublyConvolution(3, 8, (3, 3), 2), torch.randperm(8)),
        torch.randn(2, 3, 6, 6),
    )
    layer(x).square().sum().backward()
    weight = kernel_of(layer).detach().requires_grad_()
    nn.functional.conv2d(x, weight, layer.bias).square().sum().backward()
    assert weight.grad is not None
    assert layer.prototypes.grad is not None
    expected = torch.zeros(2, 3, 4, 4)
    order = layer._chosen(layer.codes)
    for unit, code in enumerate(order.tolist()):
        down, right = divmod(code % 4, 2)
        expected[code // 4, :, down : down + 3, right : right + 3] += weight.grad[unit]
    torch.testing.assert_close(layer.prototypes.grad.reshape(expected.shape), expected)


@pytest.mark.parametrize("group", ["C4", "D4"])
@pytest.mark.parametrize("units", ["slices", "filters", "tied"])
def test_that_orbits_of_turns_are_found_again(group: str, units: str) -> None:
    torch.manual_seed(1)
    count = {"C4": 8, "D4": 4}[group] if units == "tied" else 4
    layer = RotatedConvolution(6, 32, (3, 3), count, group=group, units_are=units)
    drawn = None if layer.ordered else torch.randint(0, 4 * layer.ways, (layer.units,))
    weight = kernel_of(planted(layer, drawn))
    method = Rotations(keep=0.25, group=group, units=units)  # type: ignore[arg-type]
    assert lost(method, convolution(weight)) < 1e-5


def test_that_units_are_turned_mirrored_and_scaled_as_their_codes_name() -> None:
    layer = RotatedConvolution(3, 2, (4, 4), 2, group="D4", units_are="filters")
    planted(layer, torch.tensor([3, 8 + 6]))
    first, second = layer.prototypes.detach().reshape(2, 3, 4, 4)
    factors = layer.scales.detach()
    assert torch.equal(kernel_of(layer)[0], first.rot90(3, (1, 2)) * factors[0])
    assert torch.equal(kernel_of(layer)[1], second.flip(2).rot90(2, (1, 2)) * factors[1])


@pytest.mark.parametrize("side", [3, 4])
def test_that_the_outputs_of_tied_filters_turn_with_the_inputs(side: int) -> None:
    weight = torch.randn(16, 3, side, side)
    layer = made_by(Rotations(group="C4", units="tied"), convolution(weight)).double()
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    with torch.no_grad():
        turned, expected = layer(x.rot90(1, (2, 3))), layer(x).rot90(1, (2, 3)).roll(4, 1)
    assert float((turned - expected).abs().max()) < 1e-6


@pytest.mark.parametrize("kernel", [(5,), (3, 3), (5, 5), (3, 3, 3)])
@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize("shift", [1, 2])
def test_that_shifted_copies_are_found_again(
    kernel: tuple[int, ...], cut: bool, shift: int
) -> None:
    torch.manual_seed(shift)
    layer = ShiftedConvolution(8, 32, kernel, 8, shift=shift, cut=cut)
    # Where shifts cut, what is whole is the copy in the middle.
    middle = torch.arange(8) * layer.ways + layer.ways // 2
    codes = torch.cat([middle, torch.randint(0, 8 * layer.ways, (24,))])
    weight = kernel_of(planted(layer, codes[torch.randperm(32)]))
    assert lost(Translations(shift=shift, cut=cut), convolution(weight)) < 1e-5


def test_that_copies_lie_where_their_codes_name_with_zeros_behind() -> None:
    cut, inside = (
        planted(ShiftedConvolution(2, 9, (3, 3), 1, cut=cut), torch.arange(9) % ways)
        for cut, ways in ((True, 9), (False, 4))
    )
    whole, small = cut.prototypes.detach().reshape(2, 3, 3), inside.prototypes.detach()
    for unit, (down, right) in enumerate(product(range(3), range(3))):
        wide = nn.functional.pad(whole, (1, 1, 1, 1))[:, down : down + 3, right : right + 3]
        assert torch.equal(kernel_of(cut)[unit], wide * cut.scales[unit])
    for unit, (down, right) in enumerate(product(range(2), range(2))):
        placed = nn.functional.pad(small.reshape(2, 2, 2), (1 - right, right, 1 - down, down))
        assert torch.equal(kernel_of(inside)[unit], placed * inside.scales[unit])


def test_that_resized_copies_are_interpolated_about_the_centre() -> None:
    layer = planted(ShiftedConvolution(1, 3, (3,), 1, resized=True), torch.tensor([1, 4, 7]))
    layer.prototypes = nn.Parameter(torch.tensor([[[4.0, 1.0, 2.0]]]))
    layer.scales = nn.Parameter(torch.ones(3))
    # Half as large, each place reads two to either side; larger, two thirds of one.
    half, larger = [2.0, 1 + 3.0, 1.0], [2 / 3 * 4 + 1 / 3, 1.0, 2 / 3 * 2 + 1 / 3]
    expected = torch.tensor([[4.0, 1.0, 2.0], half, larger])
    torch.testing.assert_close(kernel_of(layer)[:, 0], expected)


@pytest.mark.parametrize("copies", [2, 4, 8])
def test_that_the_file_shrinks_by_the_number_of_copies(copies: int, tmp_path: Path) -> None:
    network = capture(nn.Sequential(nn.Conv2d(64, 64, 3, bias=False)), (torch.randn(1, 64, 5, 5),))
    before = write_archive(network, {}, tmp_path / "before.fwz").of_layer("0")
    network.replace("0", Translations(copies=copies).rewritten(dict(network.layers())["0"]))
    after = write_archive(network, {}, tmp_path / "after.fwz").of_layer("0.0")
    assert before / after == pytest.approx(copies, rel=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_that_no_factor_and_no_other_prototype_comes_nearer(method: FactorMethod) -> None:
    torch.manual_seed(4)
    layer = nn.Conv2d(4, 24, 3, bias=False)
    made = made_by(method, layer)
    if made.ordered:
        return
    units = layer.weight.detach().reshape(made.units, -1)
    found = kernel_of(made).reshape(units.shape)
    errors = (units - found).square().sum(1)
    for moved in made.moved(made.prototypes.detach()).flatten(0, 1).flatten(1):
        factor = (units @ moved / moved.square().sum())[:, None] if made.scaled else 1.0
        assert bool(((units - factor * moved).square().sum(1) > errors - 1e-5).all())


@pytest.fixture(scope="module", params=[0, 8])
def compressed(request: pytest.FixtureRequest) -> Network:
    """Return a network of one convolution for each of some methods, in floats or in 8 bits."""
    torch.manual_seed(3)
    methods = [METHODS[place] for place in (0, 2, 4, 7)]
    module = nn.Sequential(*(nn.Conv2d(32, 32, 3, padding=1) for _ in methods))
    made = capture(module.eval(), (torch.randn(2, 32, 6, 6),))
    for name, method in zip("0123", methods, strict=True):
        made.replace(name, method.rewritten(made.layer(name)))
    if request.param:
        made.parts = {name: (f"{name}.0",) for name in "0123"}
        constrain(made, dict.fromkeys("0123", Chosen(precision=Integer(bits=request.param))))
        settle(made)
    return made


def test_that_every_file_holds_the_prototypes_and_not_the_filters(
    compressed: Network, tmp_path: Path, in_every_file: Callable[..., dict[str, Export]]
) -> None:
    inputs = torch.randn(3, 32, 6, 6)
    exports = in_every_file(compressed, {}, tmp_path, (inputs,))
    ledger = write_archive(compressed, {}, tmp_path / "again.fwz")
    stored = (ledger.bits - ledger.container) / 8
    assert exports["onnx"].checks["bytes"].value < stored + 4 * 6_000
    assert exports["safetensors"].checks["bytes"].value < stored + 4 * 800


@pytest.mark.parametrize(
    ("method", "layer", "word"),
    [
        (DoublyConvolutional, nn.Linear(4, 4), "convolutions"),
        (DoublyConvolutional, nn.ConvTranspose2d(8, 8, 3), "convolutions"),
        (DoublyConvolutional, nn.Conv2d(8, 8, 1), "one place"),
        (DoublyConvolutional, nn.Conv2d(8, 2, 3), "too small"),
        (Rotations, nn.Conv1d(8, 8, 3), "two dimensions"),
        (Rotations, nn.Conv2d(8, 8, (3, 5)), "not square"),
        (Rotations, nn.Conv2d(8, 8, 1), "nothing to turn"),
        (Rotations, nn.Conv2d(64, 1, 3), "too small"),
        (Translations, nn.Linear(4, 4), "convolutions"),
        (Translations, nn.Conv2d(8, 8, 2), "no room"),
        (Translations, nn.Conv2d(8, 1, 3), "too small"),
    ],
)
def test_that_a_layer_that_would_not_shrink_is_locked_with_the_reason(
    method: type[FactorMethod], layer: nn.Module, word: str
) -> None:
    assert word in method.lock(layer)
