"""The canonical polyadic (CP) decomposition of a convolution's kernel, in float64.

A kernel N×C×taps is the sum of `rank` components, each a vector of outputs times one of inputs
times one or more along the taps. Factors are lists of matrices of such vectors: N×rank, C×rank,
then one for each of `sizes`, whose product is the number of taps. All of it is deterministic.
"""

import math
from dataclasses import dataclass
from functools import reduce
from operator import mul

import torch
from torch import Tensor

from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.low_rank import leading_vectors

Factors = list[Tensor]

# Squared norms of all components together, in parts of the kernel's: where components grow beyond
# it they only cancel each other, as they do where no best decomposition exists.
MOST_ENERGY = 10.0
FIRST_PENALTY, PENALTY_FALL, LAST_PENALTY = 1e-3, 0.3, 1e-14
FIRST_DAMPING, LAST_DAMPING = 1e-3, 1e-14
MOST_STEPS, STEP_ACCURACY = 60, 1e-2
ROUNDING = 1e-12


@dataclass(frozen=True)
class Kernel:
    """A kernel of norm 1 as two matrices: (N·taps)×C and (C·taps)×N."""

    by_inputs: Tensor
    by_outputs: Tensor
    sizes: tuple[int, ...]

    def over_inputs(self, inputs: Tensor) -> Tensor:
        """Return N×taps×rank."""
        return (self.by_inputs @ inputs).reshape(self.by_outputs.shape[1], -1, inputs.shape[1])

    def over_outputs(self, outputs: Tensor) -> Tensor:
        """Return C×taps×rank."""
        return (self.by_outputs @ outputs).reshape(self.by_inputs.shape[1], -1, outputs.shape[1])

    def along(self, taps: Tensor, factors: Factors, mode: int) -> Tensor:
        """Return taps×rank times all factors of the taps but one."""
        values = taps.reshape(*self.sizes, -1)
        for other in reversed(range(len(self.sizes))):
            if other != mode:
                shape = [1] * len(self.sizes)
                shape[other] = self.sizes[other]
                factor = factors[2 + other].reshape(*shape, -1)
                values = (values * factor).sum(other, keepdim=True)
        return values.reshape(self.sizes[mode], -1)


@dataclass(frozen=True)
class Point:
    """Factors with what the next step needs: the kernel times all others, and Gram matrices."""

    factors: Factors
    products: Factors
    grams: Factors

    def error(self) -> float:
        """Return the squared distance from the kernel."""
        inner = (self.products[0] * self.factors[0]).sum()
        return max(float(1 - 2 * inner + _product(self.grams).sum()), 0.0)

    def cost(self, penalty: float) -> float:
        """Return the squared distance and the penalty on all factors."""
        return self.error() + penalty * sum(float(gram.trace()) for gram in self.grams)

    def energy(self) -> float:
        """Return the squared norms of all components together."""
        return float(_product([gram.diagonal() for gram in self.grams]).sum())


def decompose(
    kernel: Tensor, rank: int, sizes: tuple[int, ...], rounds: int, check: Check = unchecked
) -> Factors:
    """Return factors whose components are near a kernel N×C×…, all of equal norms in a component.

    Alternating least squares, which solves for one factor at a time, makes the start. Each round is
    a damped Gauss-Newton step on all factors at once (Levenberg and Marquardt; Tichavsky et al.
    2013, Sorber et al. 2013) under a penalty on their squares, which falls from round to round. It
    ends early at the first round that would leave components of more than `MOST_ENERGY`.
    """
    tensor = kernel.double().flatten(2)
    norm = float(torch.linalg.vector_norm(tensor))
    if norm == 0:
        return [
            torch.zeros(size, rank, dtype=torch.float64) for size in (*tensor.shape[:2], *sizes)
        ]
    tensor = tensor / norm
    problem = Kernel(
        tensor.transpose(1, 2).flatten(0, 1), tensor.permute(1, 2, 0).flatten(0, 1), sizes
    )
    factors = _start(tensor, rank, sizes, check)
    for _ in range(max(rounds, 1)):
        factors = _alternated(problem, factors, check)
    factors = _refined(problem, factors, rounds, check)
    return [factor * norm ** (1 / len(factors)) for factor in _balanced(factors)]


def _start(tensor: Tensor, rank: int, sizes: tuple[int, ...], check: Check) -> Factors:
    """Return random factors, those of the channels out of their leading singular vectors.

    The vectors themselves would pair outputs and inputs by rank, which is a bad place to start.
    """
    generator = torch.Generator().manual_seed(0)

    def noise(size: int) -> Tensor:
        return torch.randn(size, rank, generator=generator, dtype=torch.float64) / math.sqrt(size)

    sides = (tensor.flatten(1), tensor.transpose(0, 1).flatten(1))
    spans = [leading_vectors(side, min(rank, len(side)), check) for side in sides]
    return [*(span @ noise(span.shape[1]) for span in spans), *map(noise, sizes)]


