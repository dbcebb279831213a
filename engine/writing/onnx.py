"""Write a network as ONNX: small weights, a free batch, and only after it proved to be the same."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import onnx
import torch

from featherweight.engine.errors import UserError
from featherweight.engine.events import IntegerOptions, TaskSource
from featherweight.engine.figures import Figure, ratio
from featherweight.engine.jobs import Job
from featherweight.engine.methods.precision.codebook import CodebookForm
from featherweight.engine.methods.precision.integer import IntegerForm
from featherweight.engine.network import Network
from featherweight.engine.results import Export
from featherweight.engine.task import Task, evaluating, read_task
from featherweight.engine.weight_forms import StoredForm
from featherweight.engine.writing.activation_ranges import Range
from featherweight.engine.writing.batch_norm_folding import folded
from featherweight.engine.writing.calibration import calibration_batches
from featherweight.engine.writing.files import write_file
from featherweight.engine.writing.integer_sums import sums_exactly
from featherweight.engine.writing.onnx_activations import (
    integer_nodes,
    put_pairs,
    quantize_activations,
    quantize_within,
)
from featherweight.engine.writing.onnx_checks import (
    TOLERANCE,
    Runtime,
    compared,
    race,
    samples_to_compare,
    shares,
)
from featherweight.engine.writing.onnx_export import Exported, export
from featherweight.engine.writing.onnx_products import multiplied, with_products
from featherweight.engine.writing.onnx_roundings import take_roundings
from featherweight.engine.writing.onnx_weights import multiply_out, needed_opset, put_weights

LEAST_AGREEMENT, LARGEST_ERROR = 98.0, 0.05
STEPS = 6
INTEGERS = IntegerOptions()
# Why layers run in floats all the same, how else they could, and what is said where they do.
SPECIAL = {
    "integers": (
        "8-bit layers run in floats",
        "in integers",
        "{} run{} in 8-bit integers, activations too.",
    ),
    "products": (
        "Small weights run in floats",
        "multiplied as they are",
        "{} take{} small weights as they are. ONNX Runtime rounds what flows in there to 8 bits "
        "in blocks, so the last digits differ.",
    ),
}


@dataclass
class _Candidate:
    """A model that may be written, in ONNX Runtime, and how it compares with torch.

    `special` names another way of computing than in floats (see SPECIAL), `layers` the weights
    that take it, `note` what else there is to say of it.
    """

    model: onnx.ModelProto
    content: bytes
    runtime: Runtime
    special: str = ""
    layers: frozenset[str] = frozenset()
    note: str = ""
    checks: dict[str, Figure] = field(default_factory=dict)


def write_onnx(
    network: Network,
    path: Path,
    task: Task | None,
    source: Network | None,
    job: Job,
    integers: IntegerOptions = INTEGERS,
) -> Export:
    """Write the network, compact layers included, and return what was checked of the file.

    It is compared with torch on the samples to measure on (random inputs without a task), and
    timed by turns with the export of `source`, both at the example's batch. 8-bit layers run in
    integers where there is data to calibrate on, in the way that `integers` say, or products take
    weights of 4 and 8 bits as they are, if that proves faster and keeps the labels. Where
    activations were rounded in training, they are rounded to the same numbers in any case.
    Raises UserError, with nothing written, where the network cannot be exported or differs.
    """
    job.begin(STEPS)
    prepared = folded(network)
    exported = export(prepared, needed_opset(prepared))
    rounded = take_roundings(exported.model)
    # Rounded once more by the products they would not be what torch computes.
    products = None if rounded else _as_they_are(exported)
    put_weights(exported.model, exported.forms)
    job.advance("Drawing the graph")
    exact = _exact(exported, rounded)
    if rounded:
        whole = _within(exported, rounded)
    else:
        data = task if task and task.source.data else None
        whole = _in_integers(exported, data, integers, job.check) if data else None
    candidates = [exact, *(made for made in (whole, products) if made)]
    job.advance("Making the weights small")
    compare_on = task or read_task(TaskSource(kind="fidelity"), source or network)
    _compare(network, compare_on, candidates, job.check)
    _check_exact(exact, bool(rounded))
    job.advance("Comparing with torch")
    before = _plain(source) if source else None
    job.advance("Drawing the original's graph")
    chosen, speed, notes = _fastest(candidates, before, network, job.check)
    checks = {**chosen.checks, **speed, "bytes": Figure(len(chosen.content), "B", "measured")}
    if before:
        checks["bytes_before"] = Figure(before.size, "B", "measured")
        checks["compression"] = ratio(checks["bytes_before"], checks["bytes"])
    job.advance("Timing in ONNX Runtime")
    write_file(path, chosen.content)
    job.advance("Writing the file")
    compared_on = f"Compared with torch on {samples_to_compare(compare_on)} samples."
    return Export(
        path=str(path),
        format="onnx",
        checks=checks,
        shares=shares(chosen.model, len(chosen.content), prepared),
        notes=(*exported.notes, *_form_notes(exported.forms, chosen), compared_on, *notes),
    )


def _exact(exported: Exported, rounded: Mapping[str, Range]) -> _Candidate:
    """Return the model whose weights are unpacked to the very floats that torch computes with."""
    model = _copy(exported.model)
    multiply_out(model, set())
    put_pairs(model, rounded, set(rounded), set())
    return _candidate(model, exported.inputs)


def _in_integers(
    exported: Exported, task: Task, options: IntegerOptions, check: Callable[[], None]
) -> _Candidate | None:
    """Return the model that computes its 8-bit layers in integers, if it has any."""
    if not integer_nodes(exported.model):
        return None
    model = _copy(exported.model)
    bits, note = _activation_bits(options)
    batches = (
        {name: tensor.numpy() for name, tensor in zip(exported.inputs, inputs, strict=True)}
        for inputs in calibration_batches(task, check)
    )
    kept = quantize_activations(model, batches, options, bits)
    multiply_out(model, kept)
    if not kept:
        return None
    made = _candidate(model, exported.inputs, "integers", kept)
    made.note = f"{note} Ranges of activations: {_ranges_named(options)}."
    return made


def _within(exported: Exported, rounded: Mapping[str, Range]) -> _Candidate | None:
    """Return the model that computes its 8-bit layers in integers within ranges it was trained to.

    None where no layer does.
    """
    model = _copy(exported.model)
    kept = quantize_within(model, rounded)
    multiply_out(model, kept)
    if not kept:
        return None
    made = _candidate(model, exported.inputs, "integers", kept)
    bits = max(range_.top for range_ in rounded.values()).bit_length()
    made.note = f"They use {bits} bits, in the ranges that the network was trained with."
    return made


def _activation_bits(options: IntegerOptions) -> tuple[int, str]:
    """Return how many of 8 bits activations use, and why."""
    if options.activation_bits != "auto":
        return int(options.activation_bits), f"They use {options.activation_bits} bits, as asked."
    if sums_exactly():
        return 8, (
            "They use 8 bits, because this processor sums 8-bit products exactly; one without "
            "8-bit dot products would need 7."
        )
    return 7, "They use 7 bits of 8, because sums of 8-bit products overflow on this processor."


def _ranges_named(options: IntegerOptions) -> str:
    if options.ranges == "percentile":
        return f"percentile {options.percentile:g}"
    return {"error": "least squared error", "entropy": "least divergence"}.get(
        options.ranges, options.ranges
    )


def _as_they_are(exported: Exported) -> _Candidate | None:
    """Return the model that multiplies by small weights as they are, if it has such products.

    To be called before the weights of the exported graph itself are put in place.
    """
    if not multiplied(exported.forms):
        return None
    model, done = with_products(exported.model, exported.forms)
    if not done:
        return None
    return _candidate(model, exported.inputs, "products", done)


def _candidate(
    model: onnx.ModelProto,
    inputs: tuple[str, ...],
    special: str = "",
    layers: Iterable[str] = (),
) -> _Candidate:
    content = _content(model)
    return _Candidate(model, content, Runtime(content, inputs), special, frozenset(layers))


def _compare(
    network: Network, task: Task, candidates: list[_Candidate], check: Callable[[], None]
) -> None:
    """Compare with torch."""
    runs = [candidate.runtime.run for candidate in candidates]
    with evaluating(network) as expected:
        figures = compared(task, expected, runs, check)
    for candidate, checks in zip(candidates, figures, strict=True):
        candidate.checks = checks


def _check_exact(exact: _Candidate, rounded: bool) -> None:
    """Raise UserError where the model that should be exact is not.

    Where activations are rounded, a last digit may make a whole step of a difference.
    """
    error = exact.checks["relative_error"].value
    if not (_close(exact.checks) if rounded else error <= TOLERANCE):
        raise UserError(
            f"The ONNX file would differ from the network: largest relative error {error:.2g}.",
            "Nothing was written. Export it as .pt2 instead.",
        )


def _plain(source: Network) -> Runtime:
    """Return the uncompressed network in ONNX Runtime."""
    exported = export(source, needed_opset(source))
    rounded = take_roundings(exported.model)
    put_pairs(exported.model, rounded, set(rounded), set())
    return Runtime(_content(exported.model), exported.inputs)


def _fastest(
    candidates: list[_Candidate],
    before: Runtime | None,
    network: Network,
    check: Callable[[], None],
) -> tuple[_Candidate, dict[str, Figure], list[str]]:
    """Time the candidates and the original by turns; return the one to write, figures, notes."""
    runners = {one.special: one.runtime for one in candidates}
    if before:
        runners["before"] = before
    runs = {name: partial(one.run, *network.example) for name, one in runners.items()}
    taken = race(runs, check)
    good = [one for one in candidates if not one.special or _close(one.checks)]
    chosen = min(good, key=lambda one: taken[one.special].value)
    notes = [
        _refusal(one, ratio(taken[""], taken[one.special]).value)
        for one in candidates
        if one.special and one is not chosen
    ]
    latency = taken[chosen.special]
    figures = {"latency": latency}
    if before:
        figures["latency_before"] = taken["before"]
        figures["speedup"] = ratio(taken["before"], latency)
    batch = len(network.example[0])
    notes.append(
        f"Latency is the median of one batch of {batch} in ONNX Runtime on the CPU "
        f"with {_counted_threads()}."
    )
    return chosen, figures, notes


def _refusal(candidate: _Candidate, gain: float) -> str:
    kept = candidate.checks.get("label_agreement")
    labels = f" and {kept.value:.1f} % of the labels" if kept else ""
    floats, instead, _ = SPECIAL[candidate.special]
    return f"{floats}: {instead} they gave {gain:.2f}× the speed{labels}."


def _close(checks: dict[str, Figure]) -> bool:
    if "label_agreement" in checks:
        return checks["label_agreement"].value >= LEAST_AGREEMENT
    return checks["relative_error"].value <= LARGEST_ERROR


def _form_notes(forms: dict[str, StoredForm], chosen: _Candidate) -> Iterator[str]:
    if chosen.special:
        count = len(chosen.layers)
        subject, ending = ("1 layer", "s") if count == 1 else (f"{count} layers", "")
        yield f"{SPECIAL[chosen.special][2].format(subject, ending)} {chosen.note}".strip()
    floats = [
        form
        for name, form in forms.items()
        if name not in chosen.layers
        and not (chosen.special == "integers" and _multiplies_whole(form))
    ]
    for kind in sorted({_kind(form) for form in floats}):
        yield (
            f"{kind} make the file smaller; ONNX Runtime unpacks them when it loads the file, "
            "so it is not faster."
        )


def _multiplies_whole(form: StoredForm) -> bool:
    return isinstance(form, IntegerForm) and form.bits == 8 and form.scales.ndim == 1


def _kind(form: StoredForm) -> str:
    if isinstance(form, IntegerForm):
        return f"{form.bits}-bit weights"
    return "Shared values" if isinstance(form, CodebookForm) else f"{form.kind} weights"


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def _content(model: onnx.ModelProto) -> bytes:
    """Return the bytes of a model that ONNX's own checker accepts."""
    content: bytes = model.SerializeToString()
    onnx.checker.check_model(content)
    return content


def _counted_threads() -> str:
    count = torch.get_num_threads()
    return "1 thread" if count == 1 else f"{count} threads"
