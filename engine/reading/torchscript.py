"""TorchScript files: read only where their code keeps to tensors, then turned to layers."""

import re
import warnings
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx
from torch._export.converter import TS2EPConverter

from featherweight.engine.errors import UserError, plain_reason, running_reason
from featherweight.engine.events import Source
from featherweight.engine.length_trials import tensors_of
from featherweight.engine.network import CAPTURE_ERRORS, Inputs, Network, capture
from featherweight.engine.reading.bounds import BoundedMemory, check_shapes, largest_bytes
from featherweight.engine.reading.calling import usable_names
from featherweight.engine.reading.composing import compose
from featherweight.engine.reading.examples import SMALLEST_VOCABULARY, ordered, random_inputs
from featherweight.engine.reading.opening import in_float32, opened, same_outputs
from featherweight.engine.reading.script_network import script_network
from featherweight.engine.reading.unpickling import DAMAGE, zip_members

SUFFIXES: tuple[str, ...] = ()
LARGEST_CODE = 1 << 26
# What TorchScript can reach beside tensors: files, memory, other libraries, code that loading runs.
FORBIDDEN = re.compile(
    r"\b(from_file|save|load|set_data|resize_\w*|__setstate__|__getstate__|storage\w*|"
    r"data_ptr|record_stream|fork|wait|rpc\w*)\b|\bops\.(?!prim\.|aten\.|quantized\.)\w+"
)
KIND = "TorchScript"
# All that torch tells where a script fails while it is followed.
SILENT = "TorchScript interpreter"
FROZEN = "The script was frozen: its weights are constants of its code, and belong to no layer."
EDIT = "Save the network itself with torch.save, or with torch.export.save."


def matches(path: Path) -> bool:
    """Say whether torch.jit.save wrote the file."""
    return any(name.endswith("/constants.pkl") for name in zip_members(path))


def read(source: Source) -> Network:
    """Open a script as nn layers, on an example of `source.input_shapes`.

    One that no graph can hold opens with its layers, which hold its weights, and the reason.
    Raises UserError where its code reaches further than tensors, or does not run.
    """
    path = Path(source.path)
    try:
        _check_code(path)
        script = _loaded(path)
    except DAMAGE as error:
        raise UserError(
            f"{path} is damaged or no TorchScript file: {plain_reason(error)}.", "Save it again."
        ) from error
    notes = in_float32(script)
    example = _example(script, source)
    expected = _outputs(script, example, path)
    converted = _converted(script, example)
    if converted is not None:
        every = tuple((at, size) for at, one in enumerate(example) for size in range(1, one.ndim))
        network = opened(converted, source, KIND, example, notes, every)
        if not network.graph_lock and same_outputs(expected, network, example):
            return _with_batch(network, script, path)
    return _with_batch(_followed(script, source, example, notes), script, path)


