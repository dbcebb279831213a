"""The coded archive: every tensor in as few bits as its form and its coder have, and the graph.

Of a network without a graph it holds the tensors of its state dict.

The ledger that writing returns adds up to the size of the file, to the byte.
"""

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor, fx, nn

from featherweight.engine.archive_layout import Header, InputForm, PartForm, TensorForm, start_of
from featherweight.engine.errors import UserError
from featherweight.engine.graph_form import GraphForm, raw_names, to_plain
from featherweight.engine.ledger import Entry, Ledger
from featherweight.engine.methods.coding.bit_packed import BitPacked
from featherweight.engine.methods.method import CodingMethod, stored_weights
from featherweight.engine.methods.precision.float16 import Float16Form
from featherweight.engine.network import Network
from featherweight.engine.settled_norms import is_settled
from featherweight.engine.weight_forms import CompactLayer, FloatForm, StoredForm
from featherweight.engine.writing.files import write_pieces


@dataclass(frozen=True)
class _Held:
    """A tensor of the network before it is stored: its form, or its plain numbers.

    Where all elements of a tensor are alike, `alike` is its shape and `value` one of them.
    """

    layer: str
    tensor: str
    value: Tensor | StoredForm
    is_parameter: bool = True
    coder: CodingMethod | None = None
    identity: int = 0
    order: tuple[int, ...] = ()
    alike: tuple[int, ...] | None = None

    @property
    def name(self) -> str:
        return f"{self.layer}.{self.tensor}" if self.layer else self.tensor


@dataclass(frozen=True)
class _Stored:
    form: TensorForm
    data: bytes
    entry: Entry


def write_archive(network: Network, codings: Mapping[str, CodingMethod], path: Path) -> Ledger:
    """Write a settled network as a coded archive and return where its bits went.

    `codings` are coders by the names of current layers; without one, forms are bit-packed and
    plain weights stay raw float32. The same network gives the same bytes. The file is replaced at
    once or not at all. Raises UserError where no file can name a layer or an operation, a coder
    cannot take a layer's weights or the file cannot be written.
    """
    graph = storable_graph(network, path)
    unknown = set(codings) - {name for name, _ in network.layers()}
    if unknown:
        raise ValueError(f"there are codings for layers that do not exist: {sorted(unknown)}")
    held = _tensors(network, graph, codings) if graph else _state(network, codings)
    stored = _stored_once(held)
    header = Header(
        graph,
        _inputs(network),
        _rows(network, graph),
        network.dynamic_batch,
        tuple(tensor.form for tensor in stored),
        network.graph_lock,
        network.free,
        network.output_names,
    )
    start = start_of(header)
    write_pieces(path, [start, *(tensor.data for tensor in stored)])
    size = len(start) + sum(len(tensor.data) for tensor in stored)
    entries = tuple(tensor.entry for tensor in stored)
    return Ledger(entries=entries, container=8 * size - sum(entry.bits for entry in entries))


def storable_graph(network: Network, path: Path) -> GraphForm | None:
    """Return the graph as an archive at `path` holds it, None where the network has none.

    Raises UserError where it cannot be held.
    """
    if not isinstance(network.module, fx.GraphModule):
        return None
    try:
        return to_plain(network.module)
    except ValueError as error:
        raise UserError(
            f"{path} cannot hold this network: {error}.", "Export it as ONNX or .pt2 instead."
        ) from error


def _tensors(
    network: Network, graph: GraphForm, codings: Mapping[str, CodingMethod]
) -> Iterator[_Held]:
    for layer in graph.layers:
        yield from _of_layer(layer.name, network.layer(layer.name), codings.get(layer.name))
    parameters = dict(network.module.named_parameters(remove_duplicate=False))
    buffers = dict(network.module.named_buffers(remove_duplicate=False))
    for name in raw_names(graph):
        value = parameters[name] if name in parameters else buffers[name]
        yield _plain("", name, value, name in parameters)


def _state(network: Network, codings: Mapping[str, CodingMethod]) -> Iterator[_Held]:
    """Give every tensor of a state dict under each of its names."""
    coded = {id(network.layer(name)): coder for name, coder in codings.items()}
    taken: list[str] = []
    for name, layer in network.module.named_modules(remove_duplicate=False):
        if isinstance(layer, CompactLayer) or id(layer) in coded:
            taken.append(f"{name}." if name else "")
            yield from _of_layer(name, layer, coded.get(id(layer)))
    for name, value in network.module.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor) and not name.startswith(tuple(taken)):
            owner, _, leaf = name.rpartition(".")
            yield _plain(owner, leaf, value, isinstance(value, nn.Parameter))


def _of_layer(name: str, layer: nn.Module, coder: CodingMethod | None) -> Iterator[_Held]:
    others = layer
    if is_settled(layer):
        yield from _of_norm(name, layer)
        return
    if isinstance(layer, CompactLayer):
        others = layer.rest
        for tensor, form in layer.held().items():
            if not isinstance(form, StoredForm):
                raise ValueError(f"the weights of layer {name} are not settled")
            its_coder = coder if coder and len(form.shape) > 1 else BitPacked()
            yield _Held(name, tensor, form, True, its_coder, id(form))
    coded = stored_weights(others) if coder else []
    for tensor, parameter in others.named_parameters():
        yield _plain(name, tensor, parameter, True, coder if tensor in coded else None)
    for tensor, buffer in layer.named_buffers(recurse=False):
        yield _plain(name, tensor, buffer, False)


