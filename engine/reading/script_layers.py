"""The layers of a script as ordinary ones: they hold its weights, and tell their settings."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Call = Mapping[str, Any]
# Their constructors tell more of their arguments than shapes that are read can.
CONVOLUTIONS: tuple[Any, ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED: tuple[Any, ...] = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
RECURRENT: dict[str, Any] = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
NORMS: dict[str, Any] = {
    kind.__name__: kind for kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
}
SETTINGS = ("stride", "padding", "dilation", "output_padding", "groups")
# How a trace writes every convolution, and what comes after its bias.
WHOLE = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")
# What a constructor says to what does not fit it.
UNFIT = (LookupError, RuntimeError, TypeError, ValueError)


class Settings:
    """What a script's code tells its convolutions, by the names of the layers."""

    def __init__(self, nodes: Sequence[Any]) -> None:
        self._calls = dict(_calls(nodes))

    def of(self, layer: str) -> Call | None:
        """Return the settings of a layer, None where the code tells none."""
        return self._calls.get(layer)

    @staticmethod
    def path(value: Any) -> str | None:
        """Return the dotted name of an attribute of the script, None for any other value."""
        node, parts = value.node(), list[str]()
        while node.kind() == "prim::GetAttr":
            parts.append(node.s("name"))
            node = node.inputsAt(0).node()
        return ".".join(reversed(parts)) if node.kind() == "prim::Param" and parts else None


def layer_of(script: Any, call: Call | None, parameters: dict[Tensor, nn.Parameter]) -> nn.Module:
    """Return a layer with the tensors of one part of a script, without those of its own parts.

    It is of the part's kind where that is a kind of torch's whose settings are known, else a
    module of the same name that cannot run. `parameters` are those made already, by the script's.
    """
    own = dict(script.named_parameters(recurse=False))
    layer = _known(script.original_name, own, call)
    if layer is None:
        layer = type(script.original_name, (nn.Module,), {})()
    for name, value in own.items():
        if value not in parameters:
            parameters[value] = nn.Parameter(value.detach(), value.is_floating_point())
        layer.register_parameter(name, None)
        setattr(layer, name, parameters[value])
    buffers = dict(script.named_buffers(recurse=False))
    for name in [name for name in layer._buffers if name not in buffers]:
        layer.register_buffer(name, None)
    for name, value in buffers.items():
        layer.register_buffer(name, value)
    return layer.eval()


def _known(kind: str, own: dict[str, Tensor], call: Call | None) -> nn.Module | None:
    try:
        with torch.device("meta"):
            layer = _made(kind, {name: tuple(value.shape) for name, value in own.items()}, call)
    except UNFIT:
        return None
    shapes = {name: value.shape for name, value in layer.named_parameters()}
    return layer if shapes == {name: value.shape for name, value in own.items()} else None


def _made(kind: str, shapes: dict[str, tuple[int, ...]], call: Call | None) -> Any:
    """Return a layer of a kind. Raises KeyError where it cannot be known."""
    if kind in RECURRENT:
        return _recurrent(RECURRENT[kind], shapes)
    shape, bias = shapes["weight"], "bias" in shapes
    if kind == "Linear":
        return nn.Linear(shape[1], shape[0], bias)
    if kind == "Embedding":
        return nn.Embedding(shape[0], shape[1])
    if kind == "LayerNorm":
        return nn.LayerNorm(shape, bias=bias)
    if kind in NORMS:
        return NORMS[kind](shape[0])
    if call is None or not kind.startswith("Conv"):
        raise KeyError(kind)
    axes, settings = len(shape) - 3, {name: call[name] for name in SETTINGS if name in call}
    if kind.startswith("ConvTranspose"):
        width = shape[1] * call["groups"]
        return TRANSPOSED[axes](shape[0], width, shape[2:], bias=bias, **settings)
    settings.pop("output_padding", None)
    return CONVOLUTIONS[axes](shape[1] * call["groups"], shape[0], shape[2:], bias=bias, **settings)


def _recurrent(kind: Any, shapes: dict[str, tuple[int, ...]]) -> Any:
    projected = shapes.get("weight_hr_l0", (0,))[0]
    gates = {nn.LSTM: 4, nn.GRU: 3}.get(kind, 1)
    options: dict[str, Any] = {"proj_size": projected} if projected else {}
    return kind(
        shapes["weight_ih_l0"][1],
        shapes["weight_hh_l0"][0] // gates,
        sum(name.startswith("weight_ih_l") and "reverse" not in name for name in shapes),
        bias="bias_ih_l0" in shapes,
        bidirectional="weight_ih_l0_reverse" in shapes,
        **options,
    )


def _calls(nodes: Sequence[Any]) -> Iterator[tuple[str, Call]]:
    for node in nodes:
        if not node.kind().startswith(("aten::conv", "aten::_convolution")):
            continue
        layer, _, tensor = (Settings.path(node.inputsAt(1)) or "").rpartition(".")
        if tensor == "weight":
            values = [_constant(value) for value in list(node.inputs())[3:]]
            yield layer, dict(zip(_words(node.kind()), values, strict=False))


def _words(kind: str) -> tuple[str, ...]:
    if kind == "aten::_convolution":
        return WHOLE
    if "transpose" in kind:
        return ("stride", "padding", "output_padding", "groups", "dilation")
    return ("stride", "padding", "dilation", "groups")


def _constant(value: Any) -> Any:
    """Return what a constant, or a list of constants, is; None for what the code computes."""
    if value.node().kind() == "prim::ListConstruct":
        return tuple(part.toIValue() for part in value.node().inputs())
    found = value.toIValue()
    return tuple(found) if isinstance(found, list) else found
