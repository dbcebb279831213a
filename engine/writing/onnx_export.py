"""A network as an ONNX graph in which compact weights are inputs, ready to get their small form.

As inputs they are safe from the exporter, which would fold them into other constants. So are the
few numbers of structured matrices, which it would multiply out; they come back before the end.
"""

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, fx, nn

from featherweight.engine.errors import UserError
from featherweight.engine.free_sizes import BATCH, dynamic_shapes
from featherweight.engine.network import CAPTURE_ERRORS, Inputs, Network
from featherweight.engine.recurrent_shapes import whole_recurrence
from featherweight.engine.structured_layers import StructuredLayer
from featherweight.engine.weight_forms import CompactLayer, FloatForm, StoredForm, WeightForm
from featherweight.engine.writing.traced_sizes import follow_sizes

LEGACY_OPSET = 17


@dataclass(frozen=True)
class Exported:
    """The graph, the stored forms of its weight inputs by their names there, and notes."""

    model: onnx.ModelProto
    forms: dict[str, StoredForm]
    inputs: tuple[str, ...]
    notes: tuple[str, ...] = ()


class _Given(WeightForm):
    """A weight that comes from outside."""

    def __init__(self, shape: tuple[int, ...], source: Callable[[], Tensor]) -> None:
        super().__init__(shape)
        self.source = source

    def forward(self) -> Tensor:
        return self.source()


class _WithWeightInputs(nn.Module):
    """A network that takes its compact weights behind its own inputs."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.count = len(network.example)
        table: dict[str, Tensor] = {}
        # torch.export looks into dictionaries of a module, and not into functions.
        self.give = table.update
        copy = network.copy()
        self.numbers = _with_forms(copy)
        module = copy.module
        self.forms = _stored(module)
        self.values = tuple(form() for form in self.forms.values())
        for name, layer in module.named_modules():
            if isinstance(layer, CompactLayer):
                for tensor in list(layer.forms):
                    key = f"{name}.{tensor}"
                    form = self.forms[key]
                    layer.forms[tensor] = _Given(form.shape, partial(table.__getitem__, key))
        self.network = module
        self.eval()

    def forward(self, *arguments: Tensor) -> Any:
        self.give(zip(self.forms, arguments[self.count :], strict=True))
        return self.network(*arguments[: self.count])


def export(network: Network, opset: int) -> Exported:
    """Export with those sizes free that the network has free; the older exporter is the fallback.

    The network is in eval mode in the graph and unchanged itself. Raises UserError where neither
    exporter can follow it.
    """
    module = _WithWeightInputs(network)
    inputs = network.input_names
    names = [*inputs, *module.forms]
    example = _example(network)
    reason = network.graph_lock or _unknown_recurrence(network)
    with torch.no_grad(), _quiet():
        if not reason:
            try:
                model = _by_graph(module, example, network, names, opset)
                _name_weights(model)
                return Exported(model, _put_numbers(model, module), inputs)
            except CAPTURE_ERRORS as error:
                reason = _reason(error)
        model = _by_trace(module, example, network, names)
        _name_weights(model)
    note = f"The older exporter wrote the file, because the newer one failed: {reason}"
    return Exported(model, _put_numbers(model, module), inputs, (note,))


def _unknown_recurrence(network: Network) -> str:
    """Return why the newer exporter cannot write a recurrent layer; empty where it can.

    It knows LSTM and GRU; of other layers it would write the shapes alone (see recurrent_shapes).
    """
    layers = network.module.modules()
    plain = (layer.settings if isinstance(layer, CompactLayer) else layer for layer in layers)
    if any(isinstance(layer, nn.RNN) for layer in plain):
        return "it knows no plain recurrent layers"
    return ""


def _by_graph(
    module: _WithWeightInputs, example: Inputs, network: Network, names: list[str], opset: int
) -> onnx.ModelProto:
    shapes = dynamic_shapes(example, network.dynamic_batch, network.free)
    with whole_recurrence():
        program = torch.onnx.export(
            module,
            (*example, *module.values),
            dynamo=True,
            input_names=names,
            output_names=_output_names(network, names),
            dynamic_shapes={"arguments": (*shapes, *({} for _ in module.forms))},
            opset_version=opset,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("it gave no program")
    made = program.model_proto
    model = onnx.load_model_from_string(made.SerializeToString())
    _drop_remarks(model)
    _name_sizes(model, network)
    return model


def traced(network: Network) -> Exported:
    """Export by the older exporter, which is tens of times faster, at the example's sizes alone.

    The graph is good for timing: what goes by sizes is written as the example takes it. Raises
    UserError where the exporter cannot follow the network.
    """
    module = _WithWeightInputs(network)
    inputs = network.input_names
    with torch.no_grad(), _quiet():
        model, _ = _trace(module, network.example, network, [*inputs, *module.forms], {})
    _name_weights(model)
    return Exported(model, _put_numbers(model, module), inputs)


def _by_trace(
    module: _WithWeightInputs, example: Inputs, network: Network, names: list[str]
) -> onnx.ModelProto:
    axes = _axes(network, names)
    if isinstance(module.network, fx.GraphModule):
        follow_sizes(module.network)
    model, remarks = _trace(module, example, network, names, axes)
    if any(
        remark.category.__name__ == "TracerWarning"
        # Torch's own layers only check the shapes of what they are given.
        and Path(remark.filename).parent != Path(nn.modules.__path__[0])
        for remark in remarks
    ):
        raise UserError(
            "The network cannot be written as ONNX: it branches on its data, and a file would "
            "hold only one of the branches.",
            "Export its archive instead.",
        )
    return model


def _trace(
    module: _WithWeightInputs,
    example: Inputs,
    network: Network,
    names: list[str],
    axes: dict[str, dict[int, str]],
) -> tuple[onnx.ModelProto, list[warnings.WarningMessage]]:
    """Return what the older exporter wrote, and its warnings."""
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            warnings.catch_warnings(record=True) as remarks,
        ):
            warnings.simplefilter("always")
            # WORKAROUND(torch 2.13.0): where it fails it prints the whole graph, always.
            torch._C._jit_set_onnx_log_output_stream("stderr")
            path = Path(folder) / "traced.onnx"
            torch.onnx.export(
                module,
                (*example, *module.values),
                path,
                dynamo=False,
                input_names=names,
                output_names=_output_names(network, names),
                dynamic_axes=axes,
                opset_version=LEGACY_OPSET,
                verbose=False,
            )
            return onnx.load(path), remarks
    except CAPTURE_ERRORS as error:
        raise UserError(
            f"The network cannot be written as ONNX: {_reason(error)}",
            "Export its archive instead.",
        ) from error


def _axes(network: Network, names: list[str]) -> dict[str, dict[int, str]]:
    """Return the free sizes of each input by its name: the name of each dimension."""
    axes: dict[str, dict[int, str]] = {
        name: {0: BATCH} if network.dynamic_batch and tensor.ndim else {}
        for name, tensor in zip(names, network.example, strict=False)
    }
    for size in network.free:
        axes[names[size.input]][size.dimension] = size.name
    return axes


def _output_names(network: Network, inputs: list[str]) -> list[str] | None:
    """Return the names of the outputs; one that an input or another output has gets a number."""
    if not network.output_names:
        return None
    taken = set(inputs)
    names = []
    for position, name in enumerate(network.output_names):
        plain = name or f"output_{position}"
        names.append(plain if plain not in taken else f"{plain}_{position}")
        taken.add(names[-1])
    return names


def _name_sizes(model: onnx.ModelProto, network: Network) -> None:
    """Give free sizes the names that they have in the network, in place.

    Raises RuntimeError where the exporter fixed one.
    """
    names: dict[str, str] = {}
    for size in network.free:
        shape = model.graph.input[size.input].type.tensor_type.shape
        found = shape.dim[size.dimension].dim_param
        if not found:
            raise RuntimeError(f"it fixed the {size.name} of the input")
        names[found] = size.name
    for value in (*model.graph.input, *model.graph.output):
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param in names:
                side.dim_param = names[side.dim_param]


def _reason(error: BaseException) -> str:
    """Return the first line of what an error was caused by in the end."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _stored(module: nn.Module) -> dict[str, StoredForm]:
    return {
        f"{name}.{tensor}": form
        for name, layer in module.named_modules()
        if isinstance(layer, CompactLayer)
        for tensor, form in layer.forms.items()
        if isinstance(form, StoredForm)
    }


