"""Shared values chosen with a price for coded bits: cheaper to code, at no more cost in all."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.engine.methods.coding.huffman import Huffman
from featherweight.engine.methods.entropy_constrained import cheapest, entropy_constrained
from featherweight.engine.methods.precision.codebook import Codebook, clustered

numbers = st.floats(-4, 4, width=32)


@given(st.lists(st.tuples(numbers, st.floats(0, 3)), min_size=1, max_size=9), st.lists(numbers))
@settings(max_examples=100, deadline=None)
def test_that_the_cheapest_shared_value_is_found_for_every_weight(
    entries: list[tuple[float, float]], weights: list[float]
) -> None:
    shared = np.sort(np.array([value for value, _ in entries]))
    costs = np.array([cost for _, cost in entries])
    used, edges = cheapest(shared, costs)
    assert (np.diff(edges) > 0).all()
    values = np.array(weights)
    taken = np.array(used)[np.searchsorted(edges, values)]
    every = (values[:, None] - shared) ** 2 + costs
    np.testing.assert_allclose(every[np.arange(values.size), taken], every.min(1), atol=1e-9)


def total_cost(
    values: npt.NDArray[np.float32],
    shared: npt.NDArray[np.float32],
    taken: npt.NDArray[np.intp],
    price: float,
) -> float:
    uses = np.bincount(taken, minlength=shared.size)
    rates = -np.log2(np.maximum(uses, 1) / values.size)
    error = (values.astype(np.float64) - shared[taken]) ** 2
    return float(error.mean() + price * values.var(dtype=np.float64) * rates[taken].mean())


@given(st.integers(1, 20), st.integers(1, 500), st.floats(0.0005, 0.2), st.integers(0, 2**31 - 1))
@settings(max_examples=40, deadline=None)
def test_that_the_rounds_only_lower_error_and_bits_together(
    clusters: int, size: int, price: float, seed: int
) -> None:
    values = np.random.default_rng(seed).laplace(size=size).astype(np.float32)
    plain = clustered(values, clusters)
    nearest = np.abs(values[:, None] - plain).argmin(1)
    shared, taken = entropy_constrained(values, plain, price)
    assert (np.diff(shared) >= 0).all()
    before = total_cost(values, plain, nearest, price)
    assert total_cost(values, shared, taken, price) <= before * (1 + 1e-5) + 1e-9


@pytest.mark.parametrize("masked", [False, True])
def test_that_a_higher_price_makes_fewer_coded_bits_and_more_error(masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(60, 50, generator=generator)
    mask = torch.rand(60, 50, generator=generator) < 0.5 if masked else None
    target = weight if mask is None else weight * mask
    bits, errors = [], []
    for price in (0.0, 0.01, 0.05, 0.2):
        form = Codebook(clusters=32, entropy=price).trainable(weight, mask)
        stored = form.settled()
        assert torch.equal(stored(), form())
        assert mask is None or not stored()[~mask].any()
        coded = Huffman().predicted(stored.symbols())
        assert coded is not None
        bits.append(coded.values)
        errors.append(float((stored() - target).square().sum()))
    assert bits == sorted(bits, reverse=True)
    assert bits[-1] < 0.7 * bits[0]
    assert errors == sorted(errors)


def test_that_a_price_is_worth_more_than_fewer_values() -> None:
    generator = np.random.default_rng(1)
    weight = torch.from_numpy(generator.laplace(size=(100, 80)).astype(np.float32))
    coded, errors = [], []
    for method in (Codebook(clusters=16), Codebook(clusters=64, entropy=0.025)):
        stored = method.trainable(weight, None).settled()
        counted = Huffman().predicted(stored.symbols())
        assert counted is not None
        coded.append(counted.values)
        errors.append(float((stored() - weight).square().sum()))
    assert coded[1] < coded[0]
    assert errors[1] < errors[0]
