"""`.pt2` files of torch.export.save, read by ourselves: JSON and raw tensors, never a pickle.

torch.export.load would unpickle parts of the file and evaluate expressions and guards in it.
"""

import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featherweight.engine.errors import UserError, plain_reason
from featherweight.engine.events import Source
from featherweight.engine.free_sizes import Place
from featherweight.engine.network import Inputs, Network
from featherweight.engine.reading.bounds import ALWAYS_BYTES, check_members, check_shapes
from featherweight.engine.reading.composing import compose
from featherweight.engine.reading.examples import ordered, random_inputs
from featherweight.engine.reading.opening import opened
from featherweight.engine.reading.program_graph import DTYPES, ProgramGraph
from featherweight.engine.reading.unpickling import DAMAGE, zip_members

SUFFIXES = (".pt2",)
SCHEMA = 8
PROGRAM = "models/model.json"
NEEDED = (PROGRAM, "data/weights/model_weights_config.json")

Json = dict[str, Any]


def matches(path: Path) -> bool:
    """Say whether a zip holds a program that torch.export.save wrote."""
    return any(name.endswith(f"/{PROGRAM}") for name in zip_members(path))


def read(source: Source) -> Network:
    """Open an exported program; its example inputs have the shapes that it was exported with.

    Raises UserError where a part of the file is a pickle or compiled code, and where it calls
    anything but PyTorch's own operators.
    """
    path = Path(source.path)
    try:
        with zipfile.ZipFile(path) as archive:
            module, example, may_vary = _program(_Parts(archive, path), source)
    except DAMAGE as error:
        raise UserError(
            f"{path} is damaged or no file of torch.export.save: {plain_reason(error)}.",
            "Save it again with torch.export.save.",
        ) from error
    return opened(module, source, "exported program", example, (), may_vary)


def _program(parts: "_Parts", source: Source) -> tuple[nn.Module, Inputs, tuple[Place, ...]]:
    program = parts.json(PROGRAM)
    major = program["schema_version"]["major"]
    if major != SCHEMA:
        raise UserError(
            f"{parts.path} was saved by another version of PyTorch (schema {major}, not {SCHEMA}).",
            "Save it again with PyTorch 2.13.",
        )
    tensors = {**parts.tensors("weights"), **parts.tensors("constants")}
    graph = ProgramGraph(program["graph_module"], tensors, str(parts.path))
    shapes = ordered(source, graph.inputs).input_shapes or graph.input_shapes()
    check_shapes(shapes, str(parts.path))
    module = graph.module()
    compose(module)
    example = random_inputs(shapes, graph.input_dtypes(), graph.vocabulary())
    return module, example, graph.free_places()


class _Parts:
    """The members of the zip. They are stored as they are: a compressed one is not torch's."""

    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        self.archive = archive
        self.path = path
        names = archive.namelist()
        check_members(archive, str(path))
        self.root = next(name for name in names if name.endswith(f"/{PROGRAM}"))[: -len(PROGRAM)]
        if any(name.startswith(f"{self.root}data/aotinductor/") for name in names):
            raise UserError(
                f"{path} is refused: it holds compiled code, which opening it would run.",
                "Ask for the file of torch.export.save without compiled parts.",
            )
        for name in NEEDED:
            if self.root + name not in names:
                raise ValueError(f"it lacks {name}")

    def data(self, name: str) -> bytes:
        return self.archive.read(self.root + name)

    def json(self, name: str) -> Json:
        value: Json = json.loads(self.data(name))
        return value

    def tensors(self, kind: str) -> dict[str, Tensor]:
        """Return the tensors of a folder by name; those of one stretch of bytes are one tensor."""
        config: Mapping[str, Json] = self.json(f"data/{kind}/model_{kind}_config.json")["config"]
        made: dict[str, Tensor] = {}
        for entry in config.values():
            if entry["use_pickle"] or entry["tensor_meta"] is None:
                raise UserError(
                    f"{self.path} is refused: its part {str(entry['path_name'])[:60]} is pickled, "
                    "and could run code when it is opened.",
                    "Ask for the file of a network of plain tensors.",
                )
            key = json.dumps(entry)
            if key not in made:
                data = self.data(f"data/{kind}/{entry['path_name']}")
                made[key] = _tensor(data, entry["tensor_meta"])
                if entry["is_param"]:
                    made[key] = nn.Parameter(made[key], made[key].is_floating_point())
        return {name: made[json.dumps(entry)] for name, entry in config.items()}


def _tensor(data: bytes, meta: Json) -> Tensor:
    dtype = DTYPES[meta["dtype"]]
    sizes, strides = ([size["as_int"] for size in meta[key]] for key in ("sizes", "strides"))
    if math.prod(sizes) * dtype.itemsize > max(ALWAYS_BYTES >> 3, len(data)):
        raise ValueError(f"a tensor of {len(data)} bytes has the shape {sizes}")
    if not data:
        return torch.zeros(sizes, dtype=dtype)
    flat = torch.frombuffer(bytearray(data), dtype=dtype)
    return flat.as_strided(sizes, strides, meta["storage_offset"]["as_int"]).contiguous()