def _with_forms(network: Network) -> frozenset[str]:
    """Hold the numbers of structured layers by forms, in place; return the names of these.

    Those are all tensors but the bias, also where some are compact already.
    """
    found = set()
    for name, layer in list(network.module.named_modules()):
        held: dict[str, Tensor] = {}
        if isinstance(layer, CompactLayer):
            # The exporter's own steps want a bias whose numbers it knows.
            layer.with_float_biases()
            held = layer.tables()
            for key in held:
                delattr(layer, key)
            if isinstance(layer.settings, StructuredLayer):
                loose = [key for key in layer.rest if key != "bias"]
                held |= {key: layer.rest.pop(key).detach() for key in loose}
            layer.forms.update({key: FloatForm(value) for key, value in held.items()})
        elif isinstance(layer, StructuredLayer):
            held = {key: value for key, value in layer.named_parameters() if key != "bias"}
            held.update(layer.named_buffers())
            forms: dict[str, WeightForm] = {key: FloatForm(value) for key, value in held.items()}
            if forms:
                network.replace(name, CompactLayer(layer, forms))
        found |= {f"{name}.{key}" for key in held}
    return frozenset(found)


def _put_numbers(model: onnx.ModelProto, module: _WithWeightInputs) -> dict[str, StoredForm]:
    """Make the numbers of structured matrices weights of the graph; return the other forms."""
    graph = model.graph
    for value in [value for value in graph.input if value.name in module.numbers]:
        graph.input.remove(value)
        numbers = module.forms[value.name]().numpy()
        graph.initializer.append(numpy_helper.from_array(numbers, value.name))
    return {name: form for name, form in module.forms.items() if name not in module.numbers}


def _example(network: Network) -> Inputs:
    """Return inputs of a batch of two at least: a batch of one would be taken for fixed."""
    example = network.example
    if not network.dynamic_batch or len(example[0]) > 1:
        return example
    return tuple(torch.cat([tensor, tensor]) if tensor.ndim else tensor for tensor in example)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep away what the exporters tell of themselves and of each other."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module="(copyreg|torch)")
            warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch")
            warnings.filterwarnings("ignore", "Exporting a model to ONNX with a batch_size other")
            warnings.filterwarnings("ignore", "The tensor attributes? .* assigned during export")
            warnings.filterwarnings("ignore", "# The axis name: batch will not be used")
            yield
    finally:
        registration.setLevel(level)


def _name_weights(model: onnx.ModelProto) -> None:
    """Give weights the names they have in the network, in place: not where they hang in ours."""
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    names = {}
    for tensor in model.graph.initializer:
        name = tensor.name.removeprefix("network.").replace(".rest.", ".")
        if name not in taken:
            names[tensor.name] = tensor.name = name
            taken.add(name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def _drop_remarks(model: onnx.ModelProto) -> None:
    """Take out what the exporter noted about where each node came from, in place."""
    graph = model.graph
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    model.graph.doc_string = model.doc_string = ""
