"""An archive written for the person to take away: copied or coded, opened again and compared."""

from pathlib import Path

import torch

from featherweight.engine.archive_layout import header_of
from featherweight.engine.errors import UserError
from featherweight.engine.figures import Figure
from featherweight.engine.inspecting.calls import functions_of
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network
from featherweight.engine.reading.archive import read_result
from featherweight.engine.results import Export, LayerShare
from featherweight.engine.weight_forms import densified
from featherweight.engine.writing.archive import write_archive
from featherweight.engine.writing.files import write_file

NOTE = "Only Featherweight opens an archive; export ONNX or .pt2 from it to run it elsewhere."
WEIGHTS_NOTE = (
    "The archive holds weights only: Featherweight opens it again with --factory and the code, or "
    "the file, that the network came from."
)


def export_archive(network: Network, archive: str, path: Path, job: Job) -> Export:
    """Write `network` to `path` as a coded archive and compare what opens again with it.

    A result's own `archive` is copied byte for byte; where it is empty the network is coded anew.
    Raises UserError, with `path` left as it was, where an archive cannot hold it or it differs.
    """
    job.begin(2)
    trial = path.with_name(f".{path.name}.trial")
    try:
        if archive:
            write_file(trial, Path(archive).read_bytes())
        else:
            write_archive(network, {}, trial)
        job.advance("Writing the archive")
        _check_same(network, read_result(trial, network), path)
        job.advance("Opening it again")
        content = trial.read_bytes()
        trial.replace(path)
    finally:
        trial.unlink(missing_ok=True)
    return Export(
        path=str(path),
        format="archive",
        checks={
            "bytes": Figure(len(content), "B", "measured"),
            "relative_error": Figure(0.0, "", "measured"),
        },
        shares=_shares(content, network),
        notes=(WEIGHTS_NOTE if network.graph_lock else NOTE,),
    )


def _check_same(network: Network, again: Network, path: Path) -> None:
    ours, theirs = (densified(each).module.state_dict() for each in (network, again))
    same = ours.keys() == theirs.keys() and all(
        torch.equal(value, theirs[name]) for name, value in ours.items()
    )
    # Sums of floats may differ in their last bits with where a tensor happens to lie in memory.
    with torch.no_grad():
        pairs = zip(network.outputs(*network.example), again.outputs(*network.example), strict=True)
        near = all(torch.allclose(*pair, rtol=1e-4, atol=1e-5) for pair in pairs)
    if not (same and near):
        raise UserError(f"{path} would not open to the same outputs.", "Please report this.")


def _shares(content: bytes, network: Network) -> tuple[LayerShare, ...]:
    """Return the bytes of each layer, of what modules hold beside their layers, and of the rest."""
    header, start = header_of(content)
    layers, sizes = dict(network.layers()), dict[str, int]()
    for tensor in header.tensors:
        owner = next((layer for layer in layers if tensor.names[0].startswith(f"{layer}.")), None)
        owner = owner or functions_of(tensor.names[0].rpartition(".")[0])
        sizes[owner] = sizes.get(owner, 0) + tensor.size
    sizes["(graph)"] = start
    return tuple(LayerShare(layer=layer, bytes=size) for layer, size in sizes.items())
