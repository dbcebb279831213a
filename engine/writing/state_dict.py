"""Write the weights of a network without a graph as safetensors, for the person's own code."""

from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from featherweight.engine.errors import UserError
from featherweight.engine.figures import Figure
from featherweight.engine.jobs import Job
from featherweight.engine.methods.precision.float16 import Float16Form
from featherweight.engine.network import Network
from featherweight.engine.results import Export, LayerShare
from featherweight.engine.weight_forms import CompactLayer, densified
from featherweight.engine.writing.files import write_file

STEPS = 2
NOTE = (
    "The file holds weights only, under the names of the network's own state_dict: build the "
    "network with your own code and give it load_state_dict(load_file(path))."
)
UNPACKED = "Weights of fewer than 16 bits are unpacked to float32 in this format."
TWICE = "Tensors that stand under several names are written under each of them."


def write_state_dict(network: Network, path: Path, job: Job) -> Export:
    """Write every tensor of the network's state dict; what was held as half precision as half.

    The written bytes are loaded into the network again and have to give its outputs. Raises
    UserError, with nothing written, where they do not or the file cannot be written.
    """
    job.begin(STEPS)
    dense = densified(network)
    tensors = _tensors(network, dense)
    content = save(tensors, metadata={"format": "pt"})
    job.advance("Collecting the weights")
    dense.module.load_state_dict(load(content))
    with torch.no_grad():
        pairs = zip(network.outputs(*network.example), dense.outputs(*network.example), strict=True)
        if not all(torch.equal(ours, theirs) for ours, theirs in pairs):
            raise UserError(
                f"The weights in {path} would give other outputs.",
                "Nothing was written. Export the archive instead.",
            )
    write_file(path, content)
    job.advance("Writing the file")
    return Export(
        path=str(path),
        format="safetensors",
        checks={
            "relative_error": Figure(0.0, "", "measured"),
            "bytes": Figure(len(content), "B", "measured"),
        },
        shares=_shares(tensors, len(content)),
        notes=(NOTE, *_notes(network, dense)),
    )


def _tensors(network: Network, dense: Network) -> dict[str, Tensor]:
    halved = {
        f"{name}.{tensor}": form.values.dtype
        for name, layer in network.module.named_modules(remove_duplicate=False)
        if isinstance(layer, CompactLayer)
        for tensor, form in layer.held().items()
        if isinstance(form, Float16Form)
    }
    # A copy each, because the format holds no tensor under two names.
    return {
        name: value.detach().to(halved.get(name, value.dtype)).clone().contiguous()
        for name, value in dense.module.state_dict().items()
        if isinstance(value, Tensor)
    }


def _notes(network: Network, dense: Network) -> tuple[str, ...]:
    parts = [part for part in network.module.modules() if isinstance(part, CompactLayer)]
    held = [form for part in parts for form in part.held().values()]
    small = not all(isinstance(form, Float16Form) for form in held)
    values = list(dense.module.state_dict(keep_vars=True).values())
    twice = len({id(value) for value in values}) < len(values)
    return (*((UNPACKED,) if small else ()), *((TWICE,) if twice else ()))


def _shares(tensors: dict[str, Tensor], total: int) -> tuple[LayerShare, ...]:
    sizes: dict[str, int] = {}
    for name, value in tensors.items():
        owner = name.rpartition(".")[0] or name
        sizes[owner] = sizes.get(owner, 0) + value.nbytes
    sizes["(header)"] = total - sum(sizes.values())
    return tuple(LayerShare(layer=layer, bytes=size) for layer, size in sizes.items())
