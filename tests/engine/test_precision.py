"""What all precisions keep: trained and stored weight are one, masks hold, symbols rebuild it."""

import copy
from dataclasses import asdict
from typing import Literal

import pytest
import torch
from torch import Tensor

from featherweight.engine.methods.coding.bit_packed import BitPacked
from featherweight.engine.methods.method import PrecisionMethod
from featherweight.engine.methods.precision.binary import Binary
from featherweight.engine.methods.precision.codebook import Codebook
from featherweight.engine.methods.precision.float16 import Float16
from featherweight.engine.methods.precision.hashed import Hashed
from featherweight.engine.methods.precision.integer import Integer, IntegerForm
from featherweight.engine.methods.precision.ternary import Ternary
from featherweight.engine.weight_forms import Symbols, TrainableForm, stored_forms

PRECISIONS: tuple[PrecisionMethod, ...] = (
    Float16(),
    Float16(format="bfloat16"),
    *(Integer(bits=bits) for bits in (8, 6, 5, 4, 3, 2)),
    *(Integer(bits=bits, granularity="group", group_size=20) for bits in (8, 3)),
    Integer(bits=4, granularity="group", scale_bits=16),
    Integer(bits=4, granularity="tensor"),
    *(Ternary(threshold=threshold) for threshold in ("least error", "0.7 of mean")),
    *(Binary(terms=terms) for terms in (1, 2, 3)),
    *(Hashed(weights_per_value=shared) for shared in (2, 9)),
    *(Codebook(clusters=clusters) for clusters in (2, 3, 16, 256)),
    Codebook(clusters=16, table_bits=32),
)
every_precision = pytest.mark.parametrize("method", PRECISIONS, ids=lambda method: repr(method))
MASKABLE = tuple(method for method in PRECISIONS if not method.mask_lock)
every_maskable = pytest.mark.parametrize("method", MASKABLE, ids=lambda method: repr(method))
masked_or_not = pytest.mark.parametrize(
    ("method", "masked"),
    [*((method, False) for method in PRECISIONS), *((method, True) for method in MASKABLE)],
    ids=lambda value: {False: "dense", True: "masked"}.get(value, repr(value)),
)


def weight_and_mask(masked: bool) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(12, 6, 3, 3, generator=generator) * 0.1
    return weight, torch.rand(weight.shape, generator=generator) < 0.3 if masked else None


