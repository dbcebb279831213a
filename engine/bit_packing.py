"""Whole numbers packed into n bits each, the lowest bit first, and back."""

from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[Any]

WHOLE: dict[int, np.dtype[Any]] = {
    8: np.dtype("<u1"),
    16: np.dtype("<u2"),
    32: np.dtype("<u4"),
    64: np.dtype("<u8"),
}
BLOCK = 1 << 18


def packed_bytes(count: int, bits: int) -> int:
    """Return the bytes that `count` numbers of `bits` bits take."""
    return -(-count * bits // 8)


def packed(values: Numbers, bits: int) -> Bytes:
    """Pack unsigned numbers below 2**bits, bits 1 to 64, into uint8; the last byte ends in zeros.

    Raises ValueError where a number is too large.
    """
    flat = values.reshape(-1)
    if flat.size and int(flat.max()) >> bits:
        raise ValueError(f"{int(flat.max())} does not fit into {bits} bits")
    if bits in WHOLE:
        return flat.astype(WHOLE[bits]).view(np.uint8)
    if bits in (2, 4):
        return _pack_in_bytes(flat.astype(np.uint8), bits)
    blocks = [_pack_bits(flat[at : at + BLOCK], bits) for at in range(0, flat.size, BLOCK)]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.uint8)


def unpacked(data: bytes | Bytes, bits: int, count: int) -> Numbers:
    """Return `count` numbers of `bits` bits: uint32 up to 32 bits, else uint64.

    Raises ValueError where the data has another length, or bits set after its last number.
    """
    raw = np.frombuffer(data, np.uint8)
    if raw.size != packed_bytes(count, bits):
        raise ValueError(f"{count} numbers of {bits} bits are not {raw.size} bytes")
    spare = raw.size * 8 - count * bits
    if spare and raw[-1] >> (8 - spare):
        raise ValueError("there are bits after the last number")
    dtype = np.dtype(np.uint32 if bits <= 32 else np.uint64)
    if bits in WHOLE:
        return raw.view(WHOLE[bits]).astype(dtype)
    if bits in (2, 4):
        return _unpack_from_bytes(raw, bits, count).astype(dtype)
    starts = range(0, count, BLOCK)
    parts = [_unpack_bits(raw, bits, at, min(BLOCK, count - at), dtype) for at in starts]
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def _pack_in_bytes(flat: Bytes, bits: int) -> Bytes:
    lanes = 8 // bits
    whole = np.zeros(packed_bytes(flat.size, bits) * lanes, np.uint8)
    whole[: flat.size] = flat
    result = whole[0::lanes].copy()
    for lane in range(1, lanes):
        result |= whole[lane::lanes] << np.uint8(lane * bits)
    return result


def _unpack_from_bytes(raw: Bytes, bits: int, count: int) -> Bytes:
    lanes = 8 // bits
    whole = np.empty((raw.size, lanes), np.uint8)
    for lane in range(lanes):
        whole[:, lane] = (raw >> np.uint8(lane * bits)) & np.uint8((1 << bits) - 1)
    return whole.reshape(-1)[:count]


def _pack_bits(block: Numbers, bits: int) -> Bytes:
    wide = block.astype("<u4" if bits <= 32 else "<u8")
    rows = wide.view(np.uint8).reshape(block.size, wide.itemsize)
    used = rows[:, : -(-bits // 8)]
    return np.packbits(
        np.unpackbits(used, axis=1, count=bits, bitorder="little"), bitorder="little"
    )


def _unpack_bits(raw: Bytes, bits: int, start: int, count: int, dtype: np.dtype[Any]) -> Numbers:
    # A block starts at a whole byte, because its first number is a multiple of eight.
    first = start * bits // 8
    used = raw[first : first + packed_bytes(count, bits)]
    rows = np.unpackbits(used, count=count * bits, bitorder="little").reshape(count, bits)
    lanes = np.packbits(rows, axis=1, bitorder="little")
    wide = np.zeros((count, dtype.itemsize), np.uint8)
    wide[:, : lanes.shape[1]] = lanes
    return wide.view(dtype.newbyteorder("<")).reshape(count).astype(dtype)
