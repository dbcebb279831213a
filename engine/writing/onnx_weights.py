"""Compact weights in an ONNX graph: a small initializer and the nodes that unpack it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper

from featherweight.engine.bit_packing import packed
from featherweight.engine.methods.precision.binary import BinaryForm
from featherweight.engine.methods.precision.codebook import CodebookForm
from featherweight.engine.methods.precision.float16 import Float16Form
from featherweight.engine.methods.precision.frequency import FrequencyForm
from featherweight.engine.methods.precision.hashed import (
    LAST_SHIFT,
    ROUNDS,
    SPREAD,
    WORD,
    HashedForm,
)
from featherweight.engine.methods.precision.integer import IntegerForm, top
from featherweight.engine.network import Network
from featherweight.engine.weight_forms import StoredForm
from featherweight.engine.weight_unpacking import cosines, frequency_bands

Array = npt.NDArray[np.generic]
SIGNED = {8: TensorProto.INT8, 4: TensorProto.INT4}
FLOATS = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
UNSIGNED = {8: TensorProto.UINT8, 4: TensorProto.UINT4}
# The set of operators that so many bits need. ONNX has integers of 2 bits from 25 on, where
# ONNX Runtime fuses less and is slower: these are packed in bytes instead.
OPSETS = {1: 18, 2: 18, 3: 18, 4: 21, 5: 18, 6: 18, 7: 18, 8: 13}
# Before ONNX had them, 4 bits are packed in bytes like the others.
PACKED_OPSET = 18
# What does not fill bytes evenly is held as two or three numbers that do.
PIECES = {3: (2, 1), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1)}
USUAL_OPSET = 20
FILE_VERSION = 10
WORTH_BITS = 2048


@dataclass
class _Unpacking:
    """The initializers and nodes that give one weight, in a file with a set of operators."""

    opset: int
    tensors: list[TensorProto] = field(default_factory=list)
    nodes: list[NodeProto] = field(default_factory=list)

    def constant(self, name: str, values: Array) -> str:
        self.tensors.append(numpy_helper.from_array(values, name))
        return name

    def patterns(self, name: str, values: Array, kind: int) -> str:
        """Hold bit patterns as they are in a type that numpy may not know."""
        data = np.ascontiguousarray(values).tobytes()
        tensor = TensorProto(name=name, data_type=kind, dims=values.shape, raw_data=data)
        self.tensors.append(tensor)
        return name

    def call(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def holds(self, bits: int, types: Mapping[int, int]) -> bool:
        """Say whether the file has whole numbers of so many bits."""
        return bits in types and (bits == 8 or self.opset >= OPSETS[bits])

    def integers(self, name: str, values: Array, bits: int, types: Mapping[int, int]) -> str:
        """Hold whole numbers in so many bits; those of other than 4 and 8 have to be unsigned."""
        if bits in PIECES:
            return self._from_pieces(name, values, PIECES[bits])
        low = (np.ascontiguousarray(values).astype(np.int16) & ((1 << bits) - 1)).astype(np.uint8)
        data = packed(low, bits)
        if self.holds(bits, types):
            tensor = TensorProto(
                name=name, data_type=types[bits], dims=values.shape, raw_data=data.tobytes()
            )
            self.tensors.append(tensor)
            return name
        return self._from_bits(name, data, values.shape, bits)

    def _from_pieces(self, name: str, values: Array, pieces: Sequence[int]) -> str:
        rest, shift, total = values.astype(np.uint8), 0, ""
        for bits in pieces:
            here = f"{name}.from{shift}"
            data = packed(rest & np.uint8((1 << bits) - 1), bits)
            part = self._from_bits(here, data, values.shape, bits)
            if total:
                by = self.constant(f"bits.shift.{shift}", np.array(shift, np.uint8))
                part = self.call("BitShift", [part, by], f"{here}.placed", direction="LEFT")
                part = self.call("BitwiseOr", [total, part], f"{here}.joined")
            total, shift, rest = part, shift + bits, rest >> np.uint8(bits)
        return total

    def _from_bits(self, name: str, data: Array, shape: tuple[int, ...], bits: int) -> str:
        column = self.constant(name, data.reshape(-1, 1))
        shifts = self.constant(f"bits.shifts.{bits}", np.arange(0, 8, bits, dtype=np.uint8))
        mask = self.constant(f"bits.mask.{bits}", np.array((1 << bits) - 1, np.uint8))
        shifted = self.call("BitShift", [column, shifts], f"{name}.shifted", direction="RIGHT")
        found = self.call("BitwiseAnd", [shifted, mask], f"{name}.masked")
        count = math.prod(shape)
        if data.size * 8 // bits > count:
            flat = self.constant(f"{name}.flat", np.array([-1]))
            found = self.call("Reshape", [found, flat], f"{name}.row")
            ends = [self.constant(f"{name}.{end}", np.array([end])) for end in (0, count)]
            found = self.call("Slice", [found, *ends], f"{name}.cut")
        sides = self.constant(f"{name}.shape", np.array(shape, np.int64))
        return self.call("Reshape", [found, sides], f"{name}.shaped")


def needed_opset(network: Network) -> int:
    """Return the set of operators that the stored forms of a network need."""
    forms = [form for form in network.module.modules() if isinstance(form, StoredForm)]
    return max(USUAL_OPSET, *(OPSETS[_container(form, max(OPSETS.values()))] for form in forms), 0)


def takes_bytes(bits: int, shape: Sequence[int]) -> bool:
    """Say whether a file holds integers of so many bits as whole bytes."""
    return bits == 8 or (bits > 4 and math.prod(shape) < WORTH_BITS)


def put_weights(model: onnx.ModelProto, forms: dict[str, StoredForm]) -> None:
    """Put forms in the place of the graph's weight inputs of these names, in place.

    Integers of 8 and 4 bits become DequantizeLinear, shared values Gather, float16 Cast. Where
    the model's set of operators is too old for fewer bits, they take 8; where it is older than
    DequantizeLinear of rows, `multiply_out` has to follow.
    """
    graph = model.graph
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    model.ir_version = max(model.ir_version, FILE_VERSION)
    nodes: list[NodeProto] = []
    for name, form in forms.items():
        inputs = [value for value in graph.input if value.name == name]
        if inputs:
            graph.input.remove(inputs[0])
            made = _unpacking(name, form, opset, transposing(graph, name))
            present = {tensor.name for tensor in graph.initializer}
            fresh = {t.name: t for t in made.tensors if t.name not in present}
            graph.initializer.extend(fresh.values())
            nodes += made.nodes
    set_nodes(graph, [*nodes, *graph.node])


def multiply_out(model: onnx.ModelProto, kept: set[str]) -> None:
    """Turn DequantizeLinear of weights into Cast and Mul, but for outputs in `kept`, in place.

    It is the same product. ONNX Runtime does Cast and Mul once, as it loads the file, but
    DequantizeLinear at every run, or it rounds the activations to go with it.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        whole, output = tensors.get(node.input[0] if node.input else ""), node.output[0]
        if node.op_type != "DequantizeLinear" or whole is None or output in kept:
            nodes.append(node)
            continue
        axis = next(a.i for a in node.attribute if a.name == "axis")
        scales = tensors[node.input[1]]
        scales.CopyFrom(_along(numpy_helper.to_array(scales), axis, len(whole.dims), scales.name))
        floats = f"{whole.name}.float32"
        nodes.append(helper.make_node("Cast", [whole.name], [floats], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [floats, scales.name], [output]))
    set_nodes(model.graph, nodes)


