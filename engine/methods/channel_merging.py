"""Channels that compute nearly the same are merged: what reads one of them reads the other twice.

Srinivas and Babu 2015 (arXiv 1507.06149): data-free parameter pruning of neurons.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from featherweight.engine.inspecting.channel_ids import IntArray
from featherweight.engine.inspecting.channel_layers import RECURRENT, BatchNorm
from featherweight.engine.inspecting.coupling import ChannelSet, Coupling
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.channel_readers import Reader
from featherweight.engine.methods.channel_scores import Scores, rows_of
from featherweight.engine.network import Network


@torch.no_grad()
def merging_order(
    network: Network,
    coupling: Coupling,
    found: ChannelSet,
    readers: Sequence[Reader],
    check: Check = unchecked,
) -> Scores | None:
    """Return for each atom of a set when it is merged into another, 0.0 for the first.

    Each step takes the pair whose distance, times the energy of the weights that read the one that
    goes, is least. None where the channels are not made by rows of weights, or nothing reads them.
    """
    distances = _distances(network, coupling, found)
    if distances is None or not readers:
        return None
    reading = torch.cat([_reading(reader, found.atoms) for reader in readers], dim=1)
    distances.fill_diagonal_(torch.inf)
    scores = np.zeros(len(distances))
    for step in range(len(distances) - 1):
        check()
        nearest = distances.min(0)
        costs = nearest.values * reading.square().sum(1)
        costs[nearest.values.isinf()] = torch.inf
        gone = int(costs.argmin())
        reading[nearest.indices[gone]] += reading[gone]
        scores[gone] = step
        distances[gone] = distances[:, gone] = torch.inf
        last = int(nearest.indices[gone])
        scores[last] = len(distances)
    return scores


@torch.no_grad()
def merge(
    network: Network,
    coupling: Coupling,
    found: ChannelSet,
    readers: Sequence[Reader],
    removed: IntArray,
) -> None:
    """Let what reads a removed atom read the nearest one that stays instead, in place."""
    distances = _distances(network, coupling, found)
    gone = np.isin(found.atoms, removed)
    if distances is None or gone.all() or not gone.any():
        return
    distances[torch.from_numpy(gone)] = torch.inf
    into = distances.argmin(0)
    for reader in readers:
        matrix = reader.matrix.clone()
        for group, labels in enumerate(reader.atoms):
            for place in np.flatnonzero(gone):
                sources = np.flatnonzero(labels == found.atoms[place])
                targets = np.flatnonzero(labels == found.atoms[int(into[place])])
                if len(sources) == len(targets):
                    matrix[group][:, targets] += matrix[group][:, sources]
        reader.become(matrix, None)


def _reading(reader: Reader, atoms: IntArray) -> Tensor:
    """Return the weights that read each atom, (atoms, numbers) float64, filled up with zeros."""
    matrix = reader.matrix.double()
    read = [
        torch.cat(
            [
                matrix[group][:, labels == atom].flatten()
                for group, labels in enumerate(reader.atoms)
            ]
        )
        for atom in atoms
    ]
    result: Tensor = torch.nn.utils.rnn.pad_sequence(read, batch_first=True)
    return result


def _distances(network: Network, coupling: Coupling, found: ChannelSet) -> Tensor | None:
    """Return the squared distances of what makes the atoms, norms folded in: (atoms, atoms)."""
    if any(isinstance(network.layer(name), RECURRENT) for name in found.layers):
        return None
    scale = torch.ones(len(found.atoms), dtype=torch.float64)
    shift = torch.zeros(len(found.atoms), dtype=torch.float64)
    made: list[Tensor] = []
    for name, channels in coupling.channels.items():
        layer = network.layer(name)
        if not np.isin(channels.outputs, found.atoms).any():
            continue
        if isinstance(layer, BatchNorm) and layer.running_var is not None:
            grown = (layer.running_var.double() + layer.eps).rsqrt()
            grown = grown * layer.weight.double() if layer.affine else grown
            offset = layer.bias.double() if layer.affine else torch.zeros_like(grown)
            assert layer.running_mean is not None
            offset = offset - grown * layer.running_mean.double()
            scale *= _of_atoms(grown[:, None], channels.outputs, found.atoms)[:, 0]
            shift += _of_atoms(offset[:, None], channels.outputs, found.atoms)[:, 0]
        elif name in found.layers:
            rows = rows_of(layer).double()
            bias = getattr(layer, "bias", None)
            if isinstance(bias, Tensor):
                rows = torch.cat([rows, bias.double()[:, None]], dim=1)
            made.append(_of_atoms(rows, channels.outputs, found.atoms))
    rows = torch.cat([scale[:, None] * torch.cat(made, dim=1), shift[:, None]], dim=1)
    result: Tensor = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").square()
    return result


def _of_atoms(values: Tensor, outputs: IntArray, atoms: IntArray) -> Tensor:
    """Return the values (outputs, numbers) of each atom's channels, filled up with zeros."""
    parts = [values[outputs == atom].flatten() for atom in atoms]
    result: Tensor = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
    return result
