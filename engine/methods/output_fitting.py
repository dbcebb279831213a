"""Factors of kernels whose outputs are the nearest, by the moments of the patches that they meet.

A chain of factors computes B Pᵀx of a patch x. Where P is known, B is a least squares problem with
one answer; P itself comes from a decomposition in which inputs count as much as they vary.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from featherweight.engine.evidence import NOTHING, Evidence
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.output_factors import LEAST

# Directions of Pᵀx that no input takes have no answer of their own; moments are exact to 1e-7.
RIDGE = 1e-7
COLUMNS_AT_ONCE = 256


@dataclass(frozen=True)
class Patches:
    """Moments of the patches x of one group: E[x xᵀ] of consecutive columns, and E[x], float64.

    The columns are the channels, and in each the taps of the kernel. What lies between two blocks
    was not measured.
    """

    blocks: tuple[Tensor, ...]
    mean: Tensor

    def centred(self) -> "Patches":
        """Return the covariance in the place of E[x xᵀ]: a bias takes up what is lost of E[x]."""
        parts = self.mean.split([len(block) for block in self.blocks])
        pairs = zip(self.blocks, parts, strict=True)
        return Patches(tuple(block - torch.outer(part, part) for block, part in pairs), self.mean)

    def alone(self, labels: Tensor, places: Tensor) -> Iterator["Patches"]:
        """Give for every place the patches of its columns alone, one column for each label.

        Both are int64 with a number for every column, counted from 0; the columns of one place
        have different labels.
        """
        side = int(labels.max()) + 1
        for place in range(int(places.max()) + 1):
            made, start = torch.zeros(side, side, dtype=torch.float64), 0
            for block in self.blocks:
                at = (places[start : start + len(block)] == place).nonzero().flatten()
                rows = labels[start + at]
                made[rows[:, None], rows] = block[at[:, None], at]
                start += len(block)
            mean = torch.zeros(side, dtype=torch.float64)
            mean[labels[places == place]] = self.mean[places == place]
            yield Patches((made,), mean)

    def together(self, labels: Tensor, places: Tensor) -> "Patches":
        """Return the mean over all places of what `alone` gives."""
        count = int(places.max()) + 1
        side = int(labels.max()) + 1
        block = torch.zeros(side, side, dtype=torch.float64)
        mean = torch.zeros(side, dtype=torch.float64)
        for part in self.alone(labels, places):
            block += part.blocks[0]
            mean += part.mean
        return Patches((block / count,), mean / count)

    def outputs(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the variance of A x for the rows of A, k×columns."""
        mean = rows @ self.mean
        squares, start = torch.zeros_like(mean), 0
        for block in self.blocks:
            part = rows[:, start : start + len(block)]
            squares += ((part @ block) * part).sum(1)
            start += len(block)
        return mean, (squares - mean.square()).clamp_min(0)


def patches_of(evidence: Mapping[str, Evidence]) -> list[Patches]:
    """Return what was measured of a layer's weight by groups; nothing where it is not finite."""
    moments = evidence.get("weight", NOTHING).moments
    if moments is None or not all(bool(part.isfinite().all()) for part in moments.blocks):
        return []
    return [
        Patches(tuple(block[group].double() for block in moments.blocks), mean.double())
        for group, mean in enumerate(moments.mean)
    ]


def by_taps(channels: int, taps: int) -> tuple[Tensor, Tensor]:
    """Return the channel and the tap of every column."""
    return (
        torch.arange(channels).repeat_interleave(taps),
        torch.arange(taps).repeat(channels),
    )


def on_every_tap(rows: Tensor, taps: int) -> Tensor:
    """Return P, C·taps by k·taps, that takes C channels to k on every tap alone; rows are k×C."""
    spread = torch.einsum("kc,tu->ctku", rows, torch.eye(taps, dtype=rows.dtype))
    return spread.reshape(rows.shape[1] * taps, -1)


def refitted(
    matrix: Tensor, made: Tensor, basis: Tensor, patches: Patches, check: Check = unchecked
) -> tuple[Tensor, Tensor]:
    """Return B, m×k, with the least E‖W x - B Pᵀx‖², and E[Pᵀx xᵀP], k×k, float64.

    `matrix` is W, m×n, and `basis` P, n×k. `made`, m×k, is a B to start from, which stays where
    data asks for nothing else.
    """
    wide, narrow = matrix.double(), basis.double()
    lengths = torch.linalg.vector_norm(narrow, dim=0)
    lengths = torch.where(lengths > 0, lengths, 1.0)
    lost, narrow = wide - made @ narrow.T, narrow / lengths
    count, start = narrow.shape[1], 0
    gram = torch.zeros(count, count, dtype=torch.float64)
    cross = torch.zeros(len(wide), count, dtype=torch.float64)
    for block in patches.blocks:
        check()
        rows = narrow[start : start + len(block)]
        image = _product(block, rows, check)
        gram += _product(rows.T, image, check)
        cross += lost[:, start : start + len(block)] @ image
        start += len(block)
    check()
    found = made + _solved(gram, cross) / lengths
    return found, gram * lengths * lengths[:, None]


def _product(left: Tensor, right: Tensor, check: Check) -> Tensor:
    """Return left · right, which for wide kernels takes long, so that it can be stopped."""
    parts = []
    for columns in right.split(COLUMNS_AT_ONCE, 1):
        check()
        parts.append(left @ columns)
    return torch.cat(parts, 1)


def _solved(gram: Tensor, cross: Tensor) -> Tensor:
    """Return cross · gram⁻¹ of a gram that rounding may have left without an inverse."""
    level = max(RIDGE * float(gram.diagonal().mean()), LEAST)
    while True:
        lower, failed = torch.linalg.cholesky_ex(gram + level * torch.eye(len(gram)))
        if not failed:
            return torch.cholesky_solve(cross.T, lower).T
        level *= 10


def seen_by(found: Sequence[Patches], bias: Tensor | None) -> list[Patches]:
    """Return the patches as factors have to be near on: a bias takes up what is lost of E[x]."""
    return [patches if bias is None else patches.centred() for patches in found]


def mended_bias(
    bias: Tensor | None,
    kernels: Sequence[Tensor],
    made: Sequence[Tensor],
    found: Sequence[Patches],
) -> Tensor | None:
    """Return the bias and E[W x - Ŵ x] of all groups, W and Ŵ being outputs by columns."""
    if bias is None:
        return None
    groups = zip(kernels, made, found, strict=True)
    lost = [(kernel.flatten(1).double() - near) @ seen.mean for kernel, near, seen in groups]
    return bias.detach() + torch.cat(lost).to(bias.dtype)
