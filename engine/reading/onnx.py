"""ONNX files, as today's exporters write them and as ours does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from featherweight.engine.errors import UserError
from featherweight.engine.events import Source
from featherweight.engine.network import CAPTURE_ERRORS, Inputs, Network, Origin
from featherweight.engine.reading.bounds import BoundedMemory, check_shapes, largest_bytes
from featherweight.engine.reading.examples import (
    SMALLEST_VOCABULARY,
    check_runs,
    ordered,
    random_inputs,
)
from featherweight.engine.reading.onnx_import.arithmetic import DTYPES
from featherweight.engine.reading.onnx_import.building import Builder, UntranslatableError
from featherweight.engine.reading.onnx_import.model import GraphInput, OnnxFile, load
from featherweight.engine.reading.onnx_import.module import OnnxNetwork
from featherweight.engine.reading.onnx_import.opaque import opaque_network
from featherweight.engine.reading.opening import opened

SUFFIXES = (".onnx",)
# A model starts with its version (field 1, a small number) and goes on with one of these fields.
VERSION_FIELD, LARGEST_VERSION = 0x08, 0x20
NEXT_FIELDS = (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42)
SAME = 1e-4
STILL = "where its weights can be stored in fewer bits, and no layer replaced or trained"


def matches(path: Path) -> bool:
    """Say whether a file starts like an ONNX model."""
    with path.open("rb") as file:
        start = file.read(3)
    fits = len(start) == 3 and start[0] == VERSION_FIELD and start[1] <= LARGEST_VERSION
    return fits and start[2] in NEXT_FIELDS


def read(source: Source) -> Network:
    """Open an ONNX file as nn layers; a batch fixed at 1 is set free where that is sound.

    What is no graph of layers is run by ONNX Runtime, with the reason.
    Raises UserError naming the operator and the node where that cannot run it either, and where a
    size of the input is free and `source.input_shapes` does not give it.
    """
    file = load(Path(source.path))
    _fix_inputs(file, source)
    source = ordered(source, [given.name for given in file.inputs])
    example = _example(file, source)
    types = _unused_types(file, source)
    try:
        module, notes = _built(file, example)
    except UntranslatableError as error:
        return _in_runtime(file, source, example, error, types)
    network = opened(module, source, "ONNX", example, notes + types, _free_places(file))
    return replace(network, origin=_origin(file))


def _in_runtime(
    file: OnnxFile,
    source: Source,
    example: Inputs,
    reason: UntranslatableError,
    notes: tuple[str, ...],
) -> Network:
    """Open a file as ONNX Runtime runs it. Raises `reason` where that does not take it."""
    module, again = opaque_network(file, source.input_values, example, reason)
    check_runs(module, example, source.path)
    free = all(isinstance(size, str) for given in file.inputs for size in given.sizes[:1])
    single = all(tensor.ndim > 0 and tensor.shape[0] == 1 for tensor in example)
    batch = free and single and _takes_any_batch(module, example, largest_bytes(file.path))
    kinds = _kinds_note(again)
    lock = f"its {reason.lock}, so it runs in ONNX Runtime, {STILL}"
    network = Network(module, example, _origin(again), lock, dynamic_batch=batch)
    return replace(network, notes=(*kinds, *notes))


def _origin(file: OnnxFile) -> Origin:
    return Origin(str(file.path), "ONNX", tuple(sorted(map(str, file.beside))))


def _kinds_note(file: OnnxFile) -> tuple[str, ...]:
    if not file.kinds:
        return ()
    kinds = " and ".join(sorted(file.kinds))
    return (f"The file holds {kinds}; the weights were opened as float32.",)


def _free_places(file: OnnxFile) -> tuple[tuple[int, int], ...]:
    """Return the dimensions of inputs whose size the file leaves open."""
    return tuple(
        (position, dimension)
        for position, given in enumerate(file.inputs)
        for dimension, size in enumerate(given.sizes)
        if isinstance(size, str)
    )


def _unused_types(file: OnnxFile, source: Source) -> tuple[str, ...]:
    """Say where other types than the file's were asked for; float32 is asked for by default."""
    kinds = [_dtype(given) for given in file.inputs]
    return tuple(
        f"The input {given.name} is {kind} in the file, not {asked} as given."
        for given, kind, asked in zip(file.inputs, kinds, source.input_dtypes, strict=False)
        if asked not in (kind, "float32")
    )


def _dtype(given: GraphInput) -> str:
    return str(DTYPES.get(given.kind, torch.float32)).removeprefix("torch.")