def set_nodes(graph: onnx.GraphProto, nodes: list[NodeProto]) -> None:
    """Put nodes, which may be the graph's own, in the place of all nodes of the graph."""
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _container(form: StoredForm, opset: int) -> int:
    """Return in how many bits of a file with these operators the numbers of a form are held."""
    if isinstance(form, HashedForm):
        # The nodes of the hash take 2 KiB, so they must save more.
        return 1 if opset >= OPSETS[1] and math.prod(form.shape) >= WORTH_BITS else 8
    if not isinstance(form, IntegerForm | CodebookForm | BinaryForm):
        return 8
    fewest = 1 if isinstance(form, BinaryForm) else form.bits
    # The nodes that take bits out of bytes are more than they save of a small tensor.
    small = math.prod(form.shape) < WORTH_BITS
    needed = fewest if not small else 4 if fewest <= 4 else 8
    oldest = OPSETS if small else {bits: min(PACKED_OPSET, at) for bits, at in OPSETS.items()}
    able = [bits for bits in {needed, 4, 8} if bits >= needed and opset >= oldest[bits]]
    return min(able, default=8)


def transposing(graph: onnx.GraphProto, name: str) -> str:
    """Take out the Transpose that is all that uses a matrix; return its output, else nothing."""
    users = [node for node in graph.node if name in node.input]
    if len(users) != 1 or users[0].op_type != "Transpose":
        return ""
    permutation = next((list(a.ints) for a in users[0].attribute if a.name == "perm"), [1, 0])
    if permutation != [1, 0]:
        return ""
    output: str = users[0].output[0]
    graph.node.remove(users[0])
    return output


