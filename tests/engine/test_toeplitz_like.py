"""Matrices of low displacement rank: what they hold exactly, and how few numbers they take."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from featherweight.engine.methods.structure.toeplitz_like import ToeplitzLike
from featherweight.engine.structured_layers import ToeplitzLikeLinear


def made_of(matrix: Tensor, rank: int) -> Tensor:
    """Return the matrix that stands in the place of another after the method."""
    layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False)
    layer.weight = nn.Parameter(matrix)
    with torch.no_grad():
        result: Tensor = ToeplitzLike(rank=rank).rewritten(layer)(torch.eye(matrix.shape[1])).T
    return result


def toeplitz(outputs: int, inputs: int) -> Tensor:
    values = torch.randn(outputs + inputs)
    return torch.stack([values[row + 1 : row + 1 + inputs].flip(0) for row in range(outputs)])


def shift(side: int, sign: int) -> Tensor:
    made = torch.eye(side).roll(1, 0)
    made[0] *= sign
    return made


@pytest.mark.parametrize(("outputs", "inputs"), [(48, 48), (33, 33), (48, 16), (30, 70)])
def test_that_a_toeplitz_matrix_is_recovered_at_rank_two(outputs: int, inputs: int) -> None:
    torch.manual_seed(outputs)
    matrix = toeplitz(outputs, inputs)
    torch.testing.assert_close(made_of(matrix, 2), matrix, rtol=1e-4, atol=1e-4)


def test_that_a_circulant_matrix_is_recovered_at_rank_one() -> None:
    values = torch.randn(40)
    matrix = torch.stack([values.roll(row) for row in range(40)])
    torch.testing.assert_close(made_of(matrix, 1), matrix, rtol=1e-4, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40), st.integers(1, 5))
def test_that_the_matrix_has_the_displacement_that_the_layer_holds(side: int, rank: int) -> None:
    torch.manual_seed(side * 7 + rank)
    layer = ToeplitzLikeLinear(side, side, rank, bias=False)
    layer.left = nn.Parameter(torch.randn_like(layer.left))
    layer.right = nn.Parameter(torch.randn_like(layer.right))
    with torch.no_grad():
        matrix = layer(torch.eye(side)).T
        held = layer.left @ layer.right.T
    found = shift(side, 1) @ matrix - matrix @ shift(side, -1)
    torch.testing.assert_close(found, held, rtol=1e-3, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 60), st.integers(3, 60), st.integers(1, 64))
def test_that_the_layer_always_holds_fewer_weights(outputs: int, inputs: int, rank: int) -> None:
    layer = nn.Linear(inputs, outputs, bias=False)
    if not ToeplitzLike.lock(layer):
        made = ToeplitzLike(rank=rank).skeleton(layer)
        assert sum(value.numel() for value in made.parameters()) < layer.weight.numel()


@pytest.mark.parametrize(
    ("layer", "word"), [(nn.Linear(2, 2), "too small"), (nn.Conv1d(8, 8, 1, groups=2), "groups")]
)
def test_that_a_layer_that_gains_nothing_is_locked_with_the_reason(
    layer: nn.Module, word: str
) -> None:
    assert word in ToeplitzLike.lock(layer)
