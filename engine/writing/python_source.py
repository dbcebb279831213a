"""A network's graph as Python source: plain torch layers, and a forward that people can read."""

import inspect
import json
import keyword
import math
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload

from featherweight.engine.graph_form import KINDS, to_plain
from featherweight.engine.structured_layers import StructuredLayer
from featherweight.engine.writing.python_frame import framed

INDENT = " " * 8
LINE = 96
# What torch.export writes for an end that is left out.
LAST = str(2**63 - 1)

# Calls of aten that read better otherwise; what is in none of these is called as it is.
INFIX = {
    **{f"aten.{name}.{kind}": sign for name, sign in (("add", "+"), ("mul", "*"), ("div", "/"))
       for kind in ("Tensor", "Scalar")},
    **{f"aten.sub.{kind}": "-" for kind in ("Tensor", "Scalar")},
    "aten.matmul.default": "@",
}  # fmt: skip
NUMBERS = {"add": "+", "sub": "-", "mul": "*", "floordiv": "//", "truediv": "/", "mod": "%"}
METHODS = (
    *("view", "reshape", "permute", "transpose", "unsqueeze", "squeeze", "flatten", "expand"),
    *("contiguous", "mean", "sum", "chunk", "unbind", "select", "narrow", "clone", "clamp"),
)
FUNCTIONS = (
    *("relu", "sigmoid", "tanh", "cat", "stack", "bmm", "exp", "sqrt", "rsqrt", "erf", "neg"),
    *("roll", "pow", "abs", "log", "rsub", "index_select", "where", "tril", "triu", "einsum"),
)
MAKERS = (
    "arange",
    "zeros",
    "ones",
    "full",
    "zeros_like",
    "ones_like",
    "full_like",
    "scalar_tensor",
)
# Where and how memory is taken is left to torch.
PLACES = ("device=", "pin_memory=", "layout=", "memory_format=")
FUNCTIONAL = (
    *("gelu", "silu", "elu", "leaky_relu", "hardtanh", "hardswish", "hardsigmoid", "softplus"),
    *("mish", "relu6", "avg_pool2d", "max_pool2d", "avg_pool1d", "max_pool1d"),
    *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "scaled_dot_product_attention", "pad"),
)
SOFTMAX = {"aten.softmax.int": "softmax", "aten.log_softmax.int": "log_softmax"}


