"""Write a network as ONNX: small weights, a free batch, and only after it proved to be the same."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch

from featherweight.engine.errors import UserError
from featherweight.engine.events import TaskSource
from featherweight.engine.figures import Figure, ratio
from featherweight.engine.jobs import Job
from featherweight.engine.methods.precision.float16 import Float16Form
from featherweight.engine.methods.precision.integer import IntegerForm
from featherweight.engine.network import Network
from featherweight.engine.results import Export
from featherweight.engine.task import Task, evaluating, read_task
from featherweight.engine.weight_forms import StoredForm
from featherweight.engine.writing.batch_norm_folding import folded
from featherweight.engine.writing.files import write_file
from featherweight.engine.writing.onnx_activations import integer_nodes, quantize_activations
from featherweight.engine.writing.onnx_checks import Session, compared, race, shares
from featherweight.engine.writing.onnx_export import Exported, export
from featherweight.engine.writing.onnx_weights import multiply_out, needed_opset, put_weights

TOLERANCE = 1e-3
LEAST_AGREEMENT, LARGEST_ERROR = 98.0, 0.05
CALIBRATION_SAMPLES, CALIBRATION_BATCH = 512, 64
STEPS = 5


@dataclass(frozen=True)
class _Candidate:
    """A model that may be written, with its session and how it compares with torch."""

    model: onnx.ModelProto
    content: bytes
    session: Session
    checks: dict[str, Figure]
    integer_layers: int = 0


def write_onnx(
    network: Network, path: Path, task: Task | None, source: Network | None, job: Job
) -> Export:
    """Write the network, compact layers included, and return what was checked of the file.

    It is compared with torch on the samples to measure on (random inputs without a task), and
    timed by turns with the export of `source`, both at the example's batch. 8-bit layers run in
    integers where there is data to calibrate on, if that proves faster and keeps the labels.
    Raises UserError, with nothing written, where the network cannot be exported or differs.
    """
    job.begin(STEPS)
    compare_on = task or read_task(TaskSource(kind="fidelity"), source or network)
    prepared = folded(network)
    exported = export(prepared, needed_opset(prepared))
    put_weights(exported.model, exported.forms)
    job.advance("Drawing the graph")
    judge = partial(_candidate, network, compare_on, exported, job.check)
    exact = _exact(exported, judge)
    calibrated = task if task and task.source.data else None
    whole = _in_integers(exported, calibrated, judge)
    job.advance("Comparing with torch")
    before = _plain(source) if source else None
    job.advance("Drawing the original's graph")
    chosen, speed, notes = _fastest(exact, whole, before, network, job.check)
    checks = {**chosen.checks, **speed, "bytes": Figure(len(chosen.content), "B", "measured")}
    if before:
        checks["bytes_before"] = Figure(before.size, "B", "measured")
        checks["compression"] = ratio(checks["bytes_before"], checks["bytes"])
    job.advance("Timing in ONNX Runtime")
    write_file(path, chosen.content)
    job.advance("Writing the file")
    return Export(
        path=str(path),
        format="onnx",
        checks=checks,
        shares=shares(chosen.model, len(chosen.content), prepared),
        notes=(*exported.notes, *_form_notes(exported.forms, chosen), *notes),
    )


def _exact(exported: Exported, judge: Callable[..., _Candidate]) -> _Candidate:
    """Return the model whose weights are unpacked to the very floats that torch computes with."""
    model = _copy(exported.model)
    multiply_out(model, set())
    made = judge(model)
    error = made.checks["relative_error"].value
    if not error <= TOLERANCE:
        raise UserError(
            f"The ONNX file would differ from the network: largest relative error {error:.2g}.",
            "Nothing was written. Export it as .pt2 instead.",
        )
    return made


def _in_integers(
    exported: Exported, task: Task | None, judge: Callable[..., _Candidate]
) -> _Candidate | None:
    """Return the model that computes its 8-bit layers in integers, if it has any and data."""
    if task is None or not integer_nodes(exported.model):
        return None
    model = _copy(exported.model)
    kept = quantize_activations(model, _calibration(task, exported.inputs))
    multiply_out(model, kept)
    return judge(model, len(kept)) if kept else None


def _calibration(
    task: Task, names: tuple[str, ...]
) -> Iterator[dict[str, npt.NDArray[np.generic]]]:
    count = min(CALIBRATION_SAMPLES, len(task.recovery))
    size = task.fixed_batch or CALIBRATION_BATCH
    for start in range(0, max(count - size + 1, 1), size):
        inputs, _ = task.recovery.batch(range(start, min(start + size, count)))
        yield {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}


def _candidate(
    network: Network,
    task: Task,
    exported: Exported,
    check: Callable[[], None],
    model: onnx.ModelProto,
    integer_layers: int = 0,
) -> _Candidate:
    content = _content(model)
    session = Session(content, exported.inputs)
    with evaluating(network) as expected:
        checks = compared(task, expected, session.run, check)
    return _Candidate(model, content, session, checks, integer_layers)


def _plain(source: Network) -> Session:
    """Return the uncompressed network in ONNX Runtime."""
    exported = export(source, needed_opset(source))
    return Session(_content(exported.model), exported.inputs)


def _fastest(
    exact: _Candidate,
    whole: _Candidate | None,
    before: Session | None,
    network: Network,
    check: Callable[[], None],
) -> tuple[_Candidate, dict[str, Figure], list[str]]:
    """Time the candidates and the original by turns; return the one to write, figures, notes."""
    runners = {"exact": exact.session, "whole": whole and whole.session, "before": before}
    runs = {name: partial(one.run, *network.example) for name, one in runners.items() if one}
    taken = race(runs, check)
    chosen, name, notes = exact, "exact", []
    if whole:
        gain = ratio(taken["exact"], taken["whole"]).value
        if gain > 1 and _close(whole.checks):
            chosen, name = whole, "whole"
        else:
            kept = whole.checks.get("label_agreement")
            labels = f" and {kept.value:.1f} % of the labels" if kept else ""
            notes.append(
                f"8-bit layers run in floats: in integers they gave {gain:.2f}× the speed{labels}."
            )
    figures = {"latency": taken[name]}
    if before:
        figures["latency_before"] = taken["before"]
        figures["speedup"] = ratio(taken["before"], taken[name])
    batch = len(network.example[0])
    notes.append(
        f"Latency is the median of one batch of {batch} in ONNX Runtime on the CPU "
        f"with {torch.get_num_threads()} threads."
    )
    return chosen, figures, notes


def _close(checks: dict[str, Figure]) -> bool:
    if "label_agreement" in checks:
        return checks["label_agreement"].value >= LEAST_AGREEMENT
    return checks["relative_error"].value <= LARGEST_ERROR


def _form_notes(forms: dict[str, StoredForm], chosen: _Candidate) -> Iterator[str]:
    if chosen.integer_layers:
        yield (
            f"{chosen.integer_layers} layers run in 8-bit integers, their activations too. These "
            f"use 7 of the 8 bits, so that sums are exact on processors without 8-bit dot products."
        )
    floats = [
        form
        for form in forms.values()
        if not (chosen.integer_layers and isinstance(form, IntegerForm) and form.bits == 8)
    ]
    for kind in sorted({_kind(form) for form in floats}):
        yield (
            f"{kind} make the file smaller; ONNX Runtime unpacks them when it loads the file, "
            "so it is not faster."
        )


def _kind(form: StoredForm) -> str:
    if isinstance(form, IntegerForm):
        return f"{form.bits}-bit weights"
    return "float16 weights" if isinstance(form, Float16Form) else "Shared values"


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def _content(model: onnx.ModelProto) -> bytes:
    """Return the bytes of a model that ONNX's own checker accepts."""
    content: bytes = model.SerializeToString()
    onnx.checker.check_model(content)
    return content
