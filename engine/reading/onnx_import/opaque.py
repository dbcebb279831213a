"""ONNX files that no graph of layers can hold, run by ONNX Runtime on weights that layers hold."""

from typing import Any

import numpy as np
import torch
from onnx import ModelProto, NodeProto, helper, numpy_helper
from torch import nn

from featherweight.engine.bounded_runtime import BoundedRuntime, Bounds
from featherweight.engine.errors import CAPTURE_ERRORS, UserError
from featherweight.engine.held_weights import holder
from featherweight.engine.network import Inputs
from featherweight.engine.opaque_network import Opaque, OpaqueNetwork, Slot
from featherweight.engine.opaque_trial import RunError, try_out
from featherweight.engine.reading.bounds import largest_bytes
from featherweight.engine.reading.calling import flattened, usable_names
from featherweight.engine.reading.onnx_import.building import UntranslatableError
from featherweight.engine.reading.onnx_import.hoisting import (
    STANDARD,
    Weight,
    attribute_of,
    hoisted,
)
from featherweight.engine.reading.onnx_import.layers import CONVOLUTIONS, TRANSPOSED, made
from featherweight.engine.reading.onnx_import.model import DAMAGE, OnnxFile, load_model
from featherweight.engine.reading.onnx_import.naming import free_name, layer_names
from featherweight.engine.reading.onnx_import.values import UnsupportedError

# What everything that a run computes may take, in sizes of one tensor.
TENSORS = 3
SECONDS, BYTES_A_SECOND = 8.0, 50_000_000
Values = tuple[tuple[str, float], ...]


def opaque_network(
    file: OnnxFile, values: Values, example: Inputs, reason: UntranslatableError
) -> tuple[nn.Module, OnnxFile]:
    """Return a network that takes the inputs of `file` and runs in ONNX Runtime.

    `values` fix inputs. The second is the file as it was read anew. Raises `reason` where ONNX
    Runtime does not take it either, or the file asks for the absurd; UserError where it does not
    run on the example, which is tried in a process of its own.
    """
    again = OnnxFile(file.path)
    try:
        model, weights = hoisted(again, _with_values(load_model(file.path), dict(values)))
        names, taken = [given.name for given in file.inputs], len(file.inputs)
        if [given.name for given in model.graph.input[:taken]] != names:
            raise reason
        feeds = {weight.name: weight.array for weight in weights}
        feeds |= {name: one.numpy() for name, one in zip(names, example, strict=True)}
        content, bounds = model.SerializeToString(), _bounds(again)
        try_out(content, bounds, feeds)
        network = OpaqueNetwork(Opaque(model, BoundedRuntime(content, bounds)))
        _hold(network, weights)
    except RunError as error:
        raise UserError(
            f"{file.path} does not run in ONNX Runtime: {error}.",
            "Give another shape with --input, or export the network again.",
        ) from error
    except (UnsupportedError, MemoryError, *DAMAGE, *CAPTURE_ERRORS) as error:
        raise reason from error
    return flattened(
        network, usable_names(network.given), len(network.given), str(file.path)
    ), again


def _bounds(file: OnnxFile) -> Bounds:
    size = sum(path.stat().st_size for path in (file.path, *file.beside))
    largest = sum(map(largest_bytes, (file.path, *file.beside)))
    return Bounds(TENSORS * largest, SECONDS + size / BYTES_A_SECOND, torch.get_num_threads())


def _with_values(model: ModelProto, values: dict[str, float]) -> ModelProto:
    """Make constants of the inputs that keep one value."""
    graph = model.graph
    for place in reversed(range(len(graph.input))):
        given = graph.input[place]
        if given.name in values:
            kind = given.type.tensor_type
            sizes = [size.dim_value if size.dim_value > 0 else 1 for size in kind.shape.dim]
            dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
            array = np.full(sizes, values[given.name], dtype)
            graph.initializer.append(numpy_helper.from_array(array, given.name))
            del graph.input[place]
    return model


