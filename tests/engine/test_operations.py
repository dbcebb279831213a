"""Counts of multiply-accumulates against hand-computed layers and torch's own counter."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from featherweight.engine.inspecting.operations import (
    OperationCounter,
    has_formula,
    layer_macs,
)


def counted(run: Callable[[], Any]) -> tuple[int, list[str]]:
    """Return the products that a piece of code runs, and what nobody could count."""
    with torch.no_grad(), OperationCounter() as counter:
        run()
    return sum(counter.macs.values()), [operation for _, operation in counter.uncounted]


def by_torch(layer: nn.Module, x: Tensor) -> tuple[int, Tensor]:
    """Return the multiply-accumulates that torch's own counter sees, and the result."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        result = layer(x)
    return counter.get_total_flops() // 2, result


@pytest.mark.parametrize(
    ("layer", "inputs", "outputs", "expected"),
    [
        (nn.Conv2d(3, 8, 3), (2, 3, 6, 6), (2, 8, 4, 4), 2 * 8 * 16 * 27),
        (nn.Conv2d(8, 8, 3, groups=8), (1, 8, 5, 5), (1, 8, 3, 3), 8 * 9 * 9),
        (nn.Conv1d(4, 6, 5), (1, 4, 9), (1, 6, 5), 6 * 5 * 20),
        (nn.Conv3d(2, 3, 2), (1, 2, 3, 3, 3), (1, 3, 2, 2, 2), 3 * 8 * 16),
        (nn.ConvTranspose2d(4, 6, 2, 2), (1, 4, 5, 5), (1, 6, 10, 10), 4 * 25 * 6 * 4),
        (nn.Linear(10, 4), (7, 10), (7, 4), 280),
        (nn.Linear(10, 4), (2, 3, 10), (2, 3, 4), 240),
        (nn.Bilinear(3, 5, 4), (2, 3), (2, 4), 2 * 4 * 15),
        (nn.LSTM(5, 6), (7, 2, 5), (7, 2, 6), 14 * 24 * 11),
        (nn.GRU(5, 6, num_layers=2), (7, 2, 5), (7, 2, 6), 14 * 18 * (11 + 12)),
        (nn.RNN(5, 6, bidirectional=True), (7, 2, 5), (7, 2, 12), 2 * 14 * 6 * 11),
        (nn.LSTM(5, 6, proj_size=3), (7, 2, 5), (7, 2, 3), 14 * (24 * 8 + 18)),
        (nn.LSTMCell(5, 6), (2, 5), (2, 6), 2 * 24 * 11),
        (nn.Embedding(100, 8), (2, 9), (2, 9, 8), 0),
        (nn.BatchNorm2d(8), (2, 8, 4, 4), (2, 8, 4, 4), 0),
    ],
)
def test_that_known_layers_count_as_by_hand(
    layer: nn.Module, inputs: tuple[int, ...], outputs: tuple[int, ...], expected: int
) -> None:
    assert layer_macs(layer, inputs, outputs) == expected


def test_that_an_unknown_kind_of_layer_has_no_count() -> None:
    layer = nn.Softmax(dim=1)
    assert layer_macs(layer, (1, 3), (1, 3)) is None
    assert not has_formula(layer)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    """A convolution of any kind with an input that it takes."""
    dimensions, transposed = draw(st.integers(1, 3)), draw(st.booleans())
    groups, kernel = draw(st.sampled_from([1, 2, 4])), draw(st.integers(1, 3))
    channels = [4 * draw(st.integers(1, 3)) for _ in range(2)]
    kinds: Any = (
        (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
        if transposed
        else (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    )
    layer = kinds[dimensions - 1](
        *channels, kernel, stride=draw(st.integers(1, 2)), padding=kernel // 2, groups=groups
    )
    sizes = [draw(st.integers(3, 6)) for _ in range(dimensions)]
    return layer, torch.zeros(draw(st.integers(1, 3)), channels[0], *sizes)


@given(convolutions())
@settings(deadline=None, max_examples=60)
def test_that_convolutions_count_as_torch_counts_them(made: tuple[nn.Module, Tensor]) -> None:
    layer, x = made
    expected, result = by_torch(layer, x)
    assert layer_macs(layer, x.shape, result.shape) == expected
    assert counted(lambda: layer(x)) == (expected, [])


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (lambda: torch.zeros(3, 4) @ torch.zeros(4, 5), 60),
        (lambda: torch.zeros(2, 3, 4) @ torch.zeros(2, 4, 5), 120),
        (lambda: torch.zeros(3, 4) @ torch.zeros(4), 12),
        (lambda: torch.zeros(4) @ torch.zeros(4), 4),
        (lambda: torch.addmm(torch.zeros(5), torch.zeros(3, 4), torch.zeros(4, 5)), 60),
        (lambda: torch.baddbmm(torch.zeros(5), torch.zeros(2, 3, 4), torch.zeros(2, 4, 5)), 120),
        (lambda: torch.einsum("bij,jk->bik", torch.zeros(2, 3, 4), torch.zeros(4, 5)), 120),
        (lambda: torch.tensordot(torch.zeros(3, 4, 2), torch.zeros(4, 2, 5)), 120),
        (lambda: functional.bilinear(*map(torch.zeros, [(2, 3), (2, 5), (4, 3, 5)])), 120),
        (lambda: functional.conv2d(torch.zeros(1, 2, 5, 5), torch.zeros(3, 2, 3, 3)), 486),
        (
            lambda: functional.scaled_dot_product_attention(
                torch.zeros(2, 3, 7, 8), torch.zeros(2, 3, 5, 8), torch.zeros(2, 3, 5, 8)
            ),
            2 * 6 * 7 * 5 * 8,
        ),
    ],
)
def test_that_products_of_functions_count_as_by_hand(run: Callable[[], Any], expected: int) -> None:
    assert counted(run) == (expected, [])


def test_that_maps_sums_norms_and_moves_count_nothing() -> None:
    def run() -> None:
        x = torch.randn(2, 8, 6, 6)
        x = functional.hardswish(functional.gelu(x).mul_(2).relu_(), inplace=True)
        x = functional.interpolate(functional.max_pool2d(x, 2), scale_factor=2, mode="bilinear")
        x = functional.layer_norm(functional.group_norm(x, 2), (6, 6)).cumsum(1)
        x = functional.glu(torch.cat([x, x.flip(1)], 1), 1).transpose(1, 2).contiguous()
        functional.pad(x, (1, 1)).flatten(1).softmax(1).topk(3)
        functional.one_hot(x.argmax(-1)).sum().sqrt()

    assert counted(run) == (0, [])


def test_that_arithmetic_which_nobody_knows_is_named() -> None:
    macs, uncounted = counted(lambda: torch.fft.fft(torch.linalg.inv(torch.eye(3))))
    assert macs == 0
    assert uncounted == ["linalg_inv_ex", "_fft_r2c"]