def _of_norm(name: str, norm: nn.Module) -> Iterator[_Held]:
    for tensor, value in norm.named_parameters():
        yield _Held(name, tensor, Float16Form(value.detach()), True, BitPacked(), id(value))
    for tensor, buffer in norm.named_buffers():
        # What norms of one size share is written once: all its elements are alike.
        alike = buffer.flatten()[:1]
        identity = hash((tensor, float(alike), tuple(buffer.shape)))
        yield _Held(name, tensor, alike, False, identity=identity, alike=tuple(buffer.shape))


def _plain(
    layer: str, tensor: str, value: Tensor, is_parameter: bool, coder: CodingMethod | None = None
) -> _Held:
    order = _order(value)
    stored = value.detach().permute(order) if order else value.detach()
    kept = FloatForm(stored) if coder else stored
    return _Held(layer, tensor, kept, is_parameter, coder, id(value), order)


def _order(value: Tensor) -> tuple[int, ...]:
    """Return the order of dimensions in which a tensor's elements lie, empty for the usual one.

    It is kept, because a network's outputs differ in their last bit with it.
    """
    strides = value.stride()
    if strides == torch.empty(value.shape, device="meta").stride():
        return ()
    return tuple(
        sorted(range(value.ndim), key=lambda side: (-strides[side], value.shape[side] == 1))
    )


def _stored_once(tensors: Iterator[_Held]) -> list[_Stored]:
    stored: dict[int, _Stored] = {}
    for held in tensors:
        known = stored.get(held.identity)
        if known:
            form = msgspec.structs.replace(known.form, names=(*known.form.names, held.name))
            stored[held.identity] = _Stored(form, known.data, known.entry)
        else:
            stored[held.identity] = _stored(held)
    return list(stored.values())


def _stored(held: _Held) -> _Stored:
    if isinstance(held.value, StoredForm) and held.coder:
        return _coded(held, held.value, held.coder)
    assert isinstance(held.value, Tensor)
    flat = held.value.detach().contiguous().reshape(-1)
    data = flat.view(torch.uint8).numpy().tobytes()
    # An element that stands for many of several layers is no layer's own: the container has it.
    own = 8 * len(data) if held.alike is None else 0
    shape = tuple(held.value.shape) if held.alike is None else held.alike
    entry = Entry(layer=held.layer, tensor=held.tensor, original=32 * math.prod(shape), values=own)
    form = TensorForm(
        names=(held.name,),
        shape=shape,
        dtype=str(flat.dtype).removeprefix("torch."),
        is_parameter=held.is_parameter,
        size=len(data),
        checksum=zlib.crc32(data),
        order=held.order,
    )
    return _Stored(form, data, entry)


def _coded(held: _Held, form: StoredForm, coder: CodingMethod) -> _Stored:
    symbols = form.symbols()
    if reason := coder.symbol_lock(symbols.bits, symbols.zero is not None):
        message = f"Layer {held.layer} cannot be coded with {coder.name}: {reason}"
        raise UserError(message, "Choose another coding for it.")
    coded = coder.encode(symbols)
    sides = {kind: part.astype(part.dtype.newbyteorder("<")) for kind, part in form.parts().items()}
    data = b"".join([*(part.tobytes() for part in sides.values()), coded.payload])
    parts = tuple(PartForm(kind, part.dtype.str, part.shape) for kind, part in sides.items())
    record = TensorForm(
        names=(held.name,),
        shape=form.shape,
        dtype="float32",
        is_parameter=True,
        size=len(data),
        checksum=zlib.crc32(data),
        order=held.order,
        coder=coder.name,
        form=form.kind,
        count=symbols.values.size,
        bits=symbols.bits,
        zero=symbols.zero,
        parts=parts,
    )
    entry = Entry(
        layer=held.layer,
        tensor=held.tensor,
        original=32 * int(np.prod(form.shape, dtype=np.int64)),
        values=coded.values,
        indices=coded.indices,
        tables=coded.tables,
    )
    sizes = {kind: 8 * part.nbytes for kind, part in sides.items()}
    return _Stored(record, data, msgspec.structs.replace(entry, **sizes))


def _inputs(network: Network) -> tuple[InputForm, ...]:
    names = network.given_names or ("",) * len(network.example)
    return tuple(
        InputForm(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), name)
        for tensor, name in zip(network.example, names, strict=True)
    )


def _rows(network: Network, graph: GraphForm | None) -> int:
    """Return a number above all integer inputs: rows of the smallest embedding, else the inputs."""
    layers = graph.layers if graph else ()
    rows = [layer.options["num_embeddings"] for layer in layers if layer.kind == "Embedding"]
    seen = [int(x.max()) + 1 for x in network.example if x.dtype == torch.int64 and x.numel()]
    return max(min(rows or seen, default=1), 1)
