"""An ONNX file as plain parts: nodes, constants as arrays, inputs."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from featherweight.engine.errors import UserError, plain_reason
from featherweight.engine.reading.onnx_import.values import Host

OLDEST, NEWEST = 7, 26
DAMAGE = (
    *(DecodeError, ValueError, TypeError, LookupError, OSError, RuntimeError),
    onnx.checker.ValidationError,
)
# What Protocol Buffers, the format around an ONNX graph, can hold.
MOST_BYTES = (1 << 31) - 1
# No network has so many nodes; functions that call functions can make a few lines more than that.
MOST_NODES = 1 << 20
PACKED = {"int4": np.int8, "int2": np.int8, "uint4": np.uint8, "uint2": np.uint8}


@dataclass(frozen=True)
class GraphInput:
    """An input of the graph: `sizes` has a number, or the name of what stays free.

    `shaped` says whether the file tells how many sizes there are.
    """

    name: str
    kind: int
    sizes: tuple[int | str, ...]
    shaped: bool = True


@dataclass
class OnnxFile:
    """The parts of an ONNX file that a network needs.

    `nodes` are those of the graph in order; `constants` its initializers by name, floats as
    float32; `kinds` are the other kinds of float in the file, and `unpacked` counts the weights
    that were small integers in it. `beside` are the files in which it keeps weights. `block` is
    the number of channels in a block where weights were laid out for one processor.
    """

    path: Path
    version: int = 0
    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, Host] = field(default_factory=dict)
    inputs: list[GraphInput] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)
    unpacked: int = 0
    block: int = 0
    beside: set[Path] = field(default_factory=set)

    def array(self, tensor: TensorProto) -> Host:
        """Return a tensor of the file: floats as float32, packed integers as bytes."""
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor = self.with_data(tensor)
        array: Host = numpy_helper.to_array(tensor)
        name = array.dtype.name
        if name in PACKED:
            return array.astype(PACKED[name])
        if name.startswith(("float", "bfloat")) and name != "float32":
            self.kinds.add(name)
            return array.astype(np.float32)
        return array

    def attributes(self, node: NodeProto) -> dict[str, Any]:
        """Return the attributes of a node: texts, numbers, lists, arrays, graphs."""
        return {attribute.name: self._attribute(attribute) for attribute in node.attribute}

    def _attribute(self, attribute: AttributeProto) -> Any:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            return value.decode("utf-8")
        if isinstance(value, TensorProto):
            return self.array(value)
        return value if isinstance(value, int | float | str | GraphProto) else list(value)

    def with_data(self, tensor: TensorProto) -> TensorProto:
        """Return a tensor that is kept in a file beside, with its data. Raises UserError."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        file = self._inside(entries.get("location", ""))
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", -1))
        expected = math.prod(tensor.dims) * 8
        if offset < 0 or length > expected or not file.is_file():
            raise UserError(
                f"{self.path} keeps {tensor.name} in {file}, which is not there or too short.",
                "Put the data file beside the .onnx file.",
            )
        self.beside.add(file)
        with file.open("rb") as data:
            data.seek(offset)
            raw = data.read(length if length >= 0 else expected)
        filled = TensorProto()
        filled.CopyFrom(tensor)
        filled.ClearField("external_data")
        filled.data_location = TensorProto.DEFAULT
        filled.raw_data = raw
        return filled

    def _inside(self, location: str) -> Path:
        folder = self.path.parent.resolve()
        file = (folder / location).resolve()
        if not location or Path(location).is_absolute() or not file.is_relative_to(folder):
            raise UserError(
                f"{self.path} is refused: it keeps weights in {location!r}, outside its folder.",
                "Ask for a file whose data lies beside it.",
            )
        return file


def load(path: Path) -> OnnxFile:
    """Read an ONNX file. Raises UserError where it is damaged, too large, too old or too new."""
    file = OnnxFile(path)
    with _explained(path):
        _fill(file, load_model(path))
    return file


def load_model(path: Path) -> ModelProto:
    """Read the model of an ONNX file, its functions put where they are called.

    What it keeps in other files is not read. Raises UserError where it is damaged or too large.
    """
    if path.stat().st_size > MOST_BYTES:
        raise UserError(
            f"{path} is larger than the 2 GB that an ONNX file can have.",
            "Save it with its weights in a file beside it (external data).",
        )
    with _explained(path):
        model = onnx.load_model(path, load_external_data=False)
        if model.functions:
            _check_functions(model)
            model = onnx.inliner.inline_local_functions(model)
        return model


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise UserError(
            f"{path} takes more memory to read than there is.",
            "Close other programs, or open it on a machine with more memory.",
        ) from error
    except DAMAGE as error:
        raise UserError(
            f"{path} is damaged or no ONNX file: {plain_reason(error)}.",
            "Export or download it again.",
        ) from error


def _check_functions(model: ModelProto) -> None:
    """Raise ValueError where functions would make more nodes than a network has."""
    bodies = {(one.domain, one.name): one.node for one in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Iterable[NodeProto], depth: int) -> int:
        if depth > len(bodies):
            raise ValueError("its functions call each other in a circle")
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            if key in bodies and key not in sizes:
                sizes[key] = size(bodies[key], depth + 1)
            total += sizes.get(key, 1)
        return total

    if size(model.graph.node, 0) > MOST_NODES:
        raise ValueError("its functions stand for millions of operators")


def _fill(file: OnnxFile, model: ModelProto) -> None:
    graph = model.graph
    if not graph.node or not graph.output:
        raise ValueError("it holds no graph")
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    file.version = max(versions, default=0)
    if not OLDEST <= file.version <= NEWEST:
        raise UserError(
            f"{file.path} uses operator set {file.version}; {OLDEST} to {NEWEST} can be opened.",
            "Export it again with one of these.",
        )
    if graph.sparse_initializer:
        raise ValueError("its sparse initializers are not read")
    for node in graph.node:
        # A node of the model itself would keep all of its weights in memory.
        file.nodes.append(NodeProto())
        file.nodes[-1].CopyFrom(node)
    file.constants = {tensor.name: np.array(file.array(tensor)) for tensor in graph.initializer}
    file.outputs = [output.name for output in graph.output]
    for given in graph.input:
        if given.name not in file.constants:
            kind = given.type.tensor_type
            sizes = tuple(
                size.dim_value if size.dim_value > 0 else size.dim_param or "?"
                for size in kind.shape.dim
            )
            shaped = kind.HasField("shape")
            file.inputs.append(GraphInput(given.name, kind.elem_type, sizes, shaped))
    if not file.inputs:
        raise ValueError("it takes no input")
