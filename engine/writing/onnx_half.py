"""Write a network as ONNX in half precision: weights and arithmetic in float16."""

import warnings
from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from featherweight.engine.errors import UserError
from featherweight.engine.events import TaskSource
from featherweight.engine.figures import Figure, ratio
from featherweight.engine.jobs import Job
from featherweight.engine.network import CAPTURE_ERRORS, Network
from featherweight.engine.results import Export
from featherweight.engine.task import Task, evaluating, read_task
from featherweight.engine.weight_forms import densified
from featherweight.engine.writing.batch_norm_folding import folded
from featherweight.engine.writing.files import write_file
from featherweight.engine.writing.onnx_checks import Runtime, compared, race, shares
from featherweight.engine.writing.onnx_export import export
from featherweight.engine.writing.onnx_weights import needed_opset

LARGEST_ERROR = 0.05
STEPS = 4


def write_half_onnx(
    network: Network, path: Path, task: Task | None, source: Network | None, job: Job
) -> Export:
    """Write the whole network in float16, its inputs and outputs in float32.

    It is compared with torch on the samples to measure on, and timed by turns with the float32
    export of `source`. Raises UserError, with nothing written, where the outputs are too far off.
    """
    job.begin(STEPS)
    compare_on = task or read_task(TaskSource(kind="fidelity"), source or network)
    prepared = folded(densified(network))
    exported = export(prepared, needed_opset(prepared))
    model = _halved(exported.model)
    content: bytes = model.SerializeToString()
    job.advance("Drawing the graph")
    half = Runtime(content, exported.inputs)
    with evaluating(network) as expected:
        (checks,) = compared(compare_on, expected, [half.run], job.check)
    error = checks["relative_error"].value
    if not error <= LARGEST_ERROR:
        raise UserError(
            f"In float16 the network would differ: largest relative error {error:.2g}.",
            "Nothing was written. Export it as ONNX, and choose float16 for single layers.",
        )
    job.advance("Comparing with torch")
    plain = export(source, needed_opset(source)) if source else exported
    before = Runtime(plain.model.SerializeToString(), plain.inputs)
    example = network.example
    taken = race({"half": lambda: half.run(*example), "plain": lambda: before.run(*example)},
                 job.check)  # fmt: skip
    job.advance("Timing in ONNX Runtime")
    write_file(path, content)
    job.advance("Writing the file")
    size = Figure(len(content), "B", "measured")
    whole = Figure(before.size, "B", "measured")
    return Export(
        path=str(path),
        format="onnx16",
        checks={
            **checks,
            "latency": taken["half"],
            "latency_before": taken["plain"],
            "speedup": ratio(taken["plain"], taken["half"]),
            "bytes": size,
            "bytes_before": whole,
            "compression": ratio(whole, size),
        },
        shares=shares(model, len(content), prepared),
        notes=(
            *exported.notes,
            "Processors without float16 arithmetic convert back and forth, so it may be slower "
            "there; it is meant for graphics cards and accelerators.",
        ),
    )


def _halved(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        with warnings.catch_warnings():
            # It remarks on every weight that is too small for float16.
            warnings.simplefilter("ignore")
            made: onnx.ModelProto = convert_float_to_float16(model, keep_io_types=True)
        # The converter adds what converts inputs, and around nodes that stay float32, last.
        OnnxModel.graph_topological_sort(made.graph, is_deterministic=True)
        onnx.checker.check_model(made.SerializeToString())
    except (*CAPTURE_ERRORS, onnx.checker.ValidationError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"The network cannot be written in float16: {reason}.",
            "Export it as ONNX, and choose float16 for its layers.",
        ) from error
    return made