def _unpacking(name: str, form: StoredForm, opset: int, transposed: str) -> _Unpacking:
    made, output, bits = _Unpacking(opset), transposed or name, _container(form, opset)

    def turned(values: Array) -> Array:
        return values.T if transposed else values

    if isinstance(form, IntegerForm):
        _put_integers(made, name, form, bits, transposed)
    elif isinstance(form, BinaryForm):
        _put_signs(made, name, form, bits, transposed)
    elif isinstance(form, HashedForm) and bits == 1:
        _put_hashed(made, name, form, transposed)
    elif isinstance(form, CodebookForm):
        symbols = turned(form.symbols().values.reshape(form.shape))
        indices = made.integers(f"{name}.indices", symbols, bits, UNSIGNED)
        table = made.constant(f"{name}.codebook", form.codebook.numpy())
        wide = made.call("Cast", [indices], f"{name}.wide", to=TensorProto.INT32)
        made.call("Gather", [table, wide], output)
    elif isinstance(form, Float16Form):
        patterns = turned(form.symbols().values.reshape(form.shape)).astype("<u2")
        half = made.patterns(f"{name}.{form.kind}", patterns, FLOATS[form.kind])
        made.call("Cast", [half], output, to=TensorProto.FLOAT)
    else:
        made.call("Identity", [made.constant(f"{name}.float32", turned(form().numpy()))], output)
    return made


def _put_integers(
    made: _Unpacking, name: str, form: IntegerForm, bits: int, transposed: str
) -> None:
    axis, output = (1, transposed) if transposed else (0, name)
    levels, grouped = form.levels().numpy(), form.scales.ndim > 1
    values = levels.T if transposed else levels
    factors = form.scales.float().numpy()
    if factors.size == 1 < form.shape[0]:
        factors = factors.reshape(())
    if made.holds(bits, SIGNED) and not grouped:
        whole = made.integers(f"{name}.integers", values, bits, SIGNED)
        scales = made.constant(f"{name}.scales", factors)
        made.call("DequantizeLinear", [whole, scales], output, axis=axis)
        return
    whole = made.integers(f"{name}.integers", values + top(form.bits), bits, UNSIGNED)
    zero = made.constant(f"bits.zero.{form.bits}", np.array(top(form.bits), np.float32))
    floats = made.call("Cast", [whole], f"{name}.wide", to=TensorProto.FLOAT)
    centred = made.call("Sub", [floats, zero], f"{name}.centred")
    if grouped:
        scales = _put_group_scales(made, name, form, bool(transposed))
    else:
        scales = f"{name}.scales"
        made.tensors.append(_along(factors, axis, values.ndim, scales))
    made.call("Mul", [centred, scales], output)


