"""Optimal brain surgery on channels: what the layers that read them lose, and can make up for.

A reader with weights A of inputs x loses the columns of some channels. What stays may take over
what the lost ones said, by least squares on E[x xᵀ]; what is lost all the same is the score.
Hassibi and Stork 1993 for single weights; Luo et al. 2017 (ThiNet, arXiv 1707.06342) and Kurtic et
al. 2023 (ZipLM, arXiv 2302.04089) for columns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from featherweight.engine.evidence import Found, InputMoments
from featherweight.engine.inspecting.channel_ids import IntArray
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.channel_readers import Reader
from featherweight.engine.methods.channel_scores import Scores

# Added to the moments' diagonal, as a share of its mean: samples tell no more than that.
DAMPING = 1e-3
# Of wide layers several channels go at each step, else they would take minutes.
MOST_STEPS = 128


@torch.no_grad()
def removal_order(
    readers: Sequence[Reader], found: Found, atoms: IntArray, count: int, check: Check = unchecked
) -> Scores | None:
    """Return for each atom when it goes: 0.0 for the first of `count`, the rest by what they cost.

    Each step removes the atoms that cost the outputs of all readers least, each reader's as a share
    of its own, after the rest has made up for them. None where no reader was measured.
    """
    parts = [part for reader in readers for part in _measured_parts(reader, found, atoms)]
    if not parts:
        return None
    scores = np.full(len(atoms), np.inf)
    gone = torch.zeros(len(atoms), dtype=torch.bool)
    count = min(count, len(atoms) - 1)
    together = max(1, count // MOST_STEPS)
    for step in range(0, count, together):
        check()
        first = torch.argsort(_losses(parts, gone), stable=True)[: min(together, count - step)]
        scores[first.numpy()] = step + np.arange(len(first))
        gone[first] = True
        for part in parts:
            part.remove(first.tolist())
    rest = torch.argsort(_losses(parts, gone), stable=True)[: int((~gone).sum())].numpy()
    scores[rest] = len(atoms) + np.arange(len(rest))
    return scores


@torch.no_grad()
def make_up(reader: Reader, moments: InputMoments, removed: IntArray) -> None:
    """Let the columns that stay, and the bias, take over what the removed ones said, in place."""
    old, centred = reader.matrix, reader.layer.bias is not None
    new = old.clone()
    gone = np.isin(reader.atoms, removed)
    for group, columns, block in spread(moments, centred):
        lost = torch.from_numpy(gone[group, columns])
        if lost.all() or not lost.any():
            continue
        kept_moments = block[~lost][:, ~lost]
        solved = torch.linalg.solve(kept_moments, block[~lost][:, lost])
        part = old[group][:, columns].double()
        part[:, ~lost] += part[:, lost] @ solved.T
        new[group][:, columns] = part.to(new.dtype)
    if not new.isfinite().all():
        return
    left = new.clone()
    left.transpose(1, 2)[torch.from_numpy(gone)] = 0
    weight = reader.layer.get_parameter("weight")
    reader.become(new, moments.shift(reader.view.weight(old - left, weight.shape)))


def spread(moments: InputMoments, centred: bool) -> Iterator[tuple[int, slice, Tensor]]:
    """Give each part of the moments, float64 and damped; of the covariance if `centred`."""
    for group, columns, block in moments.parts():
        part = block.double()
        if centred:
            mean = moments.mean[group, columns].double()
            part = part - torch.outer(mean, mean)
        level = DAMPING * float(part.diagonal().mean())
        yield group, columns, part + max(level, 1e-30) * torch.eye(len(part), dtype=part.dtype)


@dataclass
class _Part:
    """One block of a reader: weights (columns, rows), the inverse of its moments, its share.

    `places` has for each number of columns the atoms with so many, and their columns.
    """

    weights: Tensor
    inverse: Tensor
    scale: float
    places: list[tuple[Tensor, Tensor]]
    columns: list[Tensor]

    def losses(self, count: int) -> Tensor:
        """Return what each of `count` atoms would cost now: (count,) float64."""
        result = torch.zeros(count, dtype=torch.float64)
        for atoms, columns in self.places:
            weights = self.weights[columns]
            if columns.shape[1] == 1:
                own = self.inverse.diagonal()[columns[:, 0]]
                result[atoms] += weights.square().sum((1, 2)) / own
                continue
            blocks = self.inverse[columns[:, :, None], columns[:, None, :]]
            products = weights @ weights.transpose(1, 2)
            traces = torch.linalg.solve(blocks, products).diagonal(dim1=1, dim2=2)
            result[atoms] += traces.sum(1)
        return result * self.scale

    def remove(self, atoms: Sequence[int]) -> None:
        columns = torch.cat([self.columns[atom] for atom in atoms])
        if not len(columns):
            return
        rows = self.inverse[columns]
        solved = torch.linalg.solve(rows[:, columns], rows)
        self.weights.addmm_(solved.T, self.weights[columns], alpha=-1)
        self.inverse.addmm_(rows.T, solved, alpha=-1)
        self.weights[columns] = 0
        # What is gone must not make the blocks singular.
        self.inverse[columns] = 0
        self.inverse[:, columns] = 0
        self.inverse[columns, columns] = 1


def _losses(parts: Sequence[_Part], gone: Tensor) -> Tensor:
    total = torch.zeros(len(gone), dtype=torch.float64)
    for part in parts:
        total += part.losses(len(gone))
    return total.masked_fill(gone, torch.inf)


def _measured_parts(reader: Reader, found: Found, atoms: IntArray) -> Iterator[_Part]:
    moments = reader.measured(found)
    if moments is None:
        return
    power = moments.power(reader.layer.get_parameter("weight").detach())
    matrix = reader.matrix.double()
    for group, columns, block in spread(moments, reader.layer.bias is not None):
        labels = reader.atoms[group, columns]
        places = [torch.from_numpy(np.flatnonzero(labels == atom)) for atom in atoms]
        lengths = np.array([len(each) for each in places])
        by_length = [
            (
                torch.from_numpy(np.flatnonzero(lengths == length)),
                torch.stack([each for each in places if len(each) == length]),
            )
            for length in np.unique(lengths[lengths > 0])
        ]
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(block))
        weights = matrix[group][:, columns].T.contiguous()
        yield _Part(weights, inverse, 1 / max(power, 1e-30), by_length, places)