def _check_code(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > path.stat().st_size + LARGEST_CODE:
            raise ValueError("its parts are out of proportion to the file")
        for member in members:
            if member.filename.endswith(".py"):
                found = FORBIDDEN.search(archive.read(member).decode())
                if found:
                    raise UserError(
                        f"{path} is refused: its code uses {found[0]}, which reaches further than "
                        "tensors.",
                        EDIT,
                    )


def _loaded(path: Path) -> Any:
    with warnings.catch_warnings():
        # It is deprecated, and still what such files are read with.
        warnings.simplefilter("ignore")
        return torch.jit.load(str(path), map_location="cpu").eval()


def _example(script: Any, source: Source) -> Inputs:
    """Return an example; without shapes, ask for them with a guess from the first weight."""
    names = [value.debugName().partition(".")[0] for value in script.graph.inputs()]
    source = ordered(source, names[1:])
    weights = [value for name, value in script.named_parameters() if value.ndim > 1]
    if not source.input_shapes:
        raise UserError(f"{source.path} does not tell the shape of its input.", _guess(weights[:1]))
    check_shapes(source.input_shapes, source.path)
    rows = min((len(value) for value in weights if value.ndim == 2), default=SMALLEST_VOCABULARY)
    return random_inputs(source.input_shapes, source.input_dtypes, rows)


def _guess(weights: Sequence[Tensor]) -> str:
    for weight in weights:
        if weight.ndim == 4:
            return f"Give it, like --input 1x{weight.shape[1]}x224x224."
        if weight.ndim == 2:
            return f"Give it, like --input 1x{weight.shape[1]}, or 1x16:int64 for tokens."
    return "Give it, like --input 1x3x224x224."


def _outputs(script: Any, example: Inputs, path: Path) -> Inputs:
    try:
        with torch.no_grad(), BoundedMemory(largest_bytes(path)):
            return tensors_of(script(*example))
    except CAPTURE_ERRORS as error:
        given = ", ".join("x".join(map(str, tensor.shape)) for tensor in example)
        raise UserError(
            f"{path} is TorchScript that does not run on an input of {given}: "
            f"{running_reason(error)}.",
            f"Give another shape with --input. {EDIT}",
        ) from error


class _Converter(TS2EPConverter):
    """Gives the converted code before torch draws it anew with every size free, which may fail."""

    code: fx.GraphModule

    def retrace_as_exported_program(self, gm: fx.GraphModule, *_: Any) -> Any:
        self.code = gm
        raise _DoneError


class _DoneError(Exception):
    pass


def _converted(script: Any, example: Inputs) -> fx.GraphModule | None:
    """Return a script as a graph of layers, None where its code has no such form."""
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            converter = _Converter(script, example)
            with suppress(_DoneError):
                converter.convert()
            network = capture(converter.code, example)
    except (*CAPTURE_ERRORS, NameError):
        return None
    if not isinstance(network.module, fx.GraphModule) or network.graph_lock:
        return None
    compose(network.module)
    return network.module


def _followed(script: Any, source: Source, example: Inputs, notes: tuple[str, ...]) -> Network:
    """Open a script by running it: as the graph of what it did, or as it is."""
    branches = "prim::If" in str(script.inlined_graph) or "prim::Loop" in str(script.inlined_graph)
    names = _names(script, len(example))
    try:
        module = script_network(script, names, source.path)
    except (*CAPTURE_ERRORS, NameError) as error:
        raise UserError(
            f"{source.path} is TorchScript that cannot be turned to layers: "
            f"{running_reason(error)}.",
            EDIT,
        ) from error
    network = opened(module, source, KIND, example, notes)
    if isinstance(network.module, fx.GraphModule):
        compose(network.module)
        return opened(network.module, source, KIND, example, notes)
    if not any(True for _ in module.parameters()) and "<Tensor>" in str(script.inlined_graph):
        network.notes += (FROZEN,)
    if SILENT in network.graph_lock:
        why = ", which branches or loops" if branches else ""
        network.graph_lock = f"torch.export could not follow its script{why}"
    return network


def _with_batch(network: Network, script: Any, path: Path) -> Network:
    """Fix the batch of a graph that gives something else than its script for another batch."""
    if network.graph_lock or not network.dynamic_batch:
        return network
    for times in (None, 2, 5):
        # One sample alone, then more of them than the example has.
        rows = [one[:1] if times is None else torch.cat([one] * times) for one in network.example]
        inputs = tuple(rows)
        try:
            kept = same_outputs(_outputs(script, inputs, path), network, inputs)
        except (UserError, *CAPTURE_ERRORS):
            kept = False
        if not kept:
            return replace(network, dynamic_batch=False, free=())
    return network


def _names(script: Any, count: int) -> list[str]:
    """Return the names of the first inputs of a script, as Python can hold them."""
    told = [value.debugName().partition(".")[0] for value in script.graph.inputs()][1 : count + 1]
    return usable_names(told)
