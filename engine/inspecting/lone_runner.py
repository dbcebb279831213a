"""One layer alone in ONNX Runtime, in the graph that the exporter would write of it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx import helper, version_converter
from torch import Tensor, nn

from featherweight.engine.bounded_runtime import RUNTIME_ERRORS, session_options
from featherweight.engine.errors import UserError
from featherweight.engine.events import IntegerOptions
from featherweight.engine.inspecting.lone_layer import alone, settings_of
from featherweight.engine.methods.precision.integer import IntegerForm
from featherweight.engine.weight_forms import CompactLayer
from featherweight.engine.writing.onnx_activations import integer_nodes, quantize_activations
from featherweight.engine.writing.onnx_export import Exported, export, traced
from featherweight.engine.writing.onnx_products import FIRST_OPSET, with_products
from featherweight.engine.writing.onnx_weights import multiply_out, needed_opset, put_weights

SEED = 20261124
ACTIVATION_BITS = 8
THREADS = 1

# How weights are multiplied by: as floats, as they are, or in integers with the activations.
Way = Literal["floats", "products", "integers"]
Feed = Mapping[str, npt.NDArray[Any]]


def runner(
    layer: nn.Module, input_shape: tuple[int, ...], way: Way = "floats"
) -> Callable[[], object]:
    """Return what runs a layer, or an `nn.Sequential` of them, once on one thread.

    `input_shape` is with the batch. Raises UserError where it cannot be written or run.
    """
    parts = parts_of(layer)
    example = _example(parts[0], input_shape)
    held = [_plain(part, way) for part in parts]
    network = alone(held[0] if len(held) == 1 else nn.Sequential(*held), input_shape)
    network.module.eval()
    network.example = (example,)
    try:
        return _run_of(traced(network), way, example)
    except UserError:
        # The older exporter is tens of times faster, and knows fewer operators.
        return _run_of(export(network, needed_opset(network)), way, example)


def _run_of(exported: Exported, way: Way, example: Tensor) -> Callable[[], object]:
    feed = {exported.inputs[0]: example.numpy()}
    try:
        content: bytes = _model(exported, way, feed).SerializeToString()
        session = onnxruntime.InferenceSession(
            content, session_options(THREADS), providers=["CPUExecutionProvider"]
        )
        taken = {value.name: feed[value.name] for value in session.get_inputs()}
        session.run(None, taken)
    except (*RUNTIME_ERRORS, version_converter.ConvertError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"ONNX Runtime cannot run the layer: {reason}.", "Leave its latency out."
        ) from error
    return partial(session.run, None, taken)


def parts_of(layer: nn.Module) -> list[nn.Module]:
    """Return the layers of a chain, or the layer alone."""
    return list(layer) if isinstance(layer, nn.Sequential) else [layer]


def _plain(layer: nn.Module, way: Way) -> nn.Module:
    """Return a layer with floats in the place of forms that do not run in this way."""
    if not isinstance(layer, CompactLayer):
        return layer
    whole = any(isinstance(form, IntegerForm) for form in layer.held().values())
    return layer if whole and way != "floats" else layer.plain()


def _example(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(SEED)
    settings = settings_of(layer)
    if isinstance(settings, nn.Embedding):
        return torch.randint(settings.num_embeddings, shape, generator=generator)
    return torch.randn(shape, generator=generator)


def _model(exported: Exported, way: Way, feed: Feed) -> onnx.ModelProto:
    model = exported.model
    if way == "products":
        newer = version_converter.convert_version(model, FIRST_OPSET)
        return with_products(newer, exported.forms)[0]
    put_weights(model, exported.forms)
    kept: set[str] = set()
    if way == "integers" and integer_nodes(model):
        _end_by_copy(model)
        options = IntegerOptions(ranges="min-max")
        kept = quantize_activations(model, [feed], options, ACTIVATION_BITS)
    multiply_out(model, kept)
    return model


def _end_by_copy(model: onnx.ModelProto) -> None:
    """Make the result a copy of the layer's, in place: outputs themselves stay floats."""
    output = model.graph.output[0]
    model.graph.node.append(helper.make_node("Identity", [output.name], [f"{output.name}.copy"]))
    output.name = f"{output.name}.copy"