def trained(form: TrainableForm, steps: int = 3, target: Tensor | None = None) -> TrainableForm:
    """Train a form towards a target, like any weight."""
    if target is None:
        target = torch.randn(form.shape, generator=torch.Generator().manual_seed(5))
    optimizer = torch.optim.SGD(form.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        (form() - target).square().mean().backward()
        optimizer.step()
    return form


@masked_or_not
def test_that_the_settled_form_gives_exactly_the_trained_weight(
    method: PrecisionMethod, masked: bool
) -> None:
    weight, mask = weight_and_mask(masked)
    form = trained(method.trainable(weight, mask))
    stored = form.settled()
    assert torch.equal(stored(), form().detach())
    assert stored().dtype == torch.float32
    assert not list(stored.parameters())


@every_maskable
def test_that_masked_weights_stay_exactly_zero_while_training(method: PrecisionMethod) -> None:
    weight, mask = weight_and_mask(masked=True)
    assert mask is not None
    form = trained(method.trainable(weight, mask), steps=5)
    assert torch.count_nonzero(form()[~mask]) == 0
    stored = form.settled()
    symbols = stored.symbols()
    assert symbols.zero is not None
    assert (symbols.values.reshape(weight.shape)[~mask.numpy()] == symbols.zero).all()
    assert not any("mask" in name for name in stored.state_dict())


@masked_or_not
def test_that_training_moves_the_weight_towards_its_target(
    method: PrecisionMethod, masked: bool
) -> None:
    weight, mask = weight_and_mask(masked)
    form = method.trainable(weight, mask)
    target = weight * 0.5 if mask is None else weight * 0.5 * mask
    before = (form() - target).square().mean().item()
    optimizer = torch.optim.SGD(form.parameters(), 50.0)
    for _ in range(20):
        optimizer.zero_grad()
        (form() - target).square().mean().backward()
        optimizer.step()
    assert (form() - target).square().mean().item() < before


@masked_or_not
def test_that_symbols_and_parts_rebuild_the_same_form_in_the_promised_bits(
    method: PrecisionMethod, masked: bool
) -> None:
    weight, mask = weight_and_mask(masked)
    stored = method.trainable(weight, mask).settled()
    symbols, parts = stored.symbols(), stored.parts()
    assert symbols.bits == method.symbol_bits()
    assert int(symbols.values.max()) < 2**symbols.bits
    side = method.side_bits(stored.shape)
    sizes = {kind: 8 * part.nbytes for kind, part in parts.items()}
    assert {kind: size for kind, size in asdict(side).items() if size} == sizes
    assert symbols.values.size == method.symbol_count(stored.shape)
    coded = sum(sizes.values()) + symbols.values.size * symbols.bits
    assert coded == method.stored_bits(stored.shape)
    again = stored_forms()[stored.kind].rebuilt(stored.shape, symbols, parts)
    assert torch.equal(again(), stored())
    assert again.symbols().zero == symbols.zero


@every_precision
def test_that_a_form_of_fewer_weights_than_its_shape_is_refused(method: PrecisionMethod) -> None:
    stored = method.trainable(weight_and_mask(masked=False)[0], None).settled()
    symbols = stored.symbols()
    fewer = Symbols(symbols.values[:-1], symbols.bits, symbols.zero)
    with pytest.raises(ValueError, match="do not fit a weight of the shape"):
        type(stored).rebuilt(stored.shape, fewer, stored.parts())
    wrong = {**stored.parts(), "tables": torch.zeros(1).numpy()}
    with pytest.raises(ValueError, match="parts do not fit"):
        type(stored).rebuilt(stored.shape, symbols, wrong)


@masked_or_not
def test_that_forms_survive_deep_copies_and_their_own_state(
    method: PrecisionMethod, masked: bool
) -> None:
    weight, mask = weight_and_mask(masked)
    form = trained(method.trainable(weight, mask))
    fresh = method.trainable(weight, mask)
    fresh.load_state_dict(form.state_dict())
    assert torch.equal(fresh(), form())
    stored = form.settled()
    assert torch.equal(copy.deepcopy(stored)(), stored())


@every_precision
def test_that_more_bits_never_make_the_error_larger(method: PrecisionMethod) -> None:
    weight, _ = weight_and_mask(masked=False)
    finer = [other for other in PRECISIONS if type(other) is type(method)]
    errors = {
        other: (other.trainable(weight, None)() - weight).square().sum().item()
        for other in finer
        if getattr(other, "granularity", "") == getattr(method, "granularity", "")
    }
    mine = errors[method]
    assert all(
        error <= mine
        for other, error in errors.items()
        if other.symbol_bits() > method.symbol_bits()
    )


def test_that_floats_beyond_the_largest_float16_become_the_largest() -> None:
    weight = torch.tensor([[1e6, -1e6], [1e-9, 0.1]])
    form = Float16().trainable(weight, None)
    expected = torch.tensor([[65504.0, -65504.0], [0.0, float(torch.tensor(0.1).half())]])
    assert torch.equal(form(), expected)
    form().sum().backward()
    (values,) = form.parameters()
    assert values.grad is not None
    assert values.grad.tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_that_bfloat16_symbols_are_the_upper_halves_of_the_rounded_floats() -> None:
    # 1 + 2**-8 lies between two values and goes to the even one; 3e38 is no infinity yet.
    weight = torch.tensor([[1.0 + 2**-8, 1.0 + 3 * 2**-8, 3.4e38, -1e-38]])
    form = Float16(format="bfloat16").trainable(weight, None)
    stored = form.settled()
    assert stored.symbols().values.tolist()[:3] == [0x3F80, 0x3F82, 0x7F7F]
    upper = stored().numpy().view("<u4") >> 16
    assert upper.reshape(-1).tolist() == stored.symbols().values.tolist()
    assert ((stored() - weight) / weight).abs().max() <= 2**-8


def test_that_integers_stay_in_their_symmetric_range() -> None:
    weight, _ = weight_and_mask(masked=False)
    for bits, top in ((8, 127), (4, 7), (2, 1)):
        stored = Integer(bits=bits).trainable(weight, None).settled()
        levels = stored.levels()
        assert levels.dtype == torch.int8
        assert int(levels.abs().max()) == top
        per_row = stored.scales.reshape(-1, 1, 1, 1)
        assert torch.equal(levels.float() * per_row, stored())


@pytest.mark.parametrize(("bits", "distortion"), [(2, 0.1902), (4, 0.0130)])
def test_that_the_searched_scale_reaches_the_least_error_known_for_a_bell_curve(
    bits: int, distortion: float
) -> None:
    # Max (1960), table II: 3 and 15 equally spaced levels for a normal distribution.
    weight = torch.randn(1, 200_000, generator=torch.Generator().manual_seed(6))
    form = Integer(bits=bits, granularity="tensor").trainable(weight, None)
    error = (form() - weight).square().mean() / weight.square().mean()
    assert error.item() == pytest.approx(distortion, rel=0.02)


def test_that_a_scale_per_channel_fits_uneven_channels_better() -> None:
    weight = torch.randn(8, 500, generator=torch.Generator().manual_seed(7))
    weight *= torch.logspace(-3, 0, 8).reshape(8, 1)
    errors = [
        ((Integer(bits=4, granularity=kind).trainable(weight, None)() - weight) ** 2).sum(1)
        for kind in ("channel", "tensor")
    ]
    assert (errors[0][:-1] < errors[1][:-1]).all()


@pytest.mark.parametrize(
    ("size", "scale_bits", "bits"), [(32, 32, 5.0), (128, 32, 4.25), (128, 16, 4.125)]
)
def test_that_groups_of_four_bits_take_the_bits_known_by_hand(
    size: int, scale_bits: Literal[16, 32], bits: float
) -> None:
    method = Integer(bits=4, granularity="group", group_size=size, scale_bits=scale_bits)
    stored = method.trainable(torch.randn(64, 1024), None).settled()
    coded = len(BitPacked().encode(stored.symbols()).payload)
    sides = sum(part.nbytes for part in stored.parts().values())
    assert 8 * (coded + sides) == bits * 64 * 1024


@pytest.mark.parametrize(("count", "most", "size"), [(100, 32, 25), (96, 32, 32), (9, 64, 9)])
def test_that_groups_divide_a_row_evenly_and_each_has_its_own_scale(
    count: int, most: int, size: int
) -> None:
    weight = torch.randn(6, count, generator=torch.Generator().manual_seed(9))
    weight *= torch.logspace(-3, 0, count)
    stored = Integer(bits=8, granularity="group", group_size=most).trainable(weight, None).settled()
    assert isinstance(stored, IntegerForm)
    assert stored.scales.shape == (6, -(-count // size))
    levels = stored.levels()
    for group, scales in enumerate(stored.scales.unbind(1)):
        inside = slice(group * size, group * size + size)
        assert torch.equal(stored()[:, inside], levels[:, inside] * scales.reshape(-1, 1))
        assert (levels[:, inside].abs().amax(1) > 64).all()


def test_that_scales_by_group_fit_uneven_inputs_better_and_halved_ones_hardly_worse() -> None:
    weight = torch.randn(8, 512, generator=torch.Generator().manual_seed(7))
    weight *= torch.logspace(-2, 0, 512)
    errors = [
        (Integer(bits=4, **options).trainable(weight, None)() - weight).square().sum().item()
        for options in (
            {"granularity": "group"},
            {"granularity": "group", "scale_bits": 16},
            {"granularity": "channel"},
        )
    ]
    assert errors[1] == pytest.approx(errors[0], rel=0.001)
    assert errors[1] < errors[2] / 2


def test_that_scales_too_small_or_large_for_16_bits_stay_positive_and_finite() -> None:
    weight = torch.tensor([[1e-9, -1e-9], [1e9, -1e9]])
    stored = Integer(bits=4, scale_bits=16).trainable(weight, None).settled()
    assert torch.isfinite(stored()).all()
    assert (stored.state_dict()["scales"] > 0).all()


def test_that_rows_of_nothing_but_zeros_have_a_scale_and_stay_zero() -> None:
    weight = torch.zeros(3, 4)
    weight[0] = torch.tensor([1.0, -1.0, 0.5, 0.0])
    stored = Integer(bits=4).trainable(weight, None).settled()
    assert (stored.scales > 0).all()
    assert torch.equal(stored()[1:], torch.zeros(2, 4))


def test_that_the_gradient_of_a_shared_value_is_the_mean_over_its_weights() -> None:
    weight, mask = weight_and_mask(masked=True)
    assert mask is not None
    form = Codebook(clusters=5).trainable(weight, mask)
    upstream = torch.randn(weight.shape, generator=torch.Generator().manual_seed(8))
    form().backward(upstream)
    gradients = {name: value.grad for name, value in form.named_parameters()}
    shared, single = gradients["codebook"], gradients["values"]
    assert shared is not None
    assert shared.numel() == 4
    assert single is not None
    assert torch.equal(single, upstream * mask)
    indices = form.settled().symbols().values.reshape(weight.shape)
    for position in range(4):
        members = torch.from_numpy(indices == position + 1)
        torch.testing.assert_close(shared[position], upstream[members].mean())


def test_that_a_weight_changes_its_shared_value_when_training_moves_it_far() -> None:
    weight = torch.tensor([[0.0, 0.1, 1.0, 1.1]])
    form = Codebook(clusters=2).trainable(weight, None)
    assert form.settled().symbols().values.tolist() == [0, 0, 1, 1]
    target = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    trained(form, target=target, steps=60)
    assert form.settled().symbols().values.tolist() == [1, 0, 1, 0]
    torch.testing.assert_close(form().detach(), target, atol=0.05, rtol=0)


def test_that_shared_values_which_pass_each_other_leave_the_form_whole() -> None:
    form = Codebook(clusters=3).trainable(torch.tensor([[-1.0, 0.0, 1.0]]), None)
    with torch.no_grad():
        dict(form.named_parameters())["codebook"].copy_(torch.tensor([0.5, -2.0, 0.75]))
    assert form().tolist() == [[-2.0, 0.5, 0.75]]
    assert torch.equal(form.settled()(), form().detach())


def test_that_the_codebook_reaches_the_least_error_known_for_a_bell_curve() -> None:
    # Max (1960), table I: the best 4 and 16 levels for a normal distribution.
    weight = torch.randn(300_000, 1, generator=torch.Generator().manual_seed(9))
    for clusters, distortion in ((4, 0.1175), (16, 0.009497)):
        form = Codebook(clusters=clusters).trainable(weight, None)
        error = (form() - weight).square().mean() / weight.square().mean()
        assert error.item() == pytest.approx(distortion, rel=0.01)


def test_that_every_weight_takes_its_nearest_shared_value() -> None:
    weight, _ = weight_and_mask(masked=False)
    form = Codebook(clusters=7).trainable(weight, None)
    codebook = form.settled().state_dict()["codebook"]
    distances = (weight.reshape(-1, 1) - codebook.reshape(1, -1)).abs()
    assert torch.equal((form() - weight).abs().reshape(-1), distances.min(dim=1).values)


def test_that_few_distinct_weights_are_held_exactly_by_a_large_codebook() -> None:
    weight = torch.tensor([[0.5, -0.25, 0.5], [1.0, -0.25, 1.0]])
    assert torch.equal(Codebook(clusters=200).trainable(weight, None)(), weight)


def test_that_quantizing_twice_gives_the_same_form() -> None:
    weight, mask = weight_and_mask(masked=True)
    for method in MASKABLE:
        first, second = (method.trainable(weight, mask).settled() for _ in range(2))
        assert first.state_dict().keys() == second.state_dict().keys()
        for name, value in first.state_dict().items():
            assert torch.equal(value, second.state_dict()[name])


@every_maskable
def test_that_no_gradient_reaches_masked_weights(method: PrecisionMethod) -> None:
    weight, mask = weight_and_mask(masked=True)
    assert mask is not None
    form = method.trainable(weight, mask)
    form().square().sum().backward()
    gradient = dict(form.named_parameters())["values"].grad
    assert gradient is not None
    assert torch.count_nonzero(gradient[~mask]) == 0
    assert torch.count_nonzero(gradient[mask]) > 0
