"""Ranks from the share of a layer that stays, and back."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.engine.inspecting.signal_rank import signal_rank
from featherweight.engine.ranks import (
    cp_rank,
    output_keep,
    output_rank,
    svd_keep,
    svd_rank,
    tucker_keep,
    tucker_ranks,
)

channels = st.integers(2, 2048)
shares = st.floats(0.01, 1.0)


@given(shares, channels, channels)
def test_that_two_factors_never_hold_more_than_the_share(
    keep: float, outputs: int, inputs: int
) -> None:
    rank = svd_rank(keep, outputs, inputs)
    assert rank == 1 or rank * (outputs + inputs) <= keep * outputs * inputs * (1 + 1e-8)
    assert (rank + 1) * (outputs + inputs) > keep * outputs * inputs


@given(channels, channels, st.data())
def test_that_dragging_to_a_matrix_rank_gives_that_rank(
    outputs: int, inputs: int, data: st.DataObject
) -> None:
    highest = max(1, outputs * inputs // (outputs + inputs))
    rank = data.draw(st.integers(1, highest))
    assert svd_rank(svd_keep(rank, outputs, inputs), outputs, inputs) == rank


@given(shares, channels, channels, st.sampled_from([2, 3, 9, 25, 27]))
def test_that_three_factors_never_hold_more_than_the_share(
    keep: float, outputs: int, inputs: int, taps: int
) -> None:
    out_rank, in_rank = tucker_ranks(keep, outputs, inputs, taps)
    held = in_rank * inputs + taps * in_rank * out_rank + out_rank * outputs
    assert (out_rank, in_rank) == (1, 1) or held <= keep * taps * inputs * outputs * (1 + 1e-8)
    assert 1 <= out_rank <= outputs
    assert 1 <= in_rank <= inputs


@given(shares, shares, channels, channels)
def test_that_keeping_more_never_lowers_a_rank_of_a_kernel(
    first: float, second: float, outputs: int, inputs: int
) -> None:
    low = tucker_ranks(min(first, second), outputs, inputs, 9)
    high = tucker_ranks(max(first, second), outputs, inputs, 9)
    assert low[0] <= high[0]
    assert low[1] <= high[1]


@given(channels, channels, st.data())
def test_that_dragging_to_a_kernel_rank_gives_that_rank(
    outputs: int, inputs: int, data: st.DataObject
) -> None:
    highest = tucker_ranks(1.0, outputs, inputs, 9)[0]
    rank = data.draw(st.integers(1, highest))
    keep = tucker_keep(rank, outputs, inputs, 9)
    assert tucker_ranks(keep, outputs, inputs, 9)[0] == rank


@given(shares, channels, channels, st.sampled_from([2, 3, 9, 25, 27]))
def test_that_components_never_hold_more_than_the_share(
    keep: float, outputs: int, inputs: int, taps: int
) -> None:
    rank, one = cp_rank(keep, outputs, inputs, taps), outputs + inputs + taps
    assert rank == 1 or rank * one <= keep * outputs * inputs * taps * (1 + 1e-8)
    assert (rank + 1) * one > keep * outputs * inputs * taps


def test_that_a_method_without_ranks_has_no_place_on_the_spectrum() -> None:
    assert output_rank("channel_pruning", 0.5, (8, 8)) is None
    assert output_keep("channel_pruning", 3, (8, 8)) is None


def test_that_half_of_a_square_layer_is_a_quarter_of_its_rank() -> None:
    assert output_rank("svd", 0.5, (512, 512, 1, 1)) == 128
    assert output_keep("svd", 128, (512, 512, 1, 1)) == 0.5
    assert output_rank("tucker", 1.0, (64, 64, 3, 3)) == 57


def test_that_the_colours_of_an_image_all_stay() -> None:
    assert tucker_ranks(0.5, 64, 3, 49) == (22, 3)


def test_that_the_mark_on_the_spectrum_stands_at_the_rounded_rank() -> None:
    assert output_rank("tucker", 1.0, (64, 64, 3, 3), 8) == 56
    assert output_rank("svd", 0.02, (64, 64), 8) == 1


@given(st.integers(1, 12), st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_that_a_planted_rank_stands_out_from_noise(rank: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    planted = draw.normal(size=(60, rank)) @ draw.normal(size=(rank, 200))
    values = np.linalg.svd(planted + draw.normal(size=(60, 200)), compute_uv=False)
    assert abs(signal_rank(values.tolist(), 200) - rank) <= 1


def test_that_noise_and_zeros_alone_have_no_rank() -> None:
    noise = np.random.default_rng(3).normal(size=(60, 200))
    assert signal_rank(np.linalg.svd(noise, compute_uv=False).tolist(), 200) == 0
    assert signal_rank([0.0, 0.0], 2) == signal_rank([], 1) == 0
