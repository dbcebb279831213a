"""Write a network as `.pt2`, torch's own format of exported programs, and check the file."""

import io
import warnings
from pathlib import Path

import torch
from torch import Tensor

from featherweight.engine.errors import UserError
from featherweight.engine.figures import Figure
from featherweight.engine.free_sizes import dynamic_shapes
from featherweight.engine.inspecting.calls import functions_of
from featherweight.engine.jobs import Job
from featherweight.engine.network import CAPTURE_ERRORS, Network
from featherweight.engine.recurrent_shapes import whole_recurrence
from featherweight.engine.results import Export, LayerShare
from featherweight.engine.task import evaluating
from featherweight.engine.weight_forms import CompactLayer, densified
from featherweight.engine.writing.files import write_file

TOLERANCE = 1e-4
STEPS = 3


def write_exported_program(network: Network, path: Path, job: Job) -> Export:
    """Write the network with plain float32 weights and the sizes free that are free.

    The written bytes are loaded again and run beside the network on its example inputs. Raises
    UserError, with nothing written, where torch.export cannot follow it or the outputs differ.
    """
    job.begin(STEPS)
    dense = densified(network)
    content = _saved(dense)
    job.advance("Drawing the program")
    checks = _checked(network, content)
    job.advance("Comparing with the network")
    write_file(path, content)
    job.advance("Writing the file")
    compact = any(isinstance(layer, CompactLayer) for layer in network.module.modules())
    notes = ("Weights of fewer bits are unpacked to float32 in this format.",) if compact else ()
    return Export(
        path=str(path),
        format="pt2",
        checks={**checks, "bytes": Figure(len(content), "B", "measured")},
        shares=_shares(dense, len(content)),
        notes=notes,
    )


def _saved(network: Network) -> bytes:
    free = network.dynamic_batch
    shapes = tuple(dynamic_shapes(network.example, free, network.free))
    example = network.example
    if free and len(example[0]) == 1:
        # A batch of one would be taken for fixed.
        example = tuple(
            torch.cat([tensor, tensor]) if tensor.ndim else tensor for tensor in example
        )
    written = io.BytesIO()
    try:
        with torch.no_grad(), whole_recurrence(), warnings.catch_warnings():
            # Recurrent layers keep a list of their weights beside them, which export remarks on.
            warnings.filterwarnings("ignore", "The tensor attributes? .* assigned during export")
            module = network.module.eval()
            program = torch.export.export(module, example, dynamic_shapes=shapes, strict=False)
            torch.export.save(program, written)
    except CAPTURE_ERRORS as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"torch.export cannot follow the network: {reason}", "Export the archive instead."
        ) from error
    return written.getvalue()


def _checked(network: Network, content: bytes) -> dict[str, Figure]:
    loaded = torch.export.load(io.BytesIO(content)).module()
    error = largest = 0.0
    with evaluating(network) as run:
        expected = run(*network.example)
        found = loaded(*network.example)
    outputs = (found,) if isinstance(found, Tensor) else tuple(found)
    for exact, output in zip(expected, outputs, strict=True):
        difference = (output.double() - exact.double()).abs().max()
        error = max(error, float(difference.nan_to_num(nan=float("inf"))))
        largest = max(largest, float(exact.double().abs().max()))
    relative = error / (largest or 1.0)
    if not relative <= TOLERANCE:
        raise UserError(
            f"The file would differ from the network: largest relative error {relative:.2g}.",
            "Nothing was written. Export the archive instead.",
        )
    return {"relative_error": Figure(relative, "", "measured")}


def _shares(network: Network, total: int) -> tuple[LayerShare, ...]:
    """Return the bytes of each layer, of what modules hold beside their layers, and of the rest.

    The file holds a tensor of several layers once: it is counted at the first.
    """
    layers, sizes = dict(network.layers()), dict[str, int]()
    module = network.module
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        owner = name.rpartition(".")[0]
        owner = owner if owner in layers else functions_of(owner)
        sizes[owner] = sizes.get(owner, 0) + value.nbytes
    sizes["(graph)"] = total - sum(sizes.values())
    return tuple(LayerShare(layer=name, bytes=size) for name, size in sizes.items())