def _put_group_scales(made: _Unpacking, name: str, form: IntegerForm, transposed: bool) -> str:
    """Give every group's scale to each of its weights; returns what has the weight's shape."""
    rows, groups = form.scales.shape
    count = math.prod(form.shape[1:])
    size = -(-count // groups)
    sides = made.constant(f"{name}.group", np.array((rows, groups, size)))
    found = made.constant(f"{name}.scales", form.scales.unsqueeze(2).numpy())
    if form.scales.dtype == torch.float16:
        found = made.call("Cast", [found], f"{name}.scales.wide", to=TensorProto.FLOAT)
    found = made.call("Expand", [found, sides], f"{name}.scales.each")
    if groups * size > count:
        flat = made.constant(f"{name}.padded", np.array((rows, groups * size)))
        found = made.call("Reshape", [found, flat], f"{name}.scales.row")
        ends = [made.constant(f"{name}.{at}", np.array([at])) for at in (0, count, 1)]
        found = made.call("Slice", [found, *ends], f"{name}.scales.cut")
    shape = made.constant(f"{name}.shape.scales", np.array(form.shape))
    found = made.call("Reshape", [found, shape], f"{name}.scales.shaped")
    if transposed:
        found = made.call("Transpose", [found], f"{name}.scales.turned", perm=[1, 0])
    return found


def _put_signs(made: _Unpacking, name: str, form: BinaryForm, bits: int, transposed: str) -> None:
    axis, output = (1, transposed) if transposed else (0, name)
    one, two = (made.constant(f"signs.{n}", np.array(n, np.float32)) for n in (1, 2))
    total = ""
    for term, plane in enumerate(form.planes()):
        here, last = f"{name}.{term}", term == form.terms - 1
        values = plane.T if transposed else plane
        whole = made.integers(f"{here}.signs", values, bits, UNSIGNED)
        factors = form.parts()["scales"][:, term].astype(np.float32)
        made.tensors.append(_along(factors, axis, values.ndim, f"{here}.scales"))
        floats = made.call("Cast", [whole], f"{here}.wide", to=TensorProto.FLOAT)
        doubled = made.call("Mul", [floats, two], f"{here}.doubled")
        signs = made.call("Sub", [doubled, one], f"{here}.plain")
        ends = last and not total
        scaled = made.call("Mul", [signs, f"{here}.scales"], output if ends else f"{here}.scaled")
        if total:
            scaled = made.call("Add", [total, scaled], output if last else f"{here}.sum")
        total = scaled


def _put_hashed(made: _Unpacking, name: str, form: HashedForm, transposed: str) -> None:
    """Compute the hash of every place in whole numbers of 64 bits, which never overflow."""
    here, steps = f"{name}.hash", 0

    def whole(value: int) -> str:
        return made.constant(f"whole.{value}", np.array(value))

    def then(kind: str, *inputs: str) -> str:
        nonlocal steps
        steps += 1
        return made.call(kind, inputs, f"{here}.{steps}")

    def shifted(value: str, shift: int) -> str:
        return then("BitwiseXor", value, then("Div", value, whole(1 << shift)))

    count = math.prod(form.shape)
    mixed = then("Mul", then("Range", whole(0), whole(count), whole(1)), whole(SPREAD))
    mixed = then("BitwiseAnd", then("Add", mixed, whole(form.seed)), whole(WORD))
    for shift, factor in ROUNDS:
        mixed = then("BitwiseAnd", then("Mul", shifted(mixed, shift), whole(factor)), whole(WORD))
    mixed = shifted(mixed, LAST_SHIFT)
    if isinstance(form, FrequencyForm):
        bands = frequency_bands(list(form.shape[2:])).numpy()
        held, sides = np.array(form.buckets), np.array((-1, bands.size))
        mixed = then("Reshape", mixed, made.constant(f"{name}.kernels", sides))
        each = made.constant(f"{name}.buckets", held[bands])
        firsts = made.constant(f"{name}.firsts", (held.cumsum() - held)[bands])
        buckets = then("Add", then("Mod", then("Div", mixed, whole(2)), each), firsts)
    else:
        buckets = then("Mod", then("Div", mixed, whole(2)), whole(form.values.numel()))
    values = made.constant(f"{name}.values", form.values.numpy())
    # Both signs of every value, so that one Gather finds the weight.
    negative = made.call("Neg", [values], f"{name}.negative")
    both = made.call("Concat", [values, negative], f"{name}.both", axis=0)
    odd = then("Mul", then("Mod", mixed, whole(2)), whole(form.values.numel()))
    found = made.call("Gather", [both, then("Add", buckets, odd)], f"{name}.flat")
    if isinstance(form, FrequencyForm):
        basis = made.constant(f"{name}.cosines", cosines(list(form.shape[2:])).numpy())
        found = made.call("MatMul", [found, basis], f"{name}.places")
    shape = made.constant(f"{name}.sides", np.array(form.shape))
    if not transposed:
        made.call("Reshape", [found, shape], name)
        return
    made.call("Transpose", [made.call("Reshape", [found, shape], f"{name}.whole")], transposed)


def _along(factors: Array, axis: int, rank: int, name: str) -> TensorProto:
    """Return scales as an initializer that multiplies along an axis; one scale multiplies all."""
    if factors.ndim:
        sides = [1] * rank
        sides[axis] = factors.size
        factors = factors.reshape(sides)
    return numpy_helper.from_array(factors, name)