def _hold(network: OpaqueNetwork, weights: list[Weight]) -> None:
    readers: dict[int, list[Weight]] = {}
    for weight in weights:
        readers.setdefault(id(weight.reader), []).append(weight)
    for group in readers.values():
        # Two tensors of one node that would have one name: the second is a layer of its own.
        own = {weight.tensor: weight for weight in reversed(group)}
        rest = [weight for weight in group if weight is not own[weight.tensor]]
        for together in (dict(reversed(own.items())), *({one.tensor: one} for one in rest)):
            _hold_layer(network, together)


def _hold_layer(network: OpaqueNetwork, weights: dict[str, Weight]) -> None:
    node = next(iter(weights.values())).reader
    turned = {tensor: _is_turned(node, weight) for tensor, weight in weights.items()}
    tensors = {
        tensor: _parameter(weight, turned[tensor], tensor == "bias", node.op_type)
        for tensor, weight in weights.items()
    }
    sources = sorted(weights.values(), key=lambda weight: weight.tensor == "bias")
    name = free_name(network, layer_names(node, [weight.source for weight in sources]))
    slots = [
        Slot(weight.name, name, tensor, weight.array.shape, turned[tensor])
        for tensor, weight in weights.items()
    ]
    network.hold(_layer(node, tensors) or holder(_kind(node), tensors), slots)


def _is_turned(node: NodeProto, weight: Weight) -> bool:
    """Say whether the matrix of the layer, whose rows are outputs, is not the one of the file."""
    if weight.array.ndim != 2 or weight.tensor == "bias" or node.domain not in STANDARD:
        return False
    by_columns = weight.position == 1
    if node.op_type == "Gemm":
        return bool(attribute_of(node, "transB", 0)) ^ by_columns ^ weight.turned
    return node.op_type == "MatMul" and by_columns ^ weight.turned


def _parameter(weight: Weight, turned: bool, flat: bool, op: str) -> nn.Parameter:
    array = weight.array
    if flat:
        array = array.reshape(-1)
    elif op in ("LSTM", "GRU", "RNN"):
        # Directions are no rows: every gate of each has its own.
        array = array.reshape(-1, array.shape[-1])
    value = torch.from_numpy(array)
    return nn.Parameter(value.T if turned else value)


def _kind(node: NodeProto) -> str:
    """Return the name of an operator where it can be the name of a class."""
    return node.op_type if node.op_type.isidentifier() else "Operator"


def _layer(node: NodeProto, tensors: dict[str, nn.Parameter]) -> nn.Module | None:
    """Return a layer of torch's that has these weights; None where none has."""
    weight = tensors.get("weight")
    if weight is None or node.domain not in STANDARD:
        return None
    kind, options = _settings(node, list(weight.shape))
    if kind is None:
        return None
    if node.op_type != "Gather":
        options["bias"] = "bias" in tensors
    layer: nn.Module = made(kind, {}, **options)
    shapes = {name: value.shape for name, value in layer.named_parameters()}
    if shapes != {name: value.shape for name, value in tensors.items()}:
        return None
    return made(kind, tensors, **options)


def _settings(node: NodeProto, shape: list[int]) -> tuple[Any, dict[str, Any]]:
    if node.op_type in ("MatMul", "Gemm") and len(shape) == 2:
        return nn.Linear, {"in_features": shape[1], "out_features": shape[0]}
    if node.op_type == "Gather" and len(shape) == 2 and attribute_of(node, "axis", 0) == 0:
        return nn.Embedding, {"num_embeddings": shape[0], "embedding_dim": shape[1]}
    axes = len(shape) - 2
    if node.op_type not in ("Conv", "ConvTranspose") or not 1 <= axes <= len(CONVOLUTIONS):
        return None, {}
    groups = int(attribute_of(node, "group", 1))
    options = {
        "kernel_size": tuple(shape[2:]),
        "stride": tuple(attribute_of(node, "strides", [1] * axes)),
        "dilation": tuple(attribute_of(node, "dilations", [1] * axes)),
        "groups": groups,
    }
    if node.op_type == "Conv":
        channels = {"in_channels": shape[1] * groups, "out_channels": shape[0]}
        return CONVOLUTIONS[axes - 1], channels | options
    channels = {"in_channels": shape[0], "out_channels": shape[1] * groups}
    return TRANSPOSED[axes - 1], channels | options
