"""Scales of integers that are learned with the weights, as in Learned Step Size Quantization."""

import math

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from featherweight.engine.methods.precision.integer import Integer, TrainableInteger, spread, top

LEARNED = Integer(bits=4, scales="learned")
METHODS = (
    LEARNED,
    Integer(bits=2, scales="learned", granularity="tensor"),
    Integer(bits=4, scales="learned", granularity="group", group_size=8),
    Integer(bits=3, scales="learned", scale_bits=16),
)


def started(method: Integer, weight: Tensor, mask: Tensor | None = None) -> TrainableInteger:
    form = method.trainable(weight, mask)
    assert isinstance(form, TrainableInteger)
    return form


def trained(form: nn.Module, target: Tensor, optimizer: torch.optim.Optimizer) -> float:
    """Lead a weight to a target and return the squared error in the end."""
    for _ in range(100):
        optimizer.zero_grad()
        (form() - target).square().sum().backward()
        optimizer.step()
    return float((form() - target).square().sum().detach())


@pytest.mark.parametrize("method", METHODS)
def test_that_learned_scales_start_where_fixed_ones_stay(method: Integer) -> None:
    weight = torch.randn(6, 20, generator=torch.Generator().manual_seed(0))
    fixed = msgspec.structs.replace(method, scales="fixed").trainable(weight, None)
    assert torch.equal(method.trainable(weight, None)(), fixed())


@pytest.mark.parametrize("method", METHODS)
def test_that_the_settled_weight_is_the_trained_one_bit_for_bit(method: Integer) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, other = (torch.randn(6, 20, generator=generator) for _ in range(2))
    mask = torch.rand(6, 20, generator=generator) < 0.7
    form = started(method, weight, mask)
    before = form.steps().detach()
    trained(form, 0.3 * other, torch.optim.AdamW(form.parameters(), lr=0.01))
    settled = form.settled()
    assert not torch.equal(settled.scales.float(), before)
    assert settled.scales.dtype == form.scales.dtype
    assert torch.equal(settled(), form().detach())
    assert not settled()[~mask].any()


@given(st.integers(0, 10_000), st.sampled_from([2, 3, 4, 8]), st.floats(0.01, 3.0))
def test_that_a_scale_gets_the_gradient_of_the_paper(seed: int, bits: int, size: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight, sent = (size * torch.randn(3, 15, generator=generator) for _ in range(2))
    form = started(Integer(bits=bits, scales="learned"), weight)
    (form() * sent).sum().backward()
    scales, largest = spread(form.scales, form.shape), top(bits)
    levels = weight / scales
    inside = levels.abs() <= largest
    of_scale = torch.where(inside, levels.round() - levels, levels.sign() * largest)
    expected = (sent * of_scale).sum(1) / math.sqrt(15 * largest)
    assert form.stretch is not None
    assert form.stretch.grad is not None
    # The parameter is the logarithm of the scale: descent changes it by what the scale loses.
    found = form.stretch.grad * form.scales
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * size)
    torch.testing.assert_close(form.values.grad, torch.where(inside, sent, 0.0))


def test_that_learned_scales_come_closer_than_fixed_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, target = (torch.randn(16, 40, generator=generator) for _ in range(2))
    errors = {}
    for scales in ("fixed", "learned"):
        form = Integer(bits=3, scales=scales).trainable(weight, None)
        optimizer = torch.optim.SGD(form.parameters(), lr=0.003, momentum=0.9)
        errors[scales] = trained(form, 2 * target, optimizer)
    assert errors["learned"] < 0.5 * errors["fixed"]
