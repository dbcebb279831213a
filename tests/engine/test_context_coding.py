"""Contexts: what rows, columns and neighbours tell is saved; where they tell nothing, nothing."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from featherweight.engine.methods.coding.ans import Ans
from featherweight.engine.methods.coding.context import Context
from featherweight.engine.methods.coding.sparse_index import SparseIndex
from featherweight.engine.methods.method import CodingMethod
from featherweight.engine.methods.precision.binary import Binary
from featherweight.engine.methods.precision.codebook import Codebook
from featherweight.engine.methods.precision.integer import Integer
from featherweight.engine.weight_forms import Symbols

Floats = npt.NDArray[np.float64]


def sparse(chances: Floats, seed: int = 1, zero: int = 7) -> Symbols:
    """Return 4-bit symbols of which each is not zero by its own chance."""
    random = np.random.default_rng(seed)
    others = np.delete(np.arange(15), zero)
    values = others[np.minimum(random.geometric(0.3, chances.shape) - 1, 13)]
    found = np.where(random.random(chances.shape) < chances, values, zero)
    return Symbols(found.reshape(-1).astype(np.uint32), 4, zero, chances.shape[1])


def size(coder: CodingMethod, symbols: Symbols) -> int:
    coded = coder.encode(symbols)
    return coded.values + coded.indices + coded.tables


def entropy(chances: Floats) -> float:
    """Return the bits of flags of known chances and of their values, which are geometric."""
    inside = np.clip(chances, 1e-12, 1 - 1e-12)
    flags = -(inside * np.log2(inside) + (1 - inside) * np.log2(1 - inside)).sum()
    share = 0.3 * 0.7 ** np.arange(14)
    share[-1] = 1 - share[:-1].sum()
    return float(flags - chances.sum() * (share * np.log2(share)).sum())


def uneven(axis: int) -> Floats:
    """Return chances of 1 in 250 to 1 in 3 that differ by row or by column; 5 % on average."""
    side = np.random.default_rng(3).permutation(np.geomspace(0.004, 0.33, 400)) * 0.67
    return np.broadcast_to(side if axis else side[:, None], (400, 400)).copy()


@pytest.mark.parametrize("axis", [0, 1], ids=["rows", "columns"])
def test_that_uneven_rows_or_columns_are_learned_close_to_what_knowing_them_gives(
    axis: int,
) -> None:
    chances = uneven(axis)
    symbols = sparse(chances)
    found = size(Context(), symbols)
    assert found < 1.04 * entropy(chances)
    assert found < 0.95 * size(Ans(), symbols)


def test_that_what_lies_in_clusters_along_a_row_is_coded_in_fewer_bits() -> None:
    random = np.random.default_rng(5)
    near = np.repeat(random.random((300, 100)) < 0.06, 6, axis=1)
    symbols = sparse(np.where(near, 0.6, 0.01))
    alone = replace(symbols, values=random.permutation(symbols.values))
    assert size(Context(), symbols) < 0.93 * size(Context(), alone)


@pytest.mark.parametrize("density", [0.5, 0.05, 0.015])
def test_that_contexts_cost_next_to_nothing_where_all_places_are_alike(density: float) -> None:
    chances = np.full((300, 784), density)
    symbols = sparse(chances)
    assert size(Context(), symbols) <= size(Ans(), symbols) + 8
    assert size(Context(), symbols) < 1.01 * entropy(chances)
    assert size(Context(), symbols) < size(SparseIndex(), symbols)


@pytest.mark.parametrize("zero", [0, 7, 14])
def test_that_any_symbol_can_be_the_usual_one(zero: int) -> None:
    symbols = sparse(uneven(1), zero=zero)
    coded = Context().encode(symbols)
    again = Context().decode(coded.payload, symbols.values.size, 4, zero)
    assert np.array_equal(again.values, symbols.values)


@pytest.mark.parametrize("shape", [(3, 500), (500, 3), (1, 700), (700, 1), (13, 57)])
def test_that_rows_shorter_or_fewer_than_a_lattice_come_back(shape: tuple[int, int]) -> None:
    symbols = sparse(np.full(shape, 0.2) * np.linspace(0.1, 2, shape[1]))
    coded = Context().encode(symbols)
    again = Context().decode(coded.payload, symbols.values.size, 4, 7)
    assert np.array_equal(again.values, symbols.values)


def test_that_symbols_without_rows_are_one_row() -> None:
    symbols = replace(sparse(np.full((20, 50), 0.3)), row=0)
    odd = replace(symbols, row=999)
    assert Context().encode(symbols).payload == Context().encode(odd).payload


@pytest.mark.parametrize(
    "method", [Integer(bits=4), Codebook(clusters=5), Binary()], ids=lambda method: method.name
)
def test_that_forms_tell_how_long_a_row_is(method: Integer | Codebook | Binary) -> None:
    stored = method.trainable(torch.randn(6, 5, 3, 2), None).settled()
    assert stored.symbols().row == 30
