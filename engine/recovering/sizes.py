"""What a network that trains takes in bits at the moment, and how much of it is not zero."""

import torch

from featherweight.engine.network import Network
from featherweight.engine.weight_forms import CompactLayer, StoredForm, TrainableForm


@torch.no_grad()
def size_of(network: Network) -> tuple[int, float]:
    """Return the stored bits, before any coding, and the share of stored weights that are not zero.

    Stored weights are the tensors of two or more dimensions that train. Forms count as they would
    be stored if the training ended now.
    """
    bits = weights = filled = 0
    seen: set[int] = set()
    for layer in network.module.modules():
        if not isinstance(layer, CompactLayer):
            continue
        for form in layer.held().values():
            seen |= {id(tensor) for tensor in (*form.parameters(), *form.buffers())}
            stored = form.settled() if isinstance(form, TrainableForm) else form
            assert isinstance(stored, StoredForm)
            symbols = stored.symbols()
            bits += symbols.values.size * symbols.bits
            bits += sum(part.nbytes * 8 for part in stored.parts().values())
            if len(form.shape) > 1:
                weight = stored()
                weights += weight.numel()
                filled += int(weight.count_nonzero())
    trained = {id(tensor) for tensor in network.module.parameters()}
    for tensor in (*network.module.parameters(), *network.module.buffers()):
        if id(tensor) in seen:
            continue
        bits += tensor.numel() * tensor.element_size() * 8
        if tensor.ndim > 1 and id(tensor) in trained:
            weights += tensor.numel()
            filled += int(tensor.count_nonzero())
    return bits, filled / max(weights, 1)
