"""Write a network that runs in ONNX Runtime: its own model, with the weights in their small forms.

Its operators stay as they were in its file, so nothing else than the size of the weights changes.
"""

import math
from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import EncodeError
from onnx import helper, numpy_helper

from featherweight.engine.bounded_runtime import BoundedRuntime, Bounds
from featherweight.engine.errors import UserError
from featherweight.engine.events import TaskSource
from featherweight.engine.figures import Figure, ratio
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network
from featherweight.engine.onnx_graphs import free_value, value_names
from featherweight.engine.opaque_network import OpaqueNetwork, Slot, given_back
from featherweight.engine.results import Export
from featherweight.engine.task import Outputs, Task, evaluating, read_task
from featherweight.engine.weight_forms import CompactLayer, StoredForm
from featherweight.engine.writing.files import write_file
from featherweight.engine.writing.onnx_checks import (
    TOLERANCE,
    compared,
    samples_to_compare,
    shares,
)
from featherweight.engine.writing.onnx_weights import multiply_out, put_weights, set_nodes

STEPS = 4
# A weight is in memory as it is stored, and in all that unpacking makes of it.
FLOAT_BYTES, UNPACKED_TIMES = 4, 4
NOTE = (
    "The file has the operators that the network came with; its speed is not compared, because it "
    "was opened as it is."
)


def write_opaque_onnx(
    network: Network, path: Path, task: Task | None, source: Network, job: Job
) -> Export:
    """Write the model of the network, its weights as they are held; return what was checked.

    It is compared in ONNX Runtime with the network on the samples to measure on (random inputs
    without a task). Raises UserError, with nothing written, where it differs or cannot be held.
    """
    module, original = network.module, source.module
    assert isinstance(module, OpaqueNetwork)
    assert isinstance(original, OpaqueNetwork)
    job.begin(STEPS)
    model = _filled(module)
    content = _content(model, path)
    job.advance("Making the weights small")
    compare_on = task or read_task(TaskSource(kind="fidelity"), source)
    run = _Run(content, module)
    with evaluating(network) as expected:
        checks = compared(compare_on, expected, [run], job.check)[0]
    error = checks["relative_error"].value
    if not error <= TOLERANCE:
        raise UserError(
            f"The ONNX file would differ from the network: largest relative error {error:.2g}.",
            "Nothing was written. Export the archive instead.",
        )
    job.advance("Comparing with the network")
    checks["bytes"] = Figure(len(content), "B", "measured")
    checks["bytes_before"] = Figure(_filled(original).ByteSize(), "B", "measured")
    checks["compression"] = ratio(checks["bytes_before"], checks["bytes"])
    job.advance("Measuring the original")
    write_file(path, content)
    job.advance("Writing the file")
    compared_on = f"Compared with the network on {samples_to_compare(compare_on)} samples."
    return Export(
        path=str(path),
        format="onnx",
        checks=checks,
        shares=shares(model, len(content), network),
        notes=(compared_on, NOTE),
    )


class _Run:
    """A written model, run as the network is."""

    def __init__(self, content: bytes, module: OpaqueNetwork) -> None:
        self._given = module.given
        try:
            self._runtime = BoundedRuntime(content, _with_weights(module, len(content)))
        except RuntimeError as error:
            raise _unwritten(error) from error

    def __call__(self, *inputs: torch.Tensor) -> Outputs:
        """Return the outputs for the network's inputs. Raises UserError."""
        pairs = zip(self._given, inputs, strict=True)
        feeds = {name: self._runtime.taken(name, value.numpy()) for name, value in pairs}
        try:
            return given_back(self._runtime.run(feeds, len(inputs[0])))
        except RuntimeError as error:
            raise _unwritten(error) from error


def _with_weights(module: OpaqueNetwork, size: int) -> Bounds:
    """Return the bounds of a network for a file of so many bytes, weights and what unpacks them."""
    bounds = module.opaque.runtime.bounds
    held = sum(math.prod(slot.shape) * FLOAT_BYTES for slot in module.slots)
    most = bounds.most_bytes + size + UNPACKED_TIMES * held
    return Bounds(most, bounds.seconds, bounds.threads)


def _unwritten(error: RuntimeError) -> UserError:
    return UserError(
        f"ONNX Runtime cannot run the file: {error}.",
        "Nothing was written. Export the archive instead.",
    )


def _filled(module: OpaqueNetwork) -> onnx.ModelProto:
    """Return the model with its weights in it again, each in the form that its layer has."""
    model = onnx.ModelProto()
    model.CopyFrom(module.opaque.model)
    graph, forms, nodes = model.graph, dict[str, StoredForm](), list[onnx.NodeProto]()
    weights = {slot.name for slot in module.slots}
    kinds = {given.name: given.type.tensor_type.elem_type for given in graph.input}
    inputs = [given for given in graph.input if given.name not in weights]
    taken, placed = value_names(graph), []
    for slot in module.slots:
        layer = module.get_submodule(slot.layer)
        form = layer.held().get(slot.tensor) if isinstance(layer, CompactLayer) else None
        if isinstance(form, StoredForm):
            name = free_value(f"{slot.layer}.{slot.tensor}", taken)
            forms[name] = form
            shape = list(form.shape)
            placed.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
            nodes += _as_filed(slot, name, form.shape, kinds[slot.name])
        else:
            value = getattr(layer, slot.tensor)
            kind = helper.tensor_dtype_to_np_dtype(kinds[slot.name])
            graph.initializer.append(
                numpy_helper.from_array(slot.filed(value).astype(kind, copy=False), slot.name)
            )
    kept = [type(given).FromString(given.SerializeToString()) for given in inputs]
    del graph.input[:]
    graph.input.extend([*kept, *placed])
    if forms:
        set_nodes(graph, [*nodes, *graph.node])
        put_weights(model, forms)
        multiply_out(model, {node.output[0] for node in module.opaque.model.graph.node})
    return model


def _as_filed(slot: Slot, name: str, shape: tuple[int, ...], kind: int) -> list[onnx.NodeProto]:
    """Return the nodes that make of a held weight the one that the model reads."""
    nodes = []
    cast = kind != onnx.TensorProto.FLOAT
    output = f"{slot.name}.{slot.layer}.float32" if cast else slot.name
    if slot.turned:
        nodes.append(helper.make_node("Transpose", [name], [output], perm=[1, 0]))
    elif shape != slot.shape:
        sides = numpy_helper.from_array(np.array(slot.shape, np.int64))
        nodes.append(helper.make_node("Constant", [], [f"{output}.shape"], value=sides))
        nodes.append(helper.make_node("Reshape", [name, f"{output}.shape"], [output]))
    else:
        nodes.append(helper.make_node("Identity", [name], [output]))
    if cast:
        nodes.append(helper.make_node("Cast", [output], [slot.name], to=kind))
    return nodes


def _content(model: onnx.ModelProto, path: Path) -> bytes:
    try:
        content: bytes = model.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise UserError(
            f"{path} would be larger than the 2 GB that an ONNX file can have.",
            "Export the archive instead.",
        ) from error
    return content
