"""Which `nn` layer an aten call with parameters is, with its constructor options and arguments."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn


@dataclass(frozen=True)
class LayerBuilder:
    """A layer to make: `tensors` maps its attributes to names of the program's tensors."""

    kind: type[nn.Module]
    name: str
    options: dict[str, Any]
    tensors: dict[str, str]
    arguments: tuple[Any, ...]


class Call:
    """An aten call read by the names of its schema, defaults filled in."""

    def __init__(self, node: fx.Node, named: Callable[[Any], str | None]) -> None:
        schema = node.target._schema  # type: ignore[union-attr]  # every aten overload has one
        self.target = str(node.target)
        self.path, self.owner = module_path(node)
        self.named = named
        self._values = dict(node.kwargs)
        for argument, value in zip(schema.arguments, node.args, strict=False):
            self._values[argument.name] = value
        for argument in schema.arguments:
            if argument.name not in self._values:
                self._values[argument.name] = argument.default_value

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor argument."""
        return tuple(self[name].meta["val"].shape)

    def tensors(self, *names: str, **renamed: str) -> dict[str, str] | None:
        """Map attributes to parameter names; None where one is computed rather than a parameter."""
        found = {}
        for attribute, argument in {**{n: n for n in names}, **renamed}.items():
            if self[argument] is None:
                continue
            source = self.named(self[argument])
            if source is None:
                return None
            found[attribute] = source
        return found


Build = Callable[[Call], LayerBuilder | None]
_builders: dict[str, Build] = {}


def module_path(node: fx.Node) -> tuple[str, str]:
    """Return the dotted name of the module that made the call, and the name of its class."""
    stack = node.meta.get("nn_module_stack") or {}
    found = [value for key, value in stack.items() if not key.startswith("_empty")]
    path, owner = found[-1] if found else ("", "")
    name = owner if isinstance(owner, str) else owner.__qualname__
    return path.partition("@")[0], name.rpartition(".")[2]


def builder_of(node: fx.Node, named: Callable[[Any], str | None]) -> LayerBuilder | None:
    """Return the layer that a call is, None where it has to stay a function.

    `named` gives the name of the parameter or buffer that an argument is, None for anything else.
    """
    build = _builders.get(str(node.target))
    return build(Call(node, named)) if build else None


def _builds(*targets: str) -> Callable[[Build], Build]:
    def register(build: Build) -> Build:
        _builders.update(dict.fromkeys(targets, build))
        return build

    return register


def _name(call: Call, kind: type[nn.Module], weight: str) -> str:
    """Name a layer after the module that it is, else after its weight: `a.fc.weight` is `a.fc`."""
    if call.owner == kind.__name__ and call.path:
        return call.path
    owner, _, leaf = weight.rpartition(".")
    if leaf.startswith("weight"):
        return owner or call.path or "layer"
    return weight.removesuffix("_weight")


def _every(value: Any, dimensions: int) -> tuple[int, ...]:
    values = tuple(value)
    return values * dimensions if len(values) == 1 else values


@_builds(
    *(f"aten.conv{n}d.default" for n in (1, 2, 3)),
    *(f"aten.conv{n}d.padding" for n in (1, 2, 3)),
)
def _convolution(call: Call) -> LayerBuilder | None:
    tensors = call.tensors("weight", "bias")
    if not tensors:
        return None
    outputs, inputs, *kernel = call.shape("weight")
    n = len(kernel)
    padding = call["padding"]
    options = {
        "in_channels": inputs * call["groups"],
        "out_channels": outputs,
        "kernel_size": tuple(kernel),
        "stride": _every(call["stride"], n),
        "padding": padding if isinstance(padding, str) else _every(padding, n),
        "dilation": _every(call["dilation"], n),
        "groups": call["groups"],
        "bias": call["bias"] is not None,
    }
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[n - 1]
    name = _name(call, kind, tensors["weight"])
    return LayerBuilder(kind, name, options, tensors, (call["input"],))


@_builds(
    "aten.conv_transpose1d.default", "aten.conv_transpose2d.input", "aten.conv_transpose3d.input"
)
def _transposed_convolution(call: Call) -> LayerBuilder | None:
    tensors = call.tensors("weight", "bias")
    if not tensors:
        return None
    inputs, outputs, *kernel = call.shape("weight")
    n = len(kernel)
    options = {
        "in_channels": inputs,
        "out_channels": outputs * call["groups"],
        "kernel_size": tuple(kernel),
        "stride": _every(call["stride"], n),
        "padding": _every(call["padding"], n),
        "output_padding": _every(call["output_padding"], n),
        "dilation": _every(call["dilation"], n),
        "groups": call["groups"],
        "bias": call["bias"] is not None,
    }
    kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[n - 1]
    name = _name(call, kind, tensors["weight"])
    return LayerBuilder(kind, name, options, tensors, (call["input"],))


@_builds("aten.linear.default")
def _linear(call: Call) -> LayerBuilder | None:
    tensors = call.tensors("weight", "bias")
    if not tensors:
        return None
    outputs, inputs = call.shape("weight")
    options = {"in_features": inputs, "out_features": outputs, "bias": call["bias"] is not None}
    name = _name(call, nn.Linear, tensors["weight"])
    return LayerBuilder(nn.Linear, name, options, tensors, (call["input"],))


@_builds("aten.batch_norm.default")
def _batch_norm(call: Call) -> LayerBuilder | None:
    tensors = call.tensors("weight", "bias", "running_mean", "running_var")
    if not tensors or "running_mean" not in tensors:
        return None
    channels = call.shape("running_mean")[0]
    options = {
        "num_features": channels,
        "eps": call["eps"],
        "momentum": call["momentum"],
        "affine": "weight" in tensors,
    }
    spatial = len(call.shape("input"))
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[spatial]
    name = _name(call, kind, tensors["running_mean"].replace("running_mean", "weight"))
    return LayerBuilder(kind, name, options, tensors, (call["input"],))


@_builds("aten.layer_norm.default")
def _layer_norm(call: Call) -> LayerBuilder | None:
    tensors = call.tensors("weight", "bias")
    if not tensors:
        return None
    shape = [int(size) for size in call["normalized_shape"]]
    options = {"normalized_shape": shape, "eps": call["eps"], "bias": "bias" in tensors}
    name = _name(call, nn.LayerNorm, tensors["weight"])
    return LayerBuilder(nn.LayerNorm, name, options, tensors, (call["input"],))


@_builds("aten.group_norm.default")
def _group_norm(call: Call) -> LayerBuilder | None:
    tensors = call.tensors("weight", "bias")
    if not tensors or len(tensors) < 2:
        return None
    channels = call.shape("weight")[0]
    options = {"num_groups": call["num_groups"], "num_channels": channels, "eps": call["eps"]}
    name = _name(call, nn.GroupNorm, tensors["weight"])
    return LayerBuilder(nn.GroupNorm, name, options, tensors, (call["input"],))


@_builds("aten.prelu.default")
def _prelu(call: Call) -> LayerBuilder | None:
    tensors = call.tensors("weight")
    if not tensors:
        return None
    options = {"num_parameters": call.shape("weight")[0]}
    name = _name(call, nn.PReLU, tensors["weight"])
    return LayerBuilder(nn.PReLU, name, options, tensors, (call["self"],))


@_builds("aten.embedding.default")
def _embedding(call: Call) -> LayerBuilder | None:
    tensors = call.tensors("weight")
    if not tensors:
        return None
    rows, width = call.shape("weight")
    padding = call["padding_idx"]
    options = {
        "num_embeddings": rows,
        "embedding_dim": width,
        "padding_idx": padding if padding is not None and padding >= 0 else None,
    }
    name = _name(call, nn.Embedding, tensors["weight"])
    return LayerBuilder(nn.Embedding, name, options, tensors, (call["indices"],))


@_builds("aten.dropout.default")
def _dropout(call: Call) -> LayerBuilder:
    name = call.path or "dropout"
    return LayerBuilder(nn.Dropout, name, {"p": call["p"]}, {}, (call["input"],))


# The kind of layer and how many gates it has.
_RECURRENT: dict[str, tuple[type[nn.Module], int]] = {
    "aten.lstm.input": (nn.LSTM, 4),
    "aten.gru.input": (nn.GRU, 3),
    "aten.rnn_tanh.input": (nn.RNN, 1),
    "aten.rnn_relu.input": (nn.RNN, 1),
}


@_builds(*_RECURRENT)
def _recurrent(call: Call) -> LayerBuilder | None:
    names = [call.named(value) for value in call["params"]]
    if None in names:
        return None
    tensors = {str(name).rpartition(".")[2]: str(name) for name in names}
    kind, gates = _RECURRENT[call.target]
    rows = call["params"][0].meta["val"].shape[0]
    hidden, given = rows // gates, call["params"][1].meta["val"].shape[1]
    options: dict[str, Any] = {
        "input_size": call["params"][0].meta["val"].shape[1],
        "hidden_size": hidden,
        "num_layers": call["num_layers"],
        "bias": call["has_biases"],
        "batch_first": call["batch_first"],
        "dropout": call["dropout"],
        "bidirectional": call["bidirectional"],
    }
    state = call["hx"]
    if call.target == "aten.rnn_relu.input":
        options["nonlinearity"] = "relu"
    if given != hidden:
        options["proj_size"] = given
    expected = set(_recurrent_names(kind, options))
    if set(tensors) != expected:
        return None
    name = _name(call, kind, str(names[0]))
    hx = tuple(state) if isinstance(state, list | tuple) else state
    return LayerBuilder(kind, name, options, tensors, (call["input"], hx))


def _recurrent_names(kind: type[nn.Module], options: dict[str, Any]) -> list[str]:
    with torch.device("meta"):
        return [name for name, _ in kind(**options).named_parameters()]
