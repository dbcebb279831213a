"""Coded archives (`.fwz`), opened to the same outputs bit for bit; nothing in them is run."""

import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from featherweight.engine.archive_layout import (
    MAGIC,
    SUFFIX,
    DamagedError,
    Header,
    TensorForm,
    header_of,
)
from featherweight.engine.errors import UserError
from featherweight.engine.events import Source
from featherweight.engine.graph_form import Contents, from_plain
from featherweight.engine.graph_values import DTYPES
from featherweight.engine.methods.method import CodingMethod
from featherweight.engine.methods.registry import methods
from featherweight.engine.network import Network, Origin
from featherweight.engine.reading.examples import random_inputs
from featherweight.engine.weight_forms import Array, StoredForm, WeightForm, stored_forms

SUFFIXES = (SUFFIX,)
# No real network has so many weights for its file; without a bound a few bytes could ask for all
# memory there is.
ALWAYS_ELEMENTS = 1 << 26
ELEMENTS_PER_BYTE = 256
LARGEST_INPUT = 1 << 28
PART_DTYPES = ("<f4", "<f2", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4")


def matches(path: Path) -> bool:
    """Say by its first bytes whether a file is a coded archive."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read(source: Source) -> Network:
    """Open a coded archive; its weights stay in their small forms.

    Raises UserError, naming the place, where the file is damaged or asks for the absurd.
    """
    path = Path(source.path)
    try:
        return _network(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from error
    except DamagedError as error:
        raise UserError(
            f"{path} is damaged at {error.place}: {str(error).rstrip('.')}.",
            "Write it again, or get another copy of it.",
        ) from error


def _network(path: Path) -> Network:
    data = path.read_bytes()
    header, start = header_of(data)
    _check_sizes(header, len(data))
    held = {f"{layer.name}.{tensor}" for layer in header.graph.layers for tensor in layer.held}
    tensors: dict[str, Tensor] = {}
    forms: dict[str, WeightForm] = {}
    for record in header.tensors:
        piece = data[start : start + record.size]
        start += record.size
        place = f"the tensor {record.names[0]}" if record.names else "a tensor"
        if zlib.crc32(piece) != record.checksum:
            raise DamagedError(place, "its bytes are not as they were written")
        try:
            _restore(record, piece, held, tensors, forms)
        except ValueError as error:
            raise DamagedError(place, str(error)) from error
    try:
        module = from_plain(header.graph, Contents(tensors, forms))
    except ValueError as error:
        raise DamagedError("its graph", str(error)) from error
    shapes = [given.shape for given in header.inputs]
    example = random_inputs(shapes, [given.dtype for given in header.inputs], header.rows)
    origin = Origin(str(path), "coded archive")
    return Network(module, example, origin, dynamic_batch=header.dynamic_batch)


def _check_sizes(header: Header, size: int) -> None:
    """Refuse what a few bytes could not mean; sizes are checked before anything is made."""
    shapes = [*(tensor.shape for tensor in header.tensors), *(x.shape for x in header.inputs)]
    if any(side < 0 for shape in shapes for side in shape):
        raise DamagedError("its header", "a shape is negative")
    elements = sum(max(math.prod(tensor.shape), tensor.count) for tensor in header.tensors)
    if elements > ALWAYS_ELEMENTS + ELEMENTS_PER_BYTE * size:
        raise DamagedError("its header", f"{elements} weights cannot be in {size} bytes")
    for given in header.inputs:
        if math.prod(given.shape) > LARGEST_INPUT or given.dtype not in DTYPES:
            raise DamagedError("its header", "an example input is absurd")
    if header.rows < 1 or any(tensor.count < 0 or tensor.size < 0 for tensor in header.tensors):
        raise DamagedError("its header", "a number is negative")


def _restore(
    record: TensorForm,
    data: bytes,
    held: set[str],
    tensors: dict[str, Tensor],
    forms: dict[str, WeightForm],
) -> None:
    if record.coder:
        form = _form(record, data)
        if held.issuperset(record.names):
            forms.update(dict.fromkeys(record.names, form))
            return
        value = form().clone()
    else:
        value = _raw(record, data)
    if record.order:
        if sorted(record.order) != list(range(value.ndim)):
            raise ValueError("the order of its elements is impossible")
        value = value.permute(tuple(np.argsort(record.order).tolist()))
    if record.is_parameter:
        value = nn.Parameter(value, requires_grad=value.is_floating_point())
    tensors.update(dict.fromkeys(record.names, value))


def _raw(record: TensorForm, data: bytes) -> Tensor:
    dtype = DTYPES.get(record.dtype)
    if dtype is None or math.prod(record.shape) * dtype.itemsize != len(data):
        raise ValueError(f"its shape and dtype do not fit {len(data)} bytes")
    if not data:
        return torch.empty(record.shape, dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(record.shape)


def _form(record: TensorForm, data: bytes) -> StoredForm:
    parts: dict[str, Array] = {}
    start = 0
    for part in record.parts:
        count = math.prod(part.shape)
        if part.dtype not in PART_DTYPES or count < 0:
            raise ValueError(f"its {part.kind[:40]} are of no known kind")
        end = start + count * np.dtype(part.dtype).itemsize
        if end > len(data):
            raise ValueError(f"its {part.kind[:40]} are cut")
        parts[part.kind] = np.frombuffer(data[start:end], part.dtype).reshape(part.shape).copy()
        start = end
    # Finding the coder loads the methods, which is what makes their forms known.
    coder = _coder(record.coder)
    kind = stored_forms().get(record.form)
    if kind is None or not 1 <= record.bits <= 32:
        raise ValueError(f"there are no weights of the kind {record.form[:40]!r}")
    symbols = coder.decode(data[start:], record.count, record.bits, record.zero)
    return kind.rebuilt(record.shape, symbols, parts)


def _coder(name: str) -> CodingMethod:
    kind = methods().get(name)
    if kind is None or not issubclass(kind, CodingMethod):
        raise ValueError(f"there is no coding {name[:40]!r}")
    # What an option changed is in the payload, so the defaults read everything.
    return kind()
