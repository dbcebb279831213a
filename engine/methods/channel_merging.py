"""Channels that compute nearly the same are merged: what reads one of them reads the other twice.

Srinivas and Babu 2015 (arXiv 1507.06149): data-free parameter pruning of neurons. Where ReLU or
the like follows, one may also be a multiple of the other: its readers' weights take up the factor.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from featherweight.engine.inspecting.channel_ids import IntArray
from featherweight.engine.inspecting.channel_layers import RECURRENT, BatchNorm
from featherweight.engine.inspecting.coupling import ChannelSet, Coupling
from featherweight.engine.inspecting.positive_scaling import ScalingPath, scaling_path
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.channel_readers import Reader
from featherweight.engine.methods.channel_scores import Scores, rows_of
from featherweight.engine.network import Network


@dataclass(frozen=True)
class _Pairs:
    """What every atom loses in the place of every other, and its factor there: into by from."""

    losses: Tensor
    factors: Tensor


@torch.no_grad()
def merging_order(
    network: Network,
    coupling: Coupling,
    found: ChannelSet,
    readers: Sequence[Reader],
    scaled: bool,
    check: Check = unchecked,
) -> Scores | None:
    """Return for each atom of a set when it is merged into another, 0.0 for the first.

    Each step takes the pair whose distance, times the energy of the weights that read the one that
    goes, is least. `scaled` pairs may differ in length. None where the channels are not made by
    rows of weights, or nothing reads them.
    """
    pairs = _pairs(network, coupling, found, readers, scaled)
    if pairs is None or not readers:
        return None
    reading = torch.cat([_reading(reader, found.atoms) for reader in readers], dim=1)
    losses = pairs.losses
    losses.fill_diagonal_(torch.inf)
    scores = np.zeros(len(losses))
    for step in range(len(losses) - 1):
        check()
        nearest = losses.min(0)
        costs = nearest.values * reading.square().sum(1)
        costs[nearest.values.isinf()] = torch.inf
        gone = int(costs.argmin())
        into = int(nearest.indices[gone])
        reading[into] += pairs.factors[into, gone] * reading[gone]
        scores[gone] = step
        losses[gone] = losses[:, gone] = torch.inf
        scores[into] = len(losses)
    return scores


@torch.no_grad()
def merge(
    network: Network,
    coupling: Coupling,
    found: ChannelSet,
    readers: Sequence[Reader],
    scaled: bool,
    removed: IntArray,
) -> None:
    """Let what reads a removed atom read the nearest one that stays instead, in place."""
    pairs = _pairs(network, coupling, found, readers, scaled)
    gone = np.isin(found.atoms, removed)
    if pairs is None or gone.all() or not gone.any():
        return
    pairs.losses[torch.from_numpy(gone)] = torch.inf
    into = pairs.losses.argmin(0)
    for reader in readers:
        matrix = reader.matrix.clone()
        for group, labels in enumerate(reader.atoms):
            for place in np.flatnonzero(gone):
                taken = int(into[place])
                sources = np.flatnonzero(labels == found.atoms[place])
                targets = np.flatnonzero(labels == found.atoms[taken])
                if len(sources) == len(targets):
                    factor = float(pairs.factors[taken, place])
                    matrix[group][:, targets] += factor * matrix[group][:, sources]
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


def _pairs(
    network: Network,
    coupling: Coupling,
    found: ChannelSet,
    readers: Sequence[Reader],
    scaled: bool,
) -> _Pairs | None:
    """Return all pairs of a set's atoms; scaled ones where what lies before the readers scales."""
    if any(isinstance(network.layer(name), RECURRENT) for name in found.layers):
        return None
    path = scaling_path(network, found, {reader.name for reader in readers}) if scaled else None
    if path is None or not _in_step(coupling, path):
        losses = _distances(network, coupling, found)
        return _Pairs(losses, torch.ones_like(losses))
    rows = _scalable_rows(network, coupling, found, path)
    inner = rows @ rows.T
    energies = inner.diagonal()
    factors = inner.clamp_min(0) / torch.where(energies > 0, energies, 1.0)[:, None]
    losses = (energies - factors * inner.clamp_min(0)).clamp_min(0)
    return _Pairs(losses, factors)


def _in_step(coupling: Coupling, path: ScalingPath) -> bool:
    """Say whether a norm has the channels of the layer before it, in their order."""
    made = coupling.channels[path.producer].outputs
    return not path.norm or np.array_equal(made, coupling.channels[path.norm].outputs)


def _scalable_rows(
    network: Network, coupling: Coupling, found: ChannelSet, path: ScalingPath
) -> Tensor:
    """Return what makes the atoms of one layer, its norm folded in: (atoms, numbers) float64."""
    layer, outputs = network.layer(path.producer), coupling.channels[path.producer].outputs
    rows = rows_of(layer).double()
    bias = getattr(layer, "bias", None)
    shift = bias.double() if isinstance(bias, Tensor) else torch.zeros(len(rows)).double()
    norm = network.layer(path.norm) if path.norm else None
    if isinstance(norm, BatchNorm):
        grown, offset = _factor_and_offset(norm)
        rows, shift = grown[:, None] * rows, grown * shift + offset
    return _of_atoms(torch.cat([rows, shift[:, None]], dim=1), outputs, found.atoms)


def _distances(network: Network, coupling: Coupling, found: ChannelSet) -> Tensor:
    """Return the squared distances of what makes the atoms, norms folded in: (atoms, atoms)."""
    scale = torch.ones(len(found.atoms), dtype=torch.float64)
    shift = torch.zeros(len(found.atoms), dtype=torch.float64)
    made: list[Tensor] = []
    for name, channels in coupling.channels.items():
        layer = network.layer(name)
        if not np.isin(channels.outputs, found.atoms).any():
            continue
        if isinstance(layer, BatchNorm) and layer.running_var is not None:
            grown, offset = _factor_and_offset(layer)
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


def _factor_and_offset(norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """Return what a norm with running statistics multiplies its channels by, and adds; float64."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    grown = (norm.running_var.double() + norm.eps).rsqrt()
    grown = grown * norm.weight.double() if norm.affine else grown
    offset = norm.bias.double() if norm.affine else torch.zeros_like(grown)
    return grown, offset - grown * norm.running_mean.double()


def _of_atoms(values: Tensor, outputs: IntArray, atoms: IntArray) -> Tensor:
    """Return the values (outputs, numbers) of each atom's channels, filled up with zeros."""
    parts = [values[outputs == atom].flatten() for atom in atoms]
    result: Tensor = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
    return result
