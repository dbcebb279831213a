"""TorchScript files: read only where their code keeps to tensors, then turned to layers."""

import re
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx
from torch._export.converter import TS2EPConverter

from featherweight.engine.errors import UserError, plain_reason, running_reason
from featherweight.engine.events import Source
from featherweight.engine.lifting import UnliftableError, lift
from featherweight.engine.network import CAPTURE_ERRORS, Inputs, Network
from featherweight.engine.reading.bounds import BoundedMemory, check_shapes, largest_bytes
from featherweight.engine.reading.composing import compose
from featherweight.engine.reading.examples import SMALLEST_VOCABULARY, ordered, random_inputs
from featherweight.engine.reading.opening import in_float32, opened
from featherweight.engine.reading.unpickling import DAMAGE, zip_members

SUFFIXES: tuple[str, ...] = ()
LARGEST_CODE = 1 << 26
# What TorchScript can reach beside tensors: files, memory, other libraries, code that loading runs.
FORBIDDEN = re.compile(
    r"\b(from_file|save|load|set_data|resize_\w*|__setstate__|__getstate__|storage\w*|"
    r"data_ptr|record_stream|fork|wait|rpc\w*)\b|\bops\.(?!prim\.|aten\.|quantized\.)\w+"
)
EDIT = "Save the network itself with torch.save, or with torch.export.save."


def matches(path: Path) -> bool:
    """Say whether torch.jit.save wrote the file."""
    return any(name.endswith("/constants.pkl") for name in zip_members(path))


def read(source: Source) -> Network:
    """Open a script as nn layers, on an example of `source.input_shapes`.

    Raises UserError where its code reaches further than tensors, or cannot be turned to layers.
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
    module = _layers(script, example, path)
    return opened(module, source, "TorchScript", example, notes)


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


def _layers(script: Any, example: Inputs, path: Path) -> fx.GraphModule:
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with BoundedMemory(largest_bytes(path)):
                script(*example)
            program = TS2EPConverter(script, example).convert()
            module = lift(program)
    except (*CAPTURE_ERRORS, UnliftableError) as error:
        raise UserError(
            f"{path} is TorchScript that cannot be turned to layers: {running_reason(error)}.", EDIT
        ) from error
    compose(module)
    return module
