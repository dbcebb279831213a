"""Write a network as safetensors beside a Python file that rebuilds it with plain torch."""

import json
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import save
from torch import Tensor, fx

from featherweight.engine.errors import UserError
from featherweight.engine.figures import Figure
from featherweight.engine.jobs import Job
from featherweight.engine.network import CAPTURE_ERRORS, Network
from featherweight.engine.results import Export, LayerShare
from featherweight.engine.task import evaluating
from featherweight.engine.weight_forms import densified
from featherweight.engine.writing.files import write_file
from featherweight.engine.writing.python_frame import HEADER
from featherweight.engine.writing.python_source import SourceWriter
from featherweight.engine.writing.weight_packing import (
    PackedWeight,
    as_metadata,
    packed_weights,
)

TOLERANCE = 1e-4
STEPS = 3


def write_safetensors(network: Network, path: Path, job: Job) -> Export:
    """Write the weights to `path` and the network to the `.py` file of the same name.

    Weights of few bits stay packed in the file, and the source unpacks them. It is run with the
    written weights and compared with the network on its example. Raises UserError, with
    nothing written, where the network has no graph, the outputs differ, or a Python file of another
    origin stands there.
    """
    source_path = path.with_suffix(".py")
    _check_free(source_path)
    job.begin(STEPS)
    dense = densified(network)
    if not isinstance(dense.module, fx.GraphModule):
        raise UserError(
            f"The network cannot be written as Python: {network.graph_lock}.",
            "Export the archive instead.",
        )
    weights, unknown = packed_weights(network)
    forms = tuple(weight.told["form"] for weight in weights.values() if weight.told)
    try:
        writer = SourceWriter(dense.module)
        source = writer.text(forms)
    except ValueError as error:
        raise UserError(
            f"The network cannot be written as Python: {error}.", "Export the archive instead."
        ) from error
    weights = {writer.names[name]: weight for name, weight in weights.items()}
    tensors = _tensors(weights, writer)
    metadata = as_metadata(weights)
    content = save(tensors, metadata=metadata)
    job.advance("Writing the source")
    relative = _difference(network, source, tensors, metadata)
    job.advance("Comparing with the network")
    write_file(path, content)
    write_file(source_path, source.encode())
    job.advance("Writing the files")
    return Export(
        path=str(path),
        format="safetensors",
        checks={
            "relative_error": Figure(relative, "", "measured"),
            "bytes": Figure(len(content), "B", "measured"),
        },
        shares=_shares(tensors, writer, len(content)),
        notes=(
            f"{source_path.name} beside it rebuilds the network: load() gives it with its weights.",
            *_notes(unknown),
        ),
    )


def _check_free(path: Path) -> None:
    try:
        ours = not path.exists() or path.read_text(errors="replace").startswith(HEADER)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}.", "Name another file."
        ) from error
    if not ours:
        raise UserError(f"{path} exists, and Featherweight did not write it.", "Name another file.")


def _tensors(weights: dict[str, PackedWeight], writer: SourceWriter) -> dict[str, Tensor]:
    tensors = {name: value for name, value in writer.tensors().items() if name not in weights}
    for name, weight in weights.items():
        for kind, part in weight.parts.items():
            tensors[f"{name}.{kind}" if weight.told else name] = part
    return {name: value.contiguous() for name, value in tensors.items()}


def _difference(
    network: Network, source: str, tensors: dict[str, Tensor], metadata: dict[str, str]
) -> float:
    """Return the largest error of the rebuilt network, relative to the largest output."""
    rebuilt = ModuleType("rebuilt")
    rebuilt.__dict__["__file__"] = "rebuilt.py"
    code = compile(source, "the written network", "exec")
    try:
        exec(code, rebuilt.__dict__)
        rebuilt.__dict__["load_file"] = lambda _: dict(tensors)
        rebuilt.__dict__["read"] = lambda _: (tensors, json.loads(metadata["packed"]))
        made = rebuilt.__dict__["load"]()
        with torch.no_grad():
            result = made(*network.example)
    except CAPTURE_ERRORS as error:
        raise UserError(
            f"The written network would not run: {error}.",
            "Nothing was written. Export the archive instead.",
        ) from error
    found = (result,) if isinstance(result, Tensor) else tuple(result)
    error_ = largest = 0.0
    with evaluating(network) as run:
        for exact, output in zip(run(*network.example), found, strict=True):
            difference = (output.double() - exact.double()).abs().max()
            error_ = max(error_, float(difference.nan_to_num(nan=float("inf"))))
            largest = max(largest, float(exact.double().abs().max()))
    relative = error_ / (largest or 1.0)
    if not relative <= TOLERANCE:
        raise UserError(
            f"The written network would differ: largest relative error {relative:.2g}.",
            "Nothing was written. Export the archive instead.",
        )
    return relative


def _shares(tensors: dict[str, Tensor], writer: SourceWriter, total: int) -> tuple[LayerShare, ...]:
    sizes: dict[str, int] = {}
    for name, value in tensors.items():
        layer = next((key for key, own in writer.attributes.items()
                      if name == own or name.startswith(f"{own}.")), name)  # fmt: skip
        sizes[layer] = sizes.get(layer, 0) + value.nbytes
    sizes["(header)"] = total - sum(sizes.values())
    return tuple(LayerShare(layer=layer, bytes=size) for layer, size in sizes.items())


def _notes(unknown: tuple[str, ...]) -> tuple[str, ...]:
    if not unknown:
        return ()
    return (f"{', '.join(unknown)}: float32 here, for want of a packed form in this format.",)
