"""Filters as a few prototypes, each moved in one of a few ways: the nearest such by least squares.

What is fitted are units, U×C×K for U filters (or slices, C = 1) of K places. `ways`, E×K×B, are
the matrices that move a prototype C×B. Everything is deterministic.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from featherweight.engine.jobs import Check, unchecked

SEED = 20260101
MOST_ROUNDS, FEWEST_ROUNDS, ROUNDS_WORK = 30, 4, 2**33
# Shares of the squares: of what a round must gain, and of what is rounding.
STEADY, ROUNDING = 2e-4, 1e-6
TABLE_ELEMENTS = 2**23
MOST_SAMPLES, MOST_TRIALS, TRIALS_WORK = 2**13, 64, 2**31


@dataclass(frozen=True)
class Fit:
    """Prototypes P×C×B float64, the code prototype·E + way and the factor of every unit."""

    prototypes: Tensor
    codes: Tensor
    scales: Tensor


def most_prototypes(budget: int, each: int, units: int, ways: int, beside: int = 0) -> int:
    """Return how many prototypes fit into so many bits with the codes of all units, at least 1.

    `each` are the bits of a prototype, `beside` those of a unit without its code. More than one
    for every unit would help nothing.
    """
    found = [1]
    for bits in range(1, max(units * ways, 2).bit_length() + 1):
        left = (budget - units * beside - 8 * -(-units * bits // 8)) // each
        found.append(min(left, 2**bits // ways, units))
    return max(found)


def fitted(
    units: Tensor, ways: Tensor, start: Tensor, scaled: bool, check: Check = unchecked
) -> Fit:
    """Return the fit that alternating least squares comes to from prototypes to start at.

    A unit takes the nearest moved prototype, with the best factor where it is `scaled`; then a
    prototype becomes the nearest to all that took it. Neither step can raise the error.
    """
    prototypes, whole = start.double(), float(units.double().square().sum())
    work = len(units) * len(start) * len(ways)
    rounds = min(max(ROUNDS_WORK // work, FEWEST_ROUNDS), MOST_ROUNDS)
    before = -math.inf
    while True:
        codes, scales, gains = _assigned(units, _moved(prototypes, ways), scaled, check)
        gain = float(gains.sum())
        if not rounds or gain - before <= STEADY * whole:
            return Fit(prototypes, codes, scales)
        rounds, before = rounds - 1, gain
        prototypes = _updated(units, ways, codes, scales, len(start))


def started(
    units: Tensor, ways: Tensor, count: int, scaled: bool, check: Check = unchecked
) -> Tensor:
    """Return prototypes count×C×B to start at, drawn as k-means++ does (Arthur and Vassilvitskii).

    Each is a unit drawn by its error so far, of several drawn the one that leaves the least. A
    unit that is a moved prototype gives that prototype. Where no error is left, zeros follow.
    """
    generator = torch.Generator().manual_seed(SEED)
    seen = units[:: -(-len(units) // MOST_SAMPLES)]
    prototypes = torch.zeros(count, units.shape[1], ways.shape[2], dtype=torch.float64)
    whole = seen.double().square().sum((1, 2)).float()
    left = whole.clone()
    work = count * len(ways) * seen.numel()
    trials = min(max(TRIALS_WORK // work, 2), MOST_TRIALS, len(seen))
    inverses = torch.linalg.pinv(ways.double())
    for place in range(count):
        check()
        left[left < ROUNDING * whole] = 0
        if not float(left.sum()) > 0:
            break
        drawn = min(trials, int((left > 0).sum()))
        candidates = seen[torch.multinomial(left, drawn, generator=generator)]
        tried = _turned_back(candidates, ways, inverses)
        gains = _gains(seen, _moved(tried, ways), scaled).reshape(len(seen), drawn, -1)
        rests = torch.minimum(left[:, None], whole[:, None] - gains.amax(2))
        best = int(rests.sum(0).argmin())
        prototypes[place], left = tried[best], rests[:, best].clamp_min(0)
    return prototypes


def _moved(prototypes: Tensor, ways: Tensor) -> Tensor:
    """Return all prototypes in all ways, P·E×C×K."""
    return torch.einsum("pcb,ekb->peck", prototypes, ways.double()).flatten(0, 1)


def _turned_back(units: Tensor, ways: Tensor, inverses: Tensor) -> Tensor:
    """Return for each unit the prototype that is nearest to it in the way that fits it best."""
    back = torch.einsum("uck,ebk->uecb", units.double(), inverses)
    energy = torch.einsum("uecb,ekb->ueck", back, ways.double()).square().sum((2, 3))
    # Of ways that fit alike it is the first, whatever the last digits are.
    close = energy >= energy.amax(1, keepdim=True) * (1 - ROUNDING)
    return back[torch.arange(len(units)), close.int().argmax(1)]


def _gains(units: Tensor, moved: Tensor, scaled: bool) -> Tensor:
    """Return how much of a unit's squared sum each moved prototype takes away, U×P·E float32."""
    rows = moved.flatten(1).float()
    if scaled:
        return (units.flatten(1).float() @ nn.functional.normalize(rows).T).square_()
    return (units.flatten(1).float() @ rows.T).mul_(2).sub_(rows.square().sum(1))


def _assigned(
    units: Tensor, moved: Tensor, scaled: bool, check: Check
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the code, the factor and what is gained of every unit."""
    codes = []
    for part in _parts(units, len(moved)):
        check()
        codes.append(_gains(part, moved, scaled).argmax(1))
    found = torch.cat(codes)
    scales, gains = [], []
    for part, code in zip(_parts(units, len(moved)), _parts(found, len(moved)), strict=True):
        near, wide = moved[code].flatten(1), part.flatten(1).double()
        products, sizes = (wide * near).sum(1), near.square().sum(1)
        factor = torch.where(sizes > 0, products / sizes, 0) if scaled else torch.ones_like(sizes)
        scales.append(factor)
        gains.append(2 * factor * products - factor.square() * sizes)
    return found, torch.cat(scales), torch.cat(gains)


def _parts(values: Tensor, columns: int) -> Iterator[Tensor]:
    yield from values.split(max(TABLE_ELEMENTS // columns, 1))


def _updated(units: Tensor, ways: Tensor, codes: Tensor, scales: Tensor, count: int) -> Tensor:
    """Return the prototypes that are nearest to the units that took them."""
    size, wide = ways.shape[2], ways.double()
    sums = torch.zeros(count, units.shape[1], size, dtype=torch.float64)
    squares = torch.zeros(count, size, size, dtype=torch.float64)
    owners, taken = codes // len(ways), codes % len(ways)
    for way, matrix in enumerate(wide):
        here = taken == way
        back = (units[here].double() * scales[here, None, None]) @ matrix
        sums.index_add_(0, owners[here], back)
        weights = torch.zeros(count, dtype=torch.float64)
        weights.index_add_(0, owners[here], scales[here].square())
        squares += weights[:, None, None] * (matrix.T @ matrix)
    inverses: Tensor = torch.linalg.pinv(squares, hermitian=True)
    return sums @ inverses
