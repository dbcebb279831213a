"""Every coder gives back what it took, in the bits that it promised, and refuses damage."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.engine.methods.coding.ans import Ans
from featherweight.engine.methods.coding.bit_packed import BitPacked
from featherweight.engine.methods.coding.context import Context
from featherweight.engine.methods.coding.huffman import Huffman
from featherweight.engine.methods.coding.sparse_index import SparseIndex
from featherweight.engine.methods.method import Coded, CodingMethod
from featherweight.engine.weight_forms import Symbols

CODERS = (BitPacked(), SparseIndex(), SparseIndex(gap_bits=3), Huffman(), Ans(), Context())
every_coder = pytest.mark.parametrize("coder", CODERS, ids=lambda coder: repr(coder))

# A busy machine makes single examples slow.
unhurried = settings(deadline=None)


def drawn(seed: int, bits: int, count: int, kind: str, zeros: float = 0.0) -> Symbols:
    """Return symbols of a distribution, of which a share is the symbol of zero."""
    generator = np.random.default_rng(seed)
    top = 2**bits - 1
    values = {
        "even": generator.integers(0, top + 1, count),
        "bell": np.clip(generator.normal(top / 2, top / 6 + 0.1, count).round(), 0, top),
        "skewed": np.minimum(generator.geometric(0.5, count) - 1, top),
        "lone": np.full(count, generator.integers(0, top + 1)),
    }[kind].astype(np.uint32)
    zero = top // 2
    values[generator.random(count) < zeros] = zero
    return Symbols(values, bits, zero)


@st.composite
def symbols(draw: st.DrawFn) -> Symbols:
    count = draw(st.one_of(st.integers(0, 12), st.integers(0, 3000)))
    kind = draw(st.sampled_from(["even", "bell", "skewed", "lone"]))
    zeros = draw(st.sampled_from([0.0, 0.5, 0.95, 1.0]))
    made = drawn(draw(st.integers(0, 2**32)), draw(st.integers(1, 16)), count, kind, zeros)
    rows = draw(st.integers(1, 60))
    return made if count % rows else replace(made, row=count // rows)


def bits_of(coded: Coded) -> tuple[int, int, int]:
    return coded.values, coded.indices, coded.tables


def decoded(coder: CodingMethod, payload: bytes, like: Symbols) -> Symbols:
    return coder.decode(payload, like.values.size, like.bits, like.zero)


def entropy(values: npt.NDArray[np.uint32]) -> float:
    """Return the bits that symbols are worth by their own frequencies."""
    counts = np.unique(values, return_counts=True)[1]
    return float(-(counts * np.log2(counts / values.size)).sum())


@every_coder
@unhurried
@given(given_symbols=symbols())
def test_that_decoding_gives_back_the_symbols_and_bits_are_as_predicted(
    coder: CodingMethod, given_symbols: Symbols
) -> None:
    coded = coder.encode(given_symbols)
    again = decoded(coder, coded.payload, given_symbols)
    assert again.values.dtype == np.uint32
    assert np.array_equal(again.values, given_symbols.values)
    assert (again.bits, again.zero) == (given_symbols.bits, given_symbols.zero)
    predicted = coder.predicted(given_symbols)
    assert predicted is not None
    assert bits_of(predicted) == bits_of(coded)
    assert 0 <= 8 * len(coded.payload) - sum(bits_of(coded)) < 8
    assert coder.encode(given_symbols).payload == coded.payload


@every_coder
@unhurried
@given(given_symbols=symbols(), data=st.data())
def test_that_a_damaged_payload_is_refused_or_gives_symbols_in_range(
    coder: CodingMethod, given_symbols: Symbols, data: st.DataObject
) -> None:
    payload = bytearray(coder.encode(given_symbols).payload)
    if payload and data.draw(st.booleans()):
        del payload[data.draw(st.integers(0, len(payload) - 1)) :]
    for _ in range(data.draw(st.integers(1, 3)) if payload else 0):
        payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        again = decoded(coder, bytes(payload), given_symbols)
    except ValueError:
        return
    assert again.values.size == given_symbols.values.size
    assert again.values.max(initial=0) < 2**given_symbols.bits


@every_coder
@unhurried
@given(payload=st.binary(max_size=64), bits=st.integers(1, 16), count=st.integers(0, 400))
def test_that_bytes_from_anywhere_never_end_in_another_error(
    coder: CodingMethod, payload: bytes, bits: int, count: int
) -> None:
    try:
        again = coder.decode(payload, count, bits, 0)
    except ValueError:
        return
    assert again.values.size == count


@pytest.mark.parametrize("coder", [BitPacked(), SparseIndex()])
def test_that_float_patterns_of_32_bits_come_back(coder: CodingMethod) -> None:
    floats = np.random.default_rng(1).normal(size=5000).astype(np.float32)
    floats[::3] = 0.0
    patterns = Symbols(floats.view(np.uint32), 32, 0)
    again = decoded(coder, coder.encode(patterns).payload, patterns)
    assert np.array_equal(again.values, patterns.values)


@pytest.mark.parametrize("coder", [Huffman(), Ans(), Context()])
def test_that_entropy_codes_take_no_symbols_of_more_than_16_bits(coder: CodingMethod) -> None:
    assert coder.symbol_lock(16, zero=False) == ""
    assert "choose a precision" in coder.symbol_lock(32, zero=True)
    with pytest.raises(ValueError, match="32 bits are too many"):
        coder.encode(Symbols(np.zeros(3, np.uint32), 32, 0))


def test_that_a_sparse_index_asks_for_a_symbol_of_zero() -> None:
    assert "choose a sparsity" in SparseIndex().symbol_lock(4, zero=False)
    assert SparseIndex().symbol_lock(4, zero=True) == ""
    with pytest.raises(ValueError, match="needs a symbol for zero"):
        SparseIndex().encode(Symbols(np.zeros(3, np.uint32), 4, None))


@pytest.mark.parametrize(("bits", "kind"), [(4, "bell"), (8, "bell"), (4, "skewed"), (2, "even")])
def test_that_ans_comes_within_three_thousandths_of_the_entropy(bits: int, kind: str) -> None:
    given_symbols = drawn(7, bits, 200_000, kind)
    coded = Ans().encode(given_symbols)
    assert coded.values <= 1.003 * entropy(given_symbols.values) + 64
    assert coded.tables < 600 * 8


def test_that_huffman_takes_the_shortest_codes_known_from_the_textbook() -> None:
    # Frequencies 45, 13, 12, 16, 9 and 5 take 224 bits.
    counts = [45, 13, 12, 16, 9, 5]
    values = np.repeat(np.arange(6, dtype=np.uint32), np.array(counts) * 100)
    assert Huffman().encode(Symbols(values, 3, None)).values == 224 * 100


def test_that_huffman_stays_within_twenty_bits_for_frequencies_like_fibonacci() -> None:
    counts = [1, 1]
    while len(counts) < 27:
        counts.append(counts[-1] + counts[-2])
    given_symbols = Symbols(np.repeat(np.arange(27, dtype=np.uint32), counts), 5, None)
    coded = Huffman().encode(given_symbols)
    again = decoded(Huffman(), coded.payload, given_symbols)
    assert np.array_equal(again.values, given_symbols.values)
    assert coded.values < 1.01 * entropy(given_symbols.values) + given_symbols.values.size


def test_that_a_code_that_would_not_pay_gives_way_to_packing() -> None:
    every_one = Symbols(np.random.default_rng(2).permutation(4096).astype(np.uint32), 12, None)
    for coder in (Huffman(), Ans(), Context()):
        coded = coder.encode(every_one)
        assert (coded.values, coded.tables) == (4096 * 12, 24)


def test_that_fillers_bridge_gaps_as_often_as_expected() -> None:
    # Zeros come in runs of 4 bits' reach; the formula is nnz·q/(1-q) with q = (1-density)^16.
    generator = np.random.default_rng(3)
    values = np.where(generator.random(400_000) < 0.05, 1, 0).astype(np.uint32)
    coded = SparseIndex(gap_bits=4).encode(Symbols(values, 4, 0))
    kept = np.count_nonzero(values)
    reach = 0.95**16
    expected = kept * (1 + reach / (1 - reach)) * 4
    assert coded.indices == pytest.approx(expected, rel=0.01)
    assert coded.values == coded.indices


@pytest.mark.parametrize("density", [0.5, 0.2, 0.05, 0.01])
def test_that_the_automatic_gap_width_is_the_smallest_of_all(density: float) -> None:
    generator = np.random.default_rng(4)
    values = np.where(generator.random(50_000) < density, 3, 0).astype(np.uint32)
    sizes = {
        width: len(SparseIndex(gap_bits=width).encode(Symbols(values, 4, 0)).payload)
        for width in range(1, 17)
    }
    automatic = len(SparseIndex().encode(Symbols(values, 4, 0)).payload)
    assert automatic == min(sizes.values())
    assert automatic < sizes[1] or density == 0.5


def test_that_sparse_symbols_are_smaller_by_gaps_and_smallest_by_ans() -> None:
    sparse = drawn(5, 4, 100_000, "bell", zeros=0.92)
    sizes = [
        len(coder.encode(sparse).payload)
        for coder in (Ans(), SparseIndex(), Huffman(), BitPacked())
    ]
    assert sizes == sorted(sizes)


def test_that_a_payload_for_another_count_is_refused() -> None:
    given_symbols = drawn(6, 4, 1000, "bell")
    for coder in CODERS:
        payload = coder.encode(given_symbols).payload
        with pytest.raises(ValueError, match=r"."):
            coder.decode(payload, 990, 4, given_symbols.zero)
