"""A network's graph as plain data and back: which layers it has and which calls it makes.

Nothing in the plain data is code. Going back, layers are made from an allow-list of kinds, calls
go to tensor operators only, and names are checked, because fx writes them into Python source.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from msgspec import Struct
from torch import Tensor, fx, nn

from featherweight.engine.graph_values import (
    check_identifier,
    check_name,
    plain_value,
    value_from,
)
from featherweight.engine.lifting import container, place
from featherweight.engine.operators import operator_name, operator_named
from featherweight.engine.structured_kinds import STRUCTURED
from featherweight.engine.weight_forms import CompactLayer, WeightForm

MOST_STACKED = 1024

_CONVOLUTION = (
    *("in_channels", "out_channels", "kernel_size", "stride", "padding"),
    *("dilation", "groups", "padding_mode"),
)
_BATCH_NORM = ("num_features", "eps", "momentum", "affine", "track_running_stats")
_RECURRENT = (
    *("input_size", "hidden_size", "num_layers", "bias", "batch_first"),
    *("dropout", "bidirectional"),
)
# The constructor options of every kind of layer; those named `bias` say whether there is one.
OPTIONS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Linear: ("in_features", "out_features", "bias"),
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), (*_CONVOLUTION, "bias")),
    **dict.fromkeys(
        (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
        (*_CONVOLUTION, "output_padding", "bias"),
    ),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), _BATCH_NORM),
    nn.LayerNorm: ("normalized_shape", "eps", "elementwise_affine", "bias"),
    nn.GroupNorm: ("num_groups", "num_channels", "eps", "affine"),
    nn.PReLU: ("num_parameters",),
    nn.Embedding: ("num_embeddings", "embedding_dim", "padding_idx"),
    nn.Dropout: ("p",),
    nn.LSTM: (*_RECURRENT, "proj_size"),
    nn.GRU: _RECURRENT,
    nn.RNN: (*_RECURRENT, "nonlinearity"),
    nn.ChannelShuffle: ("groups",),
    nn.Identity: (),
    **{kind: kind.options for kind in STRUCTURED},
}
KINDS = {kind.__name__: kind for kind in OPTIONS}


class LayerForm(Struct, array_like=True, frozen=True):
    """A layer: its kind, its constructor options, and which of its tensors are held by forms."""

    name: str
    kind: str
    options: dict[str, Any]
    held: tuple[str, ...] = ()


class CallForm(Struct, array_like=True, frozen=True):
    """A node of the graph. Arguments are plain values, or one-key maps for everything else."""

    operation: str
    name: str
    target: str
    arguments: list[Any]
    keywords: dict[str, Any]
    path: str = ""


class GraphForm(Struct, array_like=True, frozen=True):
    """Layers in the order of their first call, and all calls in order."""

    layers: tuple[LayerForm, ...]
    calls: tuple[CallForm, ...]


@dataclass(frozen=True)
class Contents:
    """The tensors of a graph by dotted name, parameters as `nn.Parameter`, and the held forms."""

    tensors: Mapping[str, Tensor]
    forms: Mapping[str, WeightForm] = field(default_factory=dict)


def to_plain(module: fx.GraphModule) -> GraphForm:
    """Return the graph of a module as plain data.

    Raises ValueError, in a sentence, where it holds a layer or a call that files may not name.
    """
    calls, layers = [], {}
    for node in module.graph.nodes:
        target = str(node.target)
        if node.op == "call_module" and target not in layers:
            layers[target] = _layer_form(target, module.get_submodule(target))
        elif node.op == "call_function":
            target = operator_name(node.target)
        arguments = [plain_value(value) for value in node.args]
        keywords = {name: plain_value(value) for name, value in node.kwargs.items()}
        path = node.meta.get("path", "")
        calls.append(CallForm(node.op, node.name, target, arguments, keywords, path))
    return GraphForm(tuple(layers.values()), tuple(calls))


def raw_names(form: GraphForm) -> tuple[str, ...]:
    """Return the names of tensors that the graph uses without a layer."""
    return tuple(dict.fromkeys(call.target for call in form.calls if call.operation == "get_attr"))


def from_plain(form: GraphForm, contents: Contents) -> fx.GraphModule:
    """Return the module of a graph with its tensors, in eval mode.

    Raises ValueError, in a sentence, where the data is no graph of known layers and operators or
    a tensor is missing or of another shape.
    """
    root = nn.Module()
    for name in raw_names(form):
        _place_tensor(root, name, contents)
    for layer in form.layers:
        _place_layer(root, layer, contents)
    graph, nodes = fx.Graph(), dict[str, fx.Node]()
    for call in form.calls:
        if call.name in nodes:
            raise ValueError(f"two calls are named {call.name[:60]!r}")
        nodes[call.name] = _call(graph, call, nodes, {layer.name for layer in form.layers})
    if not form.calls or form.calls[-1].operation != "output":
        raise ValueError("the graph has no output")
    module = fx.GraphModule(root, graph, class_name="Network")
    return module.eval()


def _layer_form(name: str, layer: nn.Module) -> LayerForm:
    held = layer.held() if isinstance(layer, CompactLayer) else {}
    settings = layer.settings if isinstance(layer, CompactLayer) else layer
    others = layer.rest if isinstance(layer, CompactLayer) else layer
    shapes = {tensor: form.shape for tensor, form in held.items()}
    shapes |= {tensor: tuple(value.shape) for tensor, value in others.named_parameters()}
    if type(settings) not in OPTIONS:
        raise ValueError(f"layer {name} is a {type(settings).__name__}, which files cannot name")
    options = {option: _option(settings, option, shapes) for option in OPTIONS[type(settings)]}
    form = LayerForm(name, type(settings).__name__, options, tuple(held))
    if shapes != {tensor: tuple(value.shape) for tensor, value in _bare(form).named_parameters()}:
        raise ValueError(f"the settings of layer {name} do not fit its tensors")
    return form


def _option(settings: nn.Module, name: str, tensors: Mapping[str, Any]) -> Any:
    if name == "bias" and not isinstance(settings, nn.RNNBase):
        return "bias" in tensors
    value = getattr(settings, name)
    return list(value) if isinstance(value, tuple) else value


def _bare(form: LayerForm) -> nn.Module:
    """Return the layer on the meta device."""
    kind = KINDS.get(form.kind)
    if kind is None or set(form.options) - set(OPTIONS[kind]):
        raise ValueError(f"layer {form.name[:60]} is of an unknown kind {form.kind[:60]!r}")
    options = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in form.options.items()
    }
    stacked = options.get("num_layers", 1)
    if not isinstance(stacked, int) or not 0 < stacked <= MOST_STACKED:
        raise ValueError(f"layer {form.name[:60]} has {stacked!r} layers in it")
    try:
        with torch.device("meta"):
            return kind(**options)
    except (ArithmeticError, AssertionError, RuntimeError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"layer {form.name[:60]} cannot be made: {reason[:200]}") from error


def _place_layer(root: nn.Module, form: LayerForm, contents: Contents) -> None:
    layer = _bare(form)
    forms = {}
    for tensor, wanted in [*layer.named_parameters(), *layer.named_buffers()]:
        name = f"{form.name}.{tensor}"
        found = contents.forms if tensor in form.held else contents.tensors
        if name not in found or tuple(found[name].shape) != tuple(wanted.shape):
            raise ValueError(f"tensor {name[:80]} is missing or of another shape")
        if tensor in form.held:
            forms[tensor] = contents.forms[name]
        else:
            _set(layer, tensor, contents.tensors[name], name)
    if form.held and set(forms) != set(form.held):
        raise ValueError(f"layer {form.name[:60]} holds tensors that it does not have")
    _place(root, form.name, CompactLayer(layer, forms) if forms else layer)


def _set(layer: nn.Module, tensor: str, value: Tensor, name: str) -> None:
    if isinstance(value, nn.Parameter) != (tensor in layer._parameters):
        raise ValueError(f"tensor {name[:80]} is a parameter on one side only")
    setattr(layer, tensor, value)


def _place(root: nn.Module, name: str, layer: nn.Module) -> None:
    check_name(name)
    try:
        place(root, name, layer)
    except (AttributeError, KeyError) as error:
        raise ValueError(f"there cannot be a layer named {name[:80]!r}") from error


def _place_tensor(root: nn.Module, name: str, contents: Contents) -> None:
    check_name(name)
    parent, _, leaf = name.rpartition(".")
    if name not in contents.tensors:
        raise ValueError(f"tensor {name[:80]} is missing")
    value = contents.tensors[name]
    try:
        owner = container(root, parent)
        if isinstance(value, nn.Parameter):
            owner.register_parameter(leaf, value)
        else:
            owner.register_buffer(leaf, value)
    except (AttributeError, KeyError) as error:
        raise ValueError(f"there cannot be a tensor named {name[:80]!r}") from error


def _call(graph: fx.Graph, form: CallForm, nodes: dict[str, fx.Node], layers: set[str]) -> fx.Node:
    check_identifier(form.name)
    for keyword_name in form.keywords:
        check_identifier(keyword_name)
    arguments = tuple(value_from(value, nodes) for value in form.arguments)
    keywords = {name: value_from(value, nodes) for name, value in form.keywords.items()}
    target: str | Callable[..., Any] = form.target
    if form.operation == "call_function":
        target = operator_named(form.target)
    elif form.operation == "call_module":
        if form.target not in layers:
            raise ValueError(f"there is no layer {form.target[:80]}")
    elif form.operation == "placeholder":
        check_identifier(form.target)
    elif form.operation not in ("get_attr", "output"):
        raise ValueError(f"there is no call of the kind {form.operation[:40]!r}")
    made = graph.create_node(form.operation, target, arguments, keywords, form.name)
    if form.path:
        made.meta["path"] = form.path
    return made
