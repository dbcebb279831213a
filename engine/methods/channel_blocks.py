"""Channels in blocks of equal size that hold the most of a weight between them.

What lies between a block of outputs and its block of inputs stays, the rest is lost. Which
channels make a block is found by turns: with the blocks of one side fixed, those of the other are
an assignment.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.low_rank import leading_vectors

# Turns end when one of them holds hardly more than the one before.
MOST_TURNS, ENOUGH = 20, 1 + 1e-4


@dataclass(frozen=True)
class Blocks:
    """The channels of each block in ascending order, int64: blocks by channels of a block."""

    outputs: Tensor
    inputs: Tensor


def best_blocks(energies: Tensor, count: int, check: Check = unchecked) -> Blocks:
    """Return so many blocks that hold much of the energies, outputs×inputs float64, none negative.

    `count` divides both. The start are blocks of outputs that are alike in the leading singular
    vectors, as in spectral co-clustering (Dhillon 2001), and the channels as they stand; the
    better end of both is taken.
    """
    outputs = torch.arange(len(energies)) // (len(energies) // count)
    ends = [
        _by_turns(energies, start, count, check)
        for start in (outputs, _alike(energies, count, check))
    ]
    _, rows, columns = max(ends, key=lambda end: end[0])
    return Blocks(_members(rows, count), _members(columns, count))


def _by_turns(
    energies: Tensor, rows: Tensor, count: int, check: Check
) -> tuple[float, Tensor, Tensor]:
    """Return the energy held in the end, and the block of each output and of each input."""
    held, columns = -1.0, rows
    for _ in range(MOST_TURNS):
        inside = _sums(energies, rows, count)
        chosen = assigned(inside.T, check)
        inside = _sums(energies.T, chosen, count)
        others = assigned(inside.T, check)
        now = float(inside.gather(0, others[None]).sum())
        if now <= held * ENOUGH:
            break
        held, rows, columns = now, others, chosen
    return held, rows, columns


def _sums(energies: Tensor, rows: Tensor, count: int) -> Tensor:
    """Return the energies of all rows of a block, blocks by columns."""
    members = torch.nn.functional.one_hot(rows, count).to(energies.dtype)
    return members.T @ energies


def assigned(gains: Tensor, check: Check = unchecked) -> Tensor:
    """Return the block of each channel, channels×blocks, equally many in each, that gain much.

    Channels that have most to lose choose first; then any two of different blocks change places
    while that gains. With two blocks nothing gains more.
    """
    count = gains.shape[1]
    each = len(gains) // count
    best = gains.topk(min(2, count), 1)
    regret = best.values[:, 0] - best.values[:, -1]
    left = [each] * count
    found = torch.empty(len(gains), dtype=torch.int64)
    wishes = gains.argsort(dim=1, descending=True, stable=True).tolist()
    for channel in regret.argsort(dim=0, descending=True, stable=True).tolist():
        block = next(block for block in wishes[channel] if left[block])
        left[block] -= 1
        found[channel] = block
    for _ in range(MOST_TURNS):
        check()
        pairs = itertools.combinations(range(count), 2)
        if not sum(_exchanged(gains, found, one, other) for one, other in pairs):
            break
    return found


def _exchanged(gains: Tensor, found: Tensor, one: int, other: int) -> int:
    """Let channels of two blocks change places, in place; return how many pairs did."""
    first, second = ((found == block).nonzero().flatten() for block in (one, other))
    difference = gains[:, other] - gains[:, one]
    first = first[difference[first].argsort(dim=0, descending=True, stable=True)]
    second = second[difference[second].argsort(dim=0, stable=True)]
    # More than rounding, or two would change places for ever.
    gained = difference[first] - difference[second] > 1e-12 * difference.abs().max()
    found[first[gained]], found[second[gained]] = other, one
    return int(gained.sum())


def _alike(energies: Tensor, count: int, check: Check) -> Tensor:
    """Return blocks of rows that are alike in the leading left singular vectors."""
    level = energies.mean().clamp_min(torch.finfo(energies.dtype).tiny)
    rows = (energies.sum(1) + level).sqrt()
    columns = (energies.sum(0) + level).sqrt()
    vectors = leading_vectors(energies / rows[:, None] / columns, count, check)
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    places = vectors / lengths.clamp_min(torch.finfo(energies.dtype).tiny)
    chosen = _apart(places, int(lengths.argmax()), count)
    return assigned(places @ places[chosen].T, check)


def _apart(places: Tensor, first: int, count: int) -> Sequence[int]:
    """Return rows of which each is as far as can be from those before it."""
    chosen = [first]
    near = places @ places[first]
    while len(chosen) < count:
        chosen.append(int(near.abs().argmin()))
        near = torch.maximum(near.abs(), (places @ places[chosen[-1]]).abs())
    return chosen


def _members(blocks: Tensor, count: int) -> Tensor:
    return torch.argsort(blocks, stable=True).reshape(count, -1)
