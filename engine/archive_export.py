"""An archive written for the person to take away: copied or coded, opened again and compared."""

from pathlib import Path

import torch

from featherweight.engine.archive_layout import header_of
from featherweight.engine.errors import UserError
from featherweight.engine.events import Source
from featherweight.engine.figures import Figure
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network
from featherweight.engine.reading.formats import read_network
from featherweight.engine.results import Export, LayerShare
from featherweight.engine.writing.archive import write_archive
from featherweight.engine.writing.files import write_file

NOTE = "Only Featherweight opens an archive; export ONNX or .pt2 from it to run it elsewhere."


def export_archive(network: Network, archive: str, path: Path, job: Job) -> Export:
    """Write `network` to `path` as a coded archive and compare what opens again with it.

    A result's own `archive` is copied byte for byte; where it is empty the network is coded anew.
    Raises UserError, with `path` left as it was, where the network has no graph or differs.
    """
    job.begin(2)
    if archive:
        write_file(path, Path(archive).read_bytes())
    else:
        write_archive(network, {}, path)
    job.advance("Writing the archive")
    again = read_network(Source(path=str(path)))
    with torch.no_grad():
        pairs = zip(network.outputs(*network.example), again.outputs(*network.example), strict=True)
        same = all(torch.equal(ours, theirs) for ours, theirs in pairs)
    if not same:
        raise UserError(f"{path} does not open to the same outputs.", "Please report this.")
    job.advance("Opening it again")
    return Export(
        path=str(path),
        format="archive",
        checks={
            "bytes": Figure(path.stat().st_size, "B", "measured"),
            "relative_error": Figure(0.0, "", "measured"),
        },
        shares=_shares(path),
        notes=(NOTE,),
    )


def _shares(path: Path) -> tuple[LayerShare, ...]:
    header, _ = header_of(path.read_bytes())
    sizes: dict[str, int] = {}
    for tensor in header.tensors:
        layer = tensor.names[0].rpartition(".")[0] or tensor.names[0]
        sizes[layer] = sizes.get(layer, 0) + tensor.size
    return tuple(LayerShare(layer=layer, bytes=size) for layer, size in sizes.items())
