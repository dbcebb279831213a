"""Channels where tensors meet: element by element, or multiplied and summed over."""

from collections.abc import Sequence

import numpy as np

from featherweight.engine.inspecting.channel_ids import NONE, Constraints, IdTensor, IntArray

Operand = tuple[IdTensor, str]


def elementwise(
    flow: Constraints, operands: Sequence[IdTensor], shape: tuple[int, ...], name: str
) -> IdTensor:
    """Unite the channels of tensors that are combined element by element with broadcasting.

    A tensor without channels keeps the size of each dimension that it has in full.
    """
    meet = f"its channels meet values of fixed size in {name}"
    aligned = [_aligned(operand, len(shape)) for operand in operands]
    carriers: list[IdTensor] = []
    constants: list[IdTensor] = []
    for operand in aligned:
        spread = _spread(flow, operand, aligned, shape)
        if spread:
            flow.channels.lock(operand.ids, f"its channels are spread over others in {name}")
        (constants if spread or operand.blank else carriers).append(operand)
    if not carriers:
        return IdTensor.empty(shape)
    ids = carriers[0].ids
    for carrier in carriers[1:]:
        flow.join(ids, carrier.ids, meet)
        ids = np.where(ids == NONE, carrier.ids, ids)
    result = flow.now(IdTensor(ids, shape))
    for constant in constants:
        full = [d for d, size in enumerate(constant.shape) if size == shape[d] > 1]
        result = flow.freeze(result, full, meet)
    return result


def _spread(
    flow: Constraints, operand: IdTensor, others: Sequence[IdTensor], shape: tuple[int, ...]
) -> bool:
    """Say whether a tensor is repeated along another's channels and shares none of them.

    Where it does share some (a table for all heads of an attention), the other's channels are
    united along the repeated dimension instead.
    """
    repeated = {d for d, size in enumerate(operand.shape) if size == 1 < shape[d]}
    own = set(flow.free(operand).varying())
    spread = False
    for other in others:
        varying = set(flow.free(other).varying())
        if varying & repeated and varying & own:
            flow.level(other, varying & repeated)
        elif varying & repeated:
            spread = True
    return spread


def contract(
    flow: Constraints,
    left: Operand,
    right: Operand,
    output: str,
    shape: tuple[int, ...],
    name: str,
) -> IdTensor:
    """Follow channels through a product that sums over letters, as einsum writes it.

    Each operand comes with one letter for each dimension. Channels along a letter that both have
    and the output lacks are used up: the two must go together. Channels along other letters pass.
    """
    summed = set(left[1]) & set(right[1]) - set(output)
    tracks = []
    for (track, letters), (_, others) in ((left, right), (right, left)):
        alone = [d for d, letter in enumerate(letters) if letter not in output + others]
        tracks.append((flow.freeze(track, alone, f"{name} sums over its channels"), letters))
    varying = [_varying_letters(flow, operand) for operand in tracks]
    if varying[0] & varying[1] & set(output) and not varying[0] & varying[1] & summed:
        # Only one side could lose channels along the sum, but both can lose them side by side.
        tracks = [_leveled(flow, operand, summed) for operand in tracks]
        varying = [letters - summed for letters in varying]
    if (varying[0] | varying[1]) & summed:
        _use_up(flow, tracks[0], tracks[1], summed, name)
        return IdTensor.empty(shape)
    passing = [operand for operand, letters in zip(tracks, varying, strict=True) if letters]
    if len(passing) == 2:
        return _both(flow, tracks, varying, output, shape, name)
    if not passing:
        return IdTensor.empty(shape)
    other = tracks[0] if passing[0] is tracks[1] else tracks[1]
    sizes = dict(zip(other[1], other[0].shape, strict=True))
    track, letters = passing[0]
    kept = [d for d, letter in enumerate(letters) if sizes.get(letter, 1) > 1]
    track = flow.freeze(track, kept, f"its channels meet values of fixed size in {name}")
    return IdTensor(_projected((flow.free(track), letters), output), shape)


def _use_up(flow: Constraints, left: Operand, right: Operand, summed: set[str], name: str) -> None:
    """Unite the channels that are summed over; each spans all other dimensions of its tensor."""
    order = "".join(sorted(summed))
    arrays: list[IntArray] = []
    for operand in (left, right):
        level = _leveled(flow, operand, set(operand[1]) - summed)
        arrays.append(_projected(level, order))
    flow.join(arrays[0], arrays[1], f"its channels meet values of fixed size in {name}")


def _both(
    flow: Constraints,
    operands: list[Operand],
    varying: list[set[str]],
    output: str,
    shape: tuple[int, ...],
    name: str,
) -> IdTensor:
    shared = set(operands[0][1]) & set(operands[1][1])
    if varying[0] & varying[1] & shared and (varying[0] <= shared or varying[1] <= shared):
        passing = [_leveled(flow, operand, set(operand[1]) - shared) for operand in operands]
        arrays = [_projected((flow.free(track), letters), output) for track, letters in passing]
        return elementwise(flow, [IdTensor(array, shape) for array in arrays], shape, name)
    for track, _ in operands:
        flow.channels.lock(track.ids, f"{name} multiplies its channels with each other")
    return IdTensor.empty(shape)


def _projected(operand: Operand, output: str) -> IntArray:
    """Return ids with one dimension for each output letter, of size 1 where it has none."""
    track, letters = operand
    ids = track.ids
    for dimension, letter in enumerate(letters):
        if letter not in output:
            ids = ids.take([0], dimension)
    kept = [letter for letter in letters if letter in output]
    ids = ids.reshape(
        [size for size, letter in zip(ids.shape, letters, strict=True) if letter in output]
    )
    ids = ids.transpose([kept.index(letter) for letter in output if letter in kept])
    missing = [d for d, letter in enumerate(output) if letter not in kept]
    return np.expand_dims(ids, missing)


def _leveled(flow: Constraints, operand: Operand, along: set[str]) -> Operand:
    track, letters = operand
    return flow.level(track, [d for d, letter in enumerate(letters) if letter in along]), letters


def _varying_letters(flow: Constraints, operand: Operand) -> set[str]:
    track, letters = operand
    return {letters[dimension] for dimension in flow.free(track).varying()}


def _aligned(operand: IdTensor, count: int) -> IdTensor:
    missing = (1,) * (count - len(operand.shape))
    return IdTensor(operand.ids.reshape(missing + operand.ids.shape), missing + operand.shape)