class SourceWriter:
    """Writes one graph module. `names` maps its tensors to those of the written network."""

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self.layers = {form.name: form for form in to_plain(module).layers}
        self.attributes: dict[str, str] = {}
        self.values: dict[str, str] = {}
        self.names: dict[str, str] = {}

    def text(self, forms: tuple[str, ...] = ()) -> str:
        """Return the source. Raises ValueError, in a sentence, where files cannot name a call.

        `forms` are those of weights that are packed in the file beside it.
        """
        made = list(self._layers())
        ties = self._ties()
        inputs = [node.name for node in self.module.graph.nodes if node.op == "placeholder"]
        arguments = ", ".join(f"{self._value_name(name)}: torch.Tensor" for name in inputs)
        lines = [
            "class Network(nn.Module):",
            "    def __init__(self) -> None:",
            f"{INDENT}super().__init__()",
            *made,
            *(f"{INDENT}self.{name} = self.{kept}" for name, kept in ties.items()),
            "",
            f"    def forward(self, {arguments}):",
            *self._calls(),
        ]
        own = _own_classes({KINDS[form.kind] for form in self.layers.values()})
        return framed("\n\n\n".join([*own, "\n".join(lines)]), ties, forms)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by their names in the written network, each once."""
        held = {self.names[name]: value for name, value in _all_tensors(self.module)
                if name in self.names}  # fmt: skip
        return {name: value.detach() for name, value in held.items() if name not in self._ties()}

    def _ties(self) -> dict[str, str]:
        first: dict[int, str] = {}
        ties: dict[str, str] = {}
        for name, value in _all_tensors(self.module):
            if name in self.names:
                kept = first.setdefault(id(value), self.names[name])
                if kept != self.names[name]:
                    ties[self.names[name]] = kept
        return ties

    def _layers(self) -> Iterator[str]:
        for name, form in self.layers.items():
            attribute = self._attribute(name)
            options = _options(KINDS[form.kind], form.options)
            yield _wrapped(f"{INDENT}self.{attribute} = {_class(form.kind)}(", options)
            layer = self.module.get_submodule(name)
            for inner in layer.state_dict():
                self.names[f"{name}.{inner}"] = f"{attribute}.{inner}"
        raw = [node.target for node in self.module.graph.nodes if node.op == "get_attr"]
        for name in dict.fromkeys(map(str, raw)):
            attribute, value = self._attribute(name), _tensor(self.module, name)
            self.names[name] = attribute
            shape = f"{list(value.shape)}"
            if isinstance(value, nn.Parameter):
                yield f"{INDENT}self.{attribute} = nn.Parameter(torch.empty({shape}))"
            else:
                empty = f"torch.empty({shape}, dtype={value.dtype})"
                yield f'{INDENT}self.register_buffer("{attribute}", {empty})'

    def _attribute(self, name: str) -> str:
        """Return a name for a layer or a tensor that nothing of the class has."""
        plain = re.sub(r"\W", "_", name)
        plain = f"layer_{plain}" if not plain.isidentifier() else plain
        while hasattr(nn.Module, plain) or plain in self.attributes.values() or _is_word(plain):
            plain += "_"
        self.attributes[name] = plain
        return plain

    def _value_name(self, name: str) -> str:
        if name not in self.values:
            plain = re.sub(r"_(default|tensor|int|dim|scalar)(?=(_\d+)?$)", "", name)
            while plain in self.values.values() or _is_word(plain):
                plain += "_"
            self.values[name] = plain
        return self.values[name]

    def _calls(self) -> Iterator[str]:
        uses = {node: len(node.users) for node in self.module.graph.nodes}
        for node in self.module.graph.nodes:
            if node.op == "output":
                yield f"{INDENT}return {self._told(node.args[0])}"
            elif node.op in ("call_module", "call_function") and (uses[node] or not node.args):
                yield f"{INDENT}{self._value_name(node.name)} = {self._call(node)}"

    def _call(self, node: fx.Node) -> str:
        if node.op == "call_module":
            arguments = [self._told(value) for value in node.args]
            return f"self.{self.attributes[str(node.target)]}({', '.join(arguments)})"
        given = [self._told(value) for value in node.args]
        named = [f"{name}={self._told(value)}" for name, value in node.kwargs.items()]
        if not isinstance(node.target, OpOverload):
            return _number_call(node.target, given)
        return self._operator(str(node.target), given, named)

    def _operator(self, name: str, given: list[str], named: list[str]) -> str:
        packet = name.split(".")[1]
        if name in INFIX and len(given) == 2 and not named:
            return f"{given[0]} {INFIX[name]} {given[1]}"
        if name == "aten.sym_size.int":
            return f"{given[0]}.shape[{given[1]}]"
        if name == "aten.slice.Tensor" and given[1:2] in (["0"], ["1"], ["2"], ["3"]):
            return _sliced(given)
        if packet in MAKERS:
            named = [one for one in named if not one.startswith(PLACES)]
        both = ", ".join([*given, *named])
        if packet in METHODS:
            return f"{given[0]}.{packet}({', '.join([*given[1:], *named])})"
        if name in SOFTMAX:
            return f"torch.{SOFTMAX[name]}({both})"
        if packet in FUNCTIONS or packet in MAKERS:
            return f"torch.{packet}({both})"
        if packet in FUNCTIONAL:
            return f"functional.{packet}({both})"
        return f"torch.ops.{name}({both})"

    def _told(self, value: Any) -> str:
        if isinstance(value, fx.Node):
            if value.op == "get_attr":
                return f"self.{self.attributes[str(value.target)]}"
            return self._value_name(value.name)
        if isinstance(value, list | tuple):
            inner = ", ".join(self._told(part) for part in value)
            comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
            return f"[{inner}]" if isinstance(value, list) else f"({inner}{comma})"
        if isinstance(value, slice):
            return f"slice({', '.join(map(self._told, (value.start, value.stop, value.step)))})"
        if isinstance(value, str):
            return json.dumps(value)
        if isinstance(value, float) and not math.isfinite(value):
            return f'float("{value}")'
        return f'torch.device("{value}")' if isinstance(value, torch.device) else repr(value)


def _class(kind: str) -> str:
    """Return how the source names a kind of layer: of torch, or written into it."""
    return kind if issubclass(KINDS[kind], StructuredLayer) else f"nn.{kind}"


def _own_classes(kinds: set[type[nn.Module]]) -> list[str]:
    """Return the source of the layers that torch has not, their base first."""
    named = sorted((kind for kind in kinds if issubclass(kind, StructuredLayer)),
                   key=lambda kind: kind.__name__)  # fmt: skip
    own = dict.fromkeys(
        base
        for kind in named
        for base in reversed(kind.__mro__)
        if issubclass(base, StructuredLayer)
    )
    return [inspect.getsource(kind).rstrip() for kind in own]


def _sliced(given: list[str]) -> str:
    """Return a slice as Python writes it."""
    value, axis, start, end, step = [*given, "None", "None", "1"][:5]
    ends = "" if end in ("None", LAST) else end
    cut = f"{'' if start in ('None', '0') else start}:{ends}" + (f":{step}" if step != "1" else "")
    return f"{value}[{', '.join([':'] * int(axis) + [cut])}]"


def _number_call(target: Any, given: list[str]) -> str:
    name = getattr(target, "__name__", "")
    module = str(getattr(target, "__module__", "")).strip("_")
    if name == "getitem":
        return f"{given[0]}[{given[1]}]"
    if name in NUMBERS and module == "operator":
        return f"{given[0]} {NUMBERS[name]} {given[1]}"
    return f"{module if module in ('math', 'operator') else 'torch'}.{name}({', '.join(given)})"


def _options(kind: type[nn.Module], options: dict[str, Any]) -> list[str]:
    """Return the arguments of a layer that are not the usual ones."""
    usual = {
        name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()
    }
    if issubclass(kind, nn.RNNBase):
        usual = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0,
                 "bidirectional": False, "proj_size": 0, "nonlinearity": "tanh"}  # fmt: skip
    told = []
    for name, value in options.items():
        given = tuple(value) if isinstance(value, list) else value
        default = usual.get(name, inspect.Parameter.empty)
        same = given == default or (
            isinstance(given, tuple) and all(part == default for part in given)
        )
        if not same:
            told.append(f"{name}={given!r}")
    return told


def _wrapped(start: str, arguments: list[str]) -> str:
    """Return a call in one line, or with an argument in each where it is too long."""
    line = f"{start}{', '.join(arguments)})"
    if len(line) <= LINE:
        return line
    return "\n".join([start, *(f"{INDENT}    {one}," for one in arguments), f"{INDENT})"])


def _is_word(name: str) -> bool:
    return keyword.iskeyword(name) or name in ("self", "torch", "nn", "functional", "math",
                                               "operator", "Path")  # fmt: skip


def _all_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _tensor(module: nn.Module, name: str) -> Tensor:
    owner, _, leaf = name.rpartition(".")
    value: Tensor = getattr(module.get_submodule(owner), leaf)
    return value