def _fix_inputs(file: OnnxFile, source: Source) -> None:
    """Make constants of the inputs that keep one value."""
    inputs = {given.name: given for given in file.inputs}
    for name, value in source.input_values:
        if name not in inputs or len(inputs) == 1:
            raise UserError(
                f"{file.path} has no input {name} to fix beside others.",
                f"Its inputs are {', '.join(inputs)}.",
            )
        given = inputs.pop(name)
        sizes = [size if isinstance(size, int) else 1 for size in given.sizes]
        check_shapes([sizes or [1]], str(file.path))
        file.constants[name] = np.full(sizes, value, _dtype(given))
    file.inputs = list(inputs.values())


def _built(file: OnnxFile, example: Inputs) -> tuple[OnnxNetwork, tuple[str, ...]]:
    fixed = all(given.sizes[:1] == (1,) for given in file.inputs)
    single = all(tensor.ndim > 0 and tensor.shape[0] == 1 for tensor in example)
    builder = Builder(file, example, batch=1 if fixed and single else 0)
    largest = largest_bytes(file.path)
    with BoundedMemory(largest):
        module = builder.build()
    notes: list[str] = []
    if fixed and single:
        if _takes_any_batch(module, example, 2 * largest):
            notes.append("The file fixes the batch at 1; it was opened with a free batch.")
        else:
            module.batch = 1
            notes.append("The file fixes the batch at 1.")
    notes += _kinds_note(file)
    count = builder.quantized + file.unpacked
    if count:
        notes.append(f"Quantized weights of the file, opened as float32: {count}.")
    if file.block:
        notes.append(
            f"ONNX Runtime laid the weights out for one processor, in blocks of {file.block} "
            "channels; they were put in their usual order."
        )
    if builder.rounded:
        notes.append(f"Activations are rounded to 8 bits as in the file: {builder.rounded}.")
    return module, tuple(notes)


def _takes_any_batch(module: nn.Module, example: Inputs, largest: int) -> bool:
    """Say whether two samples at once give what they give one by one."""
    other = tuple(_changed(tensor) for tensor in example)
    pair = tuple(torch.cat(parts) for parts in zip(example, other, strict=True))
    try:
        with torch.no_grad(), BoundedMemory(largest):
            together, one, two = (_all(module(*inputs)) for inputs in (pair, example, other))
    except CAPTURE_ERRORS:
        return False
    return all(
        both.shape == torch.Size([2, *first.shape[1:]])
        and torch.allclose(
            both.double(), torch.cat([first, second]).double(), rtol=SAME, atol=SAME, equal_nan=True
        )
        for both, first, second in zip(together, one, two, strict=True)
    )


def _changed(tensor: torch.Tensor) -> torch.Tensor:
    turned = tensor.flip(-1)
    return turned * -0.5 if turned.is_floating_point() else turned


def _all(result: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def _example(file: OnnxFile, source: Source) -> Inputs:
    shapes = source.input_shapes or tuple(_shape(given, file) for given in file.inputs)
    if len(shapes) != len(file.inputs):
        names = ", ".join(given.name for given in file.inputs)
        raise UserError(
            f"{file.path} takes {len(file.inputs)} inputs ({names}), not {len(shapes)}.",
            "Give --input once for each.",
        )
    for given in file.inputs:
        if given.kind not in DTYPES:
            raise UserError(
                f"{file.path}: its input {given.name} is no tensor of numbers.",
                "Export the network with tensors as inputs.",
            )
    check_shapes(shapes, str(file.path))
    return random_inputs(shapes, list(map(_dtype, file.inputs)), _vocabulary(file))


def _shape(given: GraphInput, file: OnnxFile) -> tuple[int, ...]:
    """Return the shape of an input; a free batch is 1, another free size has to be given."""
    batch: tuple[int | str, ...] = given.sizes[:1]
    sizes = [1 if isinstance(size, str) else size for size in batch]
    free = [str(size) for size in given.sizes[1:] if isinstance(size, str)]
    guess = "x".join(map(str, _guess(given)))
    if not given.shaped:
        raise UserError(
            f"{file.path} does not tell the shape of its input {given.name}.",
            f"Give it, like --input {guess}.",
        )
    if free:
        raise UserError(
            f"{file.path} leaves sizes of its input {given.name} free ({', '.join(free)}).",
            f"Give them, like --input {guess}.",
        )
    return (*sizes, *(int(size) for size in given.sizes[1:]))


def _guess(given: GraphInput) -> list[int]:
    image = len(given.sizes) == 4 or not given.shaped
    usual = [1, 3, 224, 224] if image else [1, *[16] * (len(given.sizes) - 1)]
    if not given.shaped:
        return usual
    return [
        size if isinstance(size, int) and size > 0 else usual[at]
        for at, size in enumerate(given.sizes)
    ]


def _vocabulary(file: OnnxFile) -> int:
    """Return the rows of the smallest table that the graph looks up: indices below it are valid."""
    tables = [file.constants.get(node.input[0]) for node in file.nodes if node.op_type == "Gather"]
    rows = [len(table) for table in tables if table is not None and table.ndim == 2]
    return min(rows, default=SMALLEST_VOCABULARY)
