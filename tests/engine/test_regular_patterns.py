"""Where N of every M neighbours stay, their places take what a pattern needs and no more."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.engine.methods.coding.ans import Ans
from featherweight.engine.methods.coding.context import Context
from featherweight.engine.methods.coding.huffman import Huffman
from featherweight.engine.methods.coding.sparse_index import SparseIndex
from featherweight.engine.methods.method import CodingMethod
from featherweight.engine.weight_forms import Symbols

CODERS = (SparseIndex(), Huffman(), Ans(), Context())
every_coder = pytest.mark.parametrize("coder", CODERS, ids=lambda coder: coder.name)
every_pattern = pytest.mark.parametrize(("stay", "size"), [(2, 4), (1, 4), (4, 8)])


def patterned(
    stay: int, size: int, count: int, bits: int = 4, seed: int = 1, zeros: float = 0.0
) -> Symbols:
    """Return symbols of which `stay` of every `size` are kept, a share of these zero anyway."""
    generator = np.random.default_rng(seed)
    zero = (1 << (bits - 1)) - 1
    whole = generator.integers(0, 1 << bits, -(-count // size) * size).astype(np.uint32)
    whole[(whole == zero) | (generator.random(whole.size) < zeros)] = zero if zeros else zero + 1
    order = generator.random((whole.size // size, size)).argsort(1)
    whole.reshape(-1, size)[order >= stay] = zero
    return Symbols(whole[:count], bits, zero)


@every_coder
@settings(deadline=None, max_examples=40)
@given(
    pattern=st.sampled_from([(2, 4), (1, 4), (3, 4), (4, 8), (1, 8)]),
    count=st.one_of(st.integers(1, 30), st.integers(1, 3000)),
    bits=st.integers(2, 16),
    seed=st.integers(0, 2**32),
    zeros=st.sampled_from([0.0, 0.1, 0.3]),
)
def test_that_symbols_in_a_pattern_come_back_in_the_bits_that_were_predicted(
    coder: CodingMethod,
    pattern: tuple[int, int],
    count: int,
    bits: int,
    seed: int,
    zeros: float,
) -> None:
    symbols = patterned(*pattern, count, bits, seed, zeros)
    coded = coder.encode(symbols)
    again = coder.decode(coded.payload, count, bits, symbols.zero)
    assert np.array_equal(again.values, symbols.values)
    assert coder.predicted(symbols) == replace(coded, payload=b"")


@every_pattern
def test_that_a_sparse_index_takes_the_whole_bits_of_a_pattern_for_each_group(
    stay: int, size: int
) -> None:
    groups = 5000
    coded = SparseIndex().encode(patterned(stay, size, groups * size))
    assert coded.indices == groups * math.ceil(math.log2(math.comb(size, stay)))
    assert coded.values == groups * stay * 4
    assert len(coded.payload) == 5 + (coded.indices + coded.values) // 8


@every_pattern
@pytest.mark.parametrize("coder", [Ans(), Context()], ids=lambda coder: coder.name)
def test_that_arithmetic_coding_reaches_the_entropy_of_places_and_values(
    coder: CodingMethod, stay: int, size: int
) -> None:
    groups = 20_000
    symbols = patterned(stay, size, groups * size)
    kept = symbols.values[symbols.values != symbols.zero]
    shares = np.unique(kept, return_counts=True)[1] / kept.size
    entropy = -kept.size * float((shares * np.log2(shares)).sum())
    least = groups * math.log2(math.comb(size, stay)) + entropy
    assert 8 * len(coder.encode(symbols).payload) < 1.004 * least + 400


def test_that_a_width_that_was_asked_for_is_kept() -> None:
    coded = SparseIndex(gap_bits=3).encode(patterned(2, 4, 4000))
    assert coded.payload[0] == 3


@every_coder
def test_that_a_damaged_pattern_is_refused_or_gives_symbols_in_range(coder: CodingMethod) -> None:
    symbols = patterned(2, 4, 403)
    payload = coder.encode(symbols).payload
    for at in range(len(payload)):
        for damaged in (
            payload[:at],
            payload[:at] + bytes([payload[at] ^ 255]) + payload[at + 1 :],
        ):
            try:
                again = coder.decode(damaged, 403, 4, symbols.zero)
            except ValueError:
                continue
            assert again.values.size == 403
            assert int(again.values.max()) < 16