def _alternated(kernel: Kernel, factors: Factors, check: Check) -> Factors:
    """Solve for one factor after the other, each with all others held."""
    found, grams = list(factors), [factor.T @ factor for factor in factors]

    def solve(mode: int, product: Tensor) -> None:
        check()
        found[mode] = _solved(_product(grams, mode), product, FIRST_PENALTY)
        grams[mode] = found[mode].T @ found[mode]

    taps = _taps(found)
    solve(1, (kernel.over_outputs(found[0]) * taps).sum(1))
    partial = kernel.over_inputs(found[1])
    solve(0, (partial * taps).sum(1))
    left = (partial * found[0][:, None]).sum(0)
    for mode in range(len(kernel.sizes)):
        solve(2 + mode, kernel.along(left, found, mode))
    return _balanced(found)


def _refined(kernel: Kernel, factors: Factors, rounds: int, check: Check) -> Factors:
    point, penalty, damping = _point(kernel, factors), FIRST_PENALTY, FIRST_DAMPING
    for _ in range(rounds):
        check()
        penalty = max(penalty * PENALTY_FALL, LAST_PENALTY)
        step, promised = _step(point, penalty, damping, check)
        made = [factor + change for factor, change in zip(point.factors, step, strict=True)]
        reached = _point(kernel, made)
        gained = point.cost(penalty) - reached.cost(penalty)
        if not gained > 0:
            damping *= 4
            continue
        if reached.energy() > MOST_ENERGY:
            break
        point, trust = reached, gained / promised
        # Nielsen's rule: more damping where the model promised too much, less where it held.
        damping = max(damping * max(1 / 3, 1 - (2 * trust - 1) ** 3), LAST_DAMPING)
    return point.factors


def _point(kernel: Kernel, factors: Factors) -> Point:
    outputs, inputs = factors[:2]
    taps, partial = _taps(factors), kernel.over_inputs(inputs)
    left = (partial * outputs[:, None]).sum(0)
    products = [
        (partial * taps).sum(1),
        (kernel.over_outputs(outputs) * taps).sum(1),
        *(kernel.along(left, factors, mode) for mode in range(len(kernel.sizes))),
    ]
    return Point(factors, products, [factor.T @ factor for factor in factors])


def _step(point: Point, penalty: float, damping: float, check: Check) -> tuple[Factors, float]:
    """Return the damped Gauss-Newton step by conjugate gradients, and the gain it promises."""
    shift = penalty + damping
    count = len(point.factors)
    downhill = [
        point.products[mode] - factor @ _product(point.grams, mode) - penalty * factor
        for mode, factor in enumerate(point.factors)
    ]
    blocks = [_product(point.grams, mode) for mode in range(count)]
    step = [torch.zeros_like(factor) for factor in point.factors]
    left = downhill
    eased = [_solved(block, part, shift) for block, part in zip(blocks, left, strict=True)]
    way, force = eased, _inner(left, eased)
    goal = force * STEP_ACCURACY**2
    for _ in range(MOST_STEPS):
        check()
        if force <= goal:
            break
        bent = _curved(point, way, shift)
        length = force / _inner(way, bent)
        step = [part + length * change for part, change in zip(step, way, strict=True)]
        left = [part - length * change for part, change in zip(left, bent, strict=True)]
        eased = [_solved(block, part, shift) for block, part in zip(blocks, left, strict=True)]
        force, before = _inner(left, eased), force
        way = [part + force / before * last for part, last in zip(eased, way, strict=True)]
    promised = _inner(step, downhill) + _inner(step, left) + damping * _inner(step, step)
    return step, promised


def _curved(point: Point, way: Factors, shift: float) -> Factors:
    """Return (JᵀJ + shift)·way, J the derivative of the decomposition by its factors."""
    modes = range(len(way))
    mixed = [change.T @ factor for change, factor in zip(way, point.factors, strict=True)]
    made = []
    for mode in modes:
        others = [
            _product(point.grams, mode, other) * mixed[other] for other in modes if other != mode
        ]
        across = point.factors[mode] @ torch.stack(others).sum(0)
        made.append(way[mode] @ _product(point.grams, mode) + across + shift * way[mode])
    return made


def _solved(gram: Tensor, product: Tensor, shift: float) -> Tensor:
    """Return product·(gram + shift)⁻¹; a gram of less than full rank is lifted by rounding."""
    lift = shift + ROUNDING * float(gram.diagonal().max())
    root = torch.linalg.cholesky(gram + lift * torch.eye(len(gram), dtype=gram.dtype))
    return torch.cholesky_solve(product.T, root).T


def _balanced(factors: Factors) -> Factors:
    """Share the norm of every component equally among its vectors."""
    norms = [torch.linalg.vector_norm(factor, dim=0) for factor in factors]
    share = _product(norms) ** (1 / len(factors))
    return [
        factor * torch.where(norm > 0, share / norm, torch.zeros_like(norm))
        for factor, norm in zip(factors, norms, strict=True)
    ]


def _taps(factors: Factors) -> Tensor:
    """Return the product of the factors of the taps, taps×rank, the last size running fastest."""
    taps = factors[2]
    for factor in factors[3:]:
        taps = (taps[:, None] * factor).flatten(0, 1)
    return taps


def _product(values: Factors, *without: int) -> Tensor:
    product: Tensor = reduce(
        mul, (value for place, value in enumerate(values) if place not in without)
    )
    return product


def _inner(one: Factors, other: Factors) -> float:
    return sum(float((a * b).sum()) for a, b in zip(one, other, strict=True))
