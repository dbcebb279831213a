"""How a coded archive (`.fwz`) is laid out: a prefix, a compressed header, the tensors' bytes.

The prefix is the magic, a CRC-32 of what follows in prefix and header, the size of the file and
the sizes of the header compressed and raw. The header is msgpack under zlib. Tensors follow in
the header's order, each its parts and its payload, each with a CRC-32 in the header.
"""

import struct
import zlib

import msgspec
from msgspec import Struct

from featherweight.engine.free_sizes import FreeSize
from featherweight.engine.graph_form import GraphForm

MAGIC = b"FWZ1"
SUFFIX = ".fwz"
LARGEST_HEADER = 1 << 26
_PREFIX = struct.Struct("<4sIQII")
_SIZES = struct.Struct("<QII")


class DamagedError(Exception):
    """An archive is not as it was written: `place` says where, the text says what."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(reason)
        self.place = place


class InputForm(Struct, array_like=True, frozen=True):
    """Shape (batch first) and dtype of one example input, and its name."""

    shape: tuple[int, ...]
    dtype: str
    name: str = ""


class PartForm(Struct, array_like=True, frozen=True):
    """A side tensor of a form by the ledger's kind of it; `dtype` is NumPy's, little endian."""

    kind: str
    dtype: str
    shape: tuple[int, ...]


class TensorForm(Struct, array_like=True, frozen=True):
    """One stored tensor and the dotted names it has, several where it is shared.

    `shape` is of the elements as they are stored, which is the permutation `order` of the tensor's
    own where there is one. Without a `coder` it is raw numbers of `dtype`, of which a buffer has
    only the first where all are alike; with one, `count` symbols of `bits` bits, which the stored
    form of the kind `form` takes. `size` and `checksum` are of its parts and payload.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    is_parameter: bool
    size: int
    checksum: int
    order: tuple[int, ...] = ()
    coder: str = ""
    form: str = ""
    count: int = 0
    bits: int = 0
    zero: int | None = None
    parts: tuple[PartForm, ...] = ()


class Header(Struct, array_like=True, frozen=True):
    """What an archive says of the network before its tensors.

    Integers of the example inputs are below `rows`. Without a `graph` there are the tensors of a
    state dict, and `graph_lock` is the reason. `free` are sizes of inputs that vary beside the
    batch, `outputs` the names of outputs. What is new stands last, with a default, so that older
    archives open.
    """

    graph: GraphForm | None
    inputs: tuple[InputForm, ...]
    rows: int
    dynamic_batch: bool
    tensors: tuple[TensorForm, ...]
    graph_lock: str = ""
    free: tuple[FreeSize, ...] = ()
    outputs: tuple[str, ...] = ()


def start_of(header: Header) -> bytes:
    """Return prefix and header; the same header always gives the same bytes."""
    raw = msgspec.msgpack.encode(header)
    compressed = zlib.compress(raw, 9)
    size = _PREFIX.size + len(compressed) + sum(tensor.size for tensor in header.tensors)
    sizes = _SIZES.pack(size, len(compressed), len(raw))
    checksum = zlib.crc32(compressed, zlib.crc32(sizes))
    return MAGIC + struct.pack("<I", checksum) + sizes + compressed


def header_of(data: bytes) -> tuple[Header, int]:
    """Return the header of an archive and where its tensors start. Raises DamagedError."""
    if len(data) < _PREFIX.size:
        raise DamagedError("its start", "it is too short")
    _, checksum, size, compressed_size, raw_size = _PREFIX.unpack_from(data)
    end = _PREFIX.size + compressed_size
    if size != len(data):
        raise DamagedError("its end", f"it has {len(data)} of {size} bytes")
    if zlib.crc32(data[_PREFIX.size - _SIZES.size : end]) != checksum or raw_size > LARGEST_HEADER:
        raise DamagedError("its header", "it is not as it was written")
    try:
        reader = zlib.decompressobj()
        raw = reader.decompress(data[_PREFIX.size : end], raw_size + 1)
        header = msgspec.msgpack.decode(raw, type=Header)
    except (zlib.error, msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise DamagedError("its header", str(error)) from error
    if end + sum(tensor.size for tensor in header.tensors) != size:
        raise DamagedError("its header", "the sizes of the tensors do not add up")
    return header, end
