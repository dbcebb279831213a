"""Numbers of any width packed without gaps and unpacked again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.engine.bit_packing import packed, packed_bytes, unpacked

# A busy machine makes single examples slow.
unhurried = settings(deadline=None)


@unhurried
@given(st.integers(1, 64), st.integers(0, 300), st.integers(0, 2**32 - 1))
def test_that_packed_numbers_of_any_width_come_back(bits: int, count: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 2**bits, count, np.uint64)
    data = packed(values, bits)
    assert data.size == packed_bytes(count, bits) == -(-count * bits // 8)
    assert unpacked(data, bits, count).tolist() == values.tolist()


@pytest.mark.parametrize("bits", [1, 3, 5, 11])
def test_that_many_blocks_of_numbers_follow_each_other_without_gaps(bits: int) -> None:
    values = np.random.default_rng(bits).integers(0, 2**bits, 700_003).astype(np.uint32)
    assert np.array_equal(unpacked(packed(values, bits), bits, values.size), values)


def test_that_the_lowest_bits_of_a_byte_hold_the_first_number() -> None:
    assert packed(np.array([1, 2, 3]), 4).tolist() == [0x21, 0x03]
    assert packed(np.array([1, 0, 5]), 3).tolist() == [0b01000001, 0b1]


def test_that_a_number_too_large_for_its_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="8 does not fit into 3 bits"):
        packed(np.array([7, 8]), 3)


@pytest.mark.parametrize("data", [b"", b"\x01\x02\x03", b"\xff\xff"])
def test_that_data_of_another_length_or_with_stray_bits_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"not \d bytes|after the last number"):
        unpacked(data, 5, 3)
