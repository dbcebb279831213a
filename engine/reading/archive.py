"""Coded archives (`.fwz`), opened to the same outputs bit for bit; nothing in them is run.

One of a network without a graph holds weights, which go into the network of a factory: a function,
or the file that the network came from.
"""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor, fx, nn

from featherweight.engine.archive_layout import (
    MAGIC,
    SUFFIX,
    DamagedError,
    Header,
    InputForm,
    TensorForm,
    header_of,
)
from featherweight.engine.errors import UserError
from featherweight.engine.events import Source
from featherweight.engine.free_sizes import FreeSize
from featherweight.engine.graph_form import Contents, from_plain
from featherweight.engine.graph_values import DTYPES
from featherweight.engine.methods.method import CodingMethod
from featherweight.engine.methods.registry import methods
from featherweight.engine.network import Network, Origin
from featherweight.engine.reading.calling import flattened
from featherweight.engine.reading.examples import check_runs, random_inputs
from featherweight.engine.reading.factory import built_network, load_weights
from featherweight.engine.reading.formats import read_network
from featherweight.engine.weight_forms import (
    Array,
    CompactLayer,
    FloatForm,
    StoredForm,
    WeightForm,
    densified,
    form_lock,
    stored_forms,
)

SUFFIXES = (SUFFIX,)
# No real network has so many weights for its file; without a bound a few bytes could ask for all
# memory there is.
ALWAYS_ELEMENTS = 1 << 26
ELEMENTS_PER_BYTE = 256
LARGEST_INPUT = 1 << 28
LONGEST_REASON = 300
UNTOLD = "it could not be captured"
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
    return _read(path, lambda header: _built(source, header))


def read_result(path: Path, original: Network) -> Network:
    """Open an archive that was made of `original`, whose module holds what it lacks a graph for.

    `original` is unchanged, and its tensors are in use by none of the two. Raises UserError.
    """
    return _read(path, lambda _: densified(original).module)


def _read(path: Path, build: Callable[[Header], nn.Module]) -> Network:
    try:
        return _network(path, build)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from error
    except DamagedError as error:
        raise UserError(
            f"{path} is damaged at {error.place}: {str(error).rstrip('.')}.",
            "Write it again, or get another copy of it.",
        ) from error


def _network(path: Path, build: Callable[[Header], nn.Module]) -> Network:
    data = path.read_bytes()
    header, start = header_of(data)
    _check_sizes(header, len(data))
    held = _held(header)
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
    shapes = [given.shape for given in header.inputs]
    example = random_inputs(shapes, [given.dtype for given in header.inputs], header.rows)
    origin, free = Origin(str(path), "coded archive"), header.dynamic_batch
    if header.graph is None:
        module = build(header)
        floats = {name: form() for name, form in forms.items()}
        load_weights(module, {**tensors, **floats}, str(path))
        check_runs(module, example, str(path))
        network = Network(module, example, origin, header.graph_lock or UNTOLD, free)
        network.given_names = tuple(given.name for given in header.inputs)
        _compact(network, forms)
        return network
    try:
        module = from_plain(header.graph, Contents(tensors, forms))
    except ValueError as error:
        raise DamagedError("its graph", str(error)) from error
    return Network(
        module,
        example,
        origin,
        dynamic_batch=free,
        free=header.free,
        output_names=header.outputs,
    )


def _held(header: Header) -> set[str]:
    """Return the names of the tensors that stay in their small forms."""
    if header.graph is None:
        small = (tensor for tensor in header.tensors if tensor.form != FloatForm.kind)
        return {name for tensor in small if tensor.coder for name in tensor.names}
    return {f"{layer.name}.{tensor}" for layer in header.graph.layers for tensor in layer.held}


def _built(source: Source, header: Header) -> nn.Module:
    """Return the network that the weights of an archive without a graph belong to."""
    if not source.factory:
        raise UserError(
            f"{source.path} holds weights only, because the network has no graph: "
            f"{' '.join(header.graph_lock.split())[:LONGEST_REASON] or UNTOLD}.",
            "Name what builds the network: --factory module:function, path/to/file.py:function, "
            "or the file that it was opened from.",
        )
    names = tuple(given.name for given in header.inputs)
    if not Path(source.factory).is_file():
        module = built_network(source, len(header.tensors))
        return flattened(module, names, len(names), source.path)
    shapes = tuple(given.shape for given in header.inputs)
    kinds = tuple(given.dtype for given in header.inputs)
    file = {"path": source.factory, "trust": source.trust, "input_names": names}
    given = {"input_shapes": shapes, "input_dtypes": kinds, "input_values": source.input_values}
    asked = msgspec.convert({**file, **given}, Source)
    original = read_network(asked)
    if isinstance(original.module, fx.GraphModule):
        raise UserError(
            f"{source.factory} has a graph, and {source.path} was made of a network without one.",
            "Name the file that the network was opened from.",
        )
    return densified(original).module


def _compact(network: Network, forms: Mapping[str, WeightForm]) -> None:
    """Let the layers of a network hold their weights in these forms, in place."""
    for name, layer in list(network.layers()):
        tensors = [tensor for tensor, _ in layer.named_parameters(recurse=False)]
        held = {tensor: forms[key] for tensor in tensors if (key := f"{name}.{tensor}") in forms}
        if held and not form_lock(layer):
            network.replace(name, CompactLayer(layer, held))


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
    if not all(_fits(size, header.inputs) for size in header.free):
        raise DamagedError("its header", "a free size is of no input")
    if not all(name.isidentifier() or not name for name in header.outputs):
        raise DamagedError("its header", "a name of an output is absurd")
    if header.rows < 1 or any(tensor.count < 0 or tensor.size < 0 for tensor in header.tensors):
        raise DamagedError("its header", "a number is negative")


def _fits(size: FreeSize, inputs: Sequence[InputForm]) -> bool:
    inside = 0 <= size.input < len(inputs) and 0 < size.dimension < len(inputs[size.input].shape)
    return inside and size.name.isidentifier() and size.smallest > 0 and size.largest >= 0


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
    if _alike(record):
        # Statistics of norms that are alike now go apart when they are trained.
        tensors.update({name: value.clone() for name in record.names})


def _raw(record: TensorForm, data: bytes) -> Tensor:
    dtype, count = DTYPES.get(record.dtype), math.prod(record.shape)
    if dtype is not None and _alike(record):
        return torch.frombuffer(bytearray(data), dtype=dtype).repeat(count).reshape(record.shape)
    if dtype is None or count * dtype.itemsize != len(data):
        raise ValueError(f"its shape and dtype do not fit {len(data)} bytes")
    if not data:
        return torch.empty(record.shape, dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(record.shape)


def _alike(record: TensorForm) -> bool:
    """Say whether a buffer is stored by one element that all others equal."""
    dtype, count = DTYPES.get(record.dtype), math.prod(record.shape)
    plain = not record.is_parameter and not record.coder
    return plain and dtype is not None and count > 1 and record.size == dtype.itemsize


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
