"""The graph of a `.pt2` file: its JSON nodes as an fx graph of PyTorch's own operators."""

import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from featherweight.engine.errors import UserError
from featherweight.engine.lifting import container
from featherweight.engine.operators import operator_named
from featherweight.engine.reading.examples import SMALLEST_VOCABULARY
from featherweight.engine.reading.opening import check_name

Json = dict[str, Any]

DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
MEMORY_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
PLAIN = ("int", "ints", "float", "floats", "string", "strings", "bool", "bools", "int_lists")

ASSERTIONS = ("torch.ops.aten._assert", "torch.ops.aten.sym_constrain_range")


class ProgramGraph:
    """One exported program. `tensors` are its parameters, buffers and constants by dotted name."""

    def __init__(self, program: Json, tensors: Mapping[str, Tensor], path: str) -> None:
        self.path = path
        self.tensors = tensors
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.values: dict[str, fx.Node] = {}
        self.sources: dict[str, str] = {}
        self.described: Json = program["graph"]
        self.inputs: list[str] = []
        self.signature: Json = program["signature"]
        self.calls: list[Json] = program.get("module_call_graph", [])
        for spec in self.signature["input_specs"]:
            self._take_input(spec)

    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Return the shapes that the program was exported with; a free size has its hint."""
        metas = (self.described["tensor_values"][name] for name in self.inputs)
        return tuple(tuple(_size(size) for size in meta["sizes"]) for meta in metas)

    def free_places(self) -> tuple[tuple[int, int], ...]:
        """Return the free dimensions of inputs: position of the input, and the dimension."""
        metas = [self.described["tensor_values"][name] for name in self.inputs]
        return tuple(
            (position, dimension)
            for position, meta in enumerate(metas)
            for dimension, size in enumerate(meta["sizes"])
            if "as_int" not in size
        )

    def input_dtypes(self) -> tuple[str, ...]:
        """Return the dtypes of the inputs."""
        metas = (self.described["tensor_values"][name] for name in self.inputs)
        return tuple(str(DTYPES[meta["dtype"]]).removeprefix("torch.") for meta in metas)

    def vocabulary(self) -> int:
        """Return the rows of the smallest embedding: indices below it are valid."""
        rows = []
        for node in self.described["nodes"]:
            if node["target"].startswith("torch.ops.aten.embedding."):
                weight = node["inputs"][0]["arg"].get("as_tensor", {}).get("name", "")
                if weight in self.sources:
                    rows.append(self.tensors[self.sources[weight]].shape[0])
        return min(rows, default=SMALLEST_VOCABULARY)

    def module(self) -> fx.GraphModule:
        """Return the program as a module of raw parameters and aten calls.

        It gives a dictionary where the program does, its keys plain names.
        Raises UserError where it calls anything else.
        """
        for node in self.described["nodes"]:
            self._take_call(node)
        results = [
            self._argument(argument)
            for argument, spec in zip(
                self.described["outputs"], self.signature["output_specs"], strict=True
            )
            if "user_output" in spec
        ]
        names = self._output_names(len(results))
        named = dict(zip(names, results, strict=False))
        self.graph.output(named or (results[0] if len(results) == 1 else tuple(results)))
        return fx.GraphModule(self.root, self.graph, class_name="Network")

    def _output_names(self, count: int) -> list[str]:
        """Return the keys under which the outputs lie in a dictionary; empty where in none."""
        calls = (call for call in self.calls if call.get("fqn") == "" and call.get("signature"))
        told = next((call["signature"]["out_spec"] for call in calls), "[]")
        names = list(_keys(json.loads(told)[1:]))
        plain = len(set(names)) == count and all(
            re.fullmatch(r"[A-Za-z_]\w*", one) for one in names
        )
        return names if plain and len(names) == count else []

    def _take_input(self, spec: Json) -> None:
        ((kind, details),) = spec.items()
        if kind == "user_input" and "as_tensor" in details["arg"]:
            name = details["arg"]["as_tensor"]["name"]
            self.inputs.append(name)
            self.values[name] = self.graph.placeholder(name)
        elif kind == "constant_input":
            # The program was made for its value, and does not read it.
            return
        elif kind in ("parameter", "buffer", "tensor_constant"):
            self._register(details["arg"]["name"], details[f"{kind}_name"])
        else:
            raise UserError(
                f"{self.path} takes an input of the kind {kind}, not a tensor.",
                "Export the network with tensors as its only inputs.",
            )

    def _register(self, name: str, source: str) -> None:
        check_name(source, self.path)
        parent, _, leaf = source.rpartition(".")
        owner, tensor = container(self.root, parent), self.tensors[source]
        if isinstance(tensor, nn.Parameter):
            owner.register_parameter(leaf, tensor)
        else:
            owner.register_buffer(leaf, tensor)
        self.sources[name] = source
        self.values[name] = self.graph.get_attr(source)

    def _take_call(self, node: Json) -> None:
        target = self._target(str(node["target"]))
        if target is None:
            return
        arguments, keywords = [], {}
        for given in node["inputs"]:
            value = self._argument(given["arg"])
            if given.get("kind") == 1:
                arguments.append(value)
            else:
                keywords[given["name"]] = value
        made = self.graph.call_function(target, tuple(arguments), keywords)
        names = list(_names(node["outputs"]))
        several = len(node["outputs"]) > 1 or any("as_tensors" in out for out in node["outputs"])
        for position, name in enumerate(names):
            part = self.graph.call_function(operator.getitem, (made, position)) if several else made
            self.values[name] = part

    def _target(self, name: str) -> Callable[..., Any] | None:
        """Return the operator of a name, None for an assertion, which gives nothing."""
        if name.startswith(ASSERTIONS):
            return None
        try:
            return operator_named(name)
        except ValueError as error:
            raise self._refused(name) from error

    def _refused(self, name: str) -> UserError:
        return UserError(
            f"{self.path} is refused: it calls {name[:80]}, which is none of the tensor operators "
            "that networks are made of.",
            "Export the network with PyTorch's own operators and without control flow.",
        )

    def _argument(self, argument: Json) -> Any:
        ((kind, value),) = argument.items()
        kind = kind.removeprefix("as_")
        if kind in PLAIN:
            return _plain(kind, value)
        if kind == "none":
            return None
        if kind == "tensor":
            return self.values[value["name"]]
        if kind == "name":
            return self.values[value]
        if kind in ("sym_int", "sym_float", "sym_bool", "optional_tensor"):
            return self._argument(value)
        if kind in ("sym_ints", "sym_floats", "sym_bools", "optional_tensors"):
            return [self._argument(part) for part in value]
        if kind == "tensors":
            return [self.values[part["name"]] for part in value]
        constants: dict[str, dict[int, Any]]
        constants = {"scalar_type": DTYPES, "memory_format": MEMORY_FORMATS}
        if kind in constants:
            return constants[kind][value]
        if kind == "device":
            return torch.device("cpu")
        if kind == "layout":
            return torch.strided
        raise self._refused(f"something with an argument of the kind {kind}")


def _plain(kind: str, value: Any) -> Any:
    if kind == "float":
        return float(value)
    return [float(part) for part in value] if kind == "floats" else value


def _keys(specs: list[Json], path: tuple[str, ...] = ()) -> Iterator[str]:
    """Give the names of the leaves of a described structure: the keys on the way to each."""
    for spec in specs:
        kind, parts = spec["type"], spec["children_spec"]
        if kind is None:
            yield "_".join(path)
        elif kind == "builtins.dict":
            for key, part in zip(json.loads(spec["context"]), parts, strict=True):
                yield from _keys([part], (*path, str(key)))
        else:
            yield from _keys(parts, path)


def _size(size: Json) -> int:
    known = size["as_int"] if "as_int" in size else size["as_expr"]["hint"]["as_int"]
    return int(known)


def _names(outputs: list[Json]) -> Iterator[str]:
    """Give the names of the results of a call, in order."""
    for output in outputs:
        ((kind, value),) = output.items()
        if kind == "as_tensors":
            yield from (part["name"] for part in value)
        elif kind == "as_none":
            yield ""
        else:
            yield value["name"] if "name" in value else value["as_name"]
