"""Magnitude sparsity keeps exactly the promised number of the largest weights."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from featherweight.engine.methods.sparsity.magnitude import Magnitude


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=60),
    st.floats(0.0, 0.99),
)
def test_that_exactly_the_largest_weights_stay_and_the_first_of_equal_ones(
    weights: list[float], sparsity: float
) -> None:
    method = Magnitude(sparsity=sparsity)
    mask = method.mask(torch.tensor(weights)).tolist()
    by_size = sorted(range(len(weights)), key=lambda place: (-abs(weights[place]), place))
    expected = by_size[: method.kept(len(weights))]
    assert [place for place, stays in enumerate(mask) if stays] == sorted(expected)
    assert any(mask)


@pytest.mark.parametrize(
    ("sparsity", "count", "kept"),
    [(0.29, 100, 71), (0.9, 10, 1), (0.99, 50, 1), (0.0, 7, 7), (0.58, 50, 21), (0.99, 1, 1)],
)
def test_that_the_number_of_kept_weights_is_what_a_person_computes(
    sparsity: float, count: int, kept: int
) -> None:
    assert Magnitude(sparsity=sparsity).kept(count) == kept


def test_that_the_mask_has_the_shape_of_a_large_weight_and_the_right_share() -> None:
    weight = torch.randn(64, 32, 3, 3, generator=torch.Generator().manual_seed(1))
    mask = Magnitude(sparsity=0.75).mask(weight)
    assert mask.shape == weight.shape
    assert int(mask.sum()) == weight.numel() // 4
    assert weight[mask].abs().min() >= weight[~mask].abs().max()


def test_that_weights_which_are_no_numbers_do_not_change_how_many_stay() -> None:
    weight = torch.from_numpy(np.array([np.nan, np.inf, -np.inf, 1.0, 2.0, 3.0], np.float32))
    assert int(Magnitude(sparsity=0.5).mask(weight).sum()) == 3


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.BatchNorm2d(4), "BatchNorm2d layers keep their few weights"),
        (nn.Conv2d(1, 2, 3, dtype=torch.float64), "float64, not float32"),
        (nn.LSTM(3, 4), ""),
        (nn.Embedding(3, 4), ""),
    ],
)
def test_that_layers_without_weights_for_it_are_locked_with_the_reason(
    layer: nn.Module, reason: str
) -> None:
    lock = Magnitude.lock(layer)
    assert reason in lock
    assert bool(lock) == bool(reason)
