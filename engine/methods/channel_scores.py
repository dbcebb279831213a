"""What the weights of one layer say of its output channels."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from featherweight.engine.inspecting.channel_layers import Transposed

Scores = npt.NDArray[np.float64]


@torch.no_grad()
def rows_of(layer: nn.Module) -> Tensor:
    """Return what makes each output channel of a layer, in their order: (outputs, weights)."""
    if isinstance(layer, nn.RNNBase):
        return _rows_of_units(layer)
    rows = layer.get_parameter("weight").detach()
    if isinstance(layer, Transposed):
        split = rows.reshape(layer.groups, rows.shape[0] // layer.groups, rows.shape[1], -1)
        rows = split.transpose(1, 2).flatten(0, 1)
    elif isinstance(layer, nn.Embedding):
        rows = rows.T
    return rows.flatten(1)


def norms(layer: nn.Module, order: int) -> Scores:
    """Return the L1 or L2 norm of each output channel's weights, float64."""
    result: Scores = torch.linalg.vector_norm(rows_of(layer), order, dim=1).double().cpu().numpy()
    return result


def median_distances(layer: nn.Module) -> Scores:
    """Return how far each channel's weights are from all others of the layer, summed, float64.

    The nearest to the others lies at their geometric median (He et al. 2019, arXiv 1811.00250).
    """
    rows = rows_of(layer).double()
    result: Scores = torch.cdist(rows, rows).sum(1).cpu().numpy()
    return result


def _rows_of_units(layer: nn.RNNBase) -> Tensor:
    """Return what makes each hidden unit: its rows in every gate, layer and direction."""
    units = layer.hidden_size
    matrices = [
        value.detach().reshape(-1, units, value.shape[1]).transpose(0, 1).flatten(1)
        for name, value in layer.named_parameters()
        if value.ndim == 2 and not name.startswith("weight_hr")
    ]
    return torch.cat(matrices, dim=1)
