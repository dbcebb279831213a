"""Trials of a network on inputs of other sizes: which it takes, and whether a graph keeps up."""

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves

from featherweight.engine.errors import CAPTURE_ERRORS
from featherweight.engine.free_sizes import IMAGE, FreeSize, Place
from featherweight.engine.recurrent_shapes import whole_recurrence

MOST_TRIALS = 8
CLOSE = 1e-3

Run = Callable[..., Any]
Inputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class Group:
    """Dimensions of inputs that have one size and are varied together."""

    places: tuple[Place, ...]
    size: int
    of_images: bool

    def other_sizes(self) -> tuple[int, ...]:
        """Return sizes to try. Only doubling keeps to what halves of halves of images need."""
        if self.of_images:
            return (2 * self.size, self.size + 1)
        return (self.size - 1 if self.size > 2 else self.size + 1, 2 * self.size)


def tensors_of(result: object) -> Inputs:
    """Return the tensors in what a network gave, in order."""
    return tuple(leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor))


def varying_groups(
    module: nn.Module, example: Inputs, allowed: Sequence[Place] | None
) -> tuple[Group, ...]:
    """Return the dimensions beside the batch that a network takes in another size.

    Only `allowed` are tried, all where it is None. Sides of images count where an output follows
    them. The network runs on fake tensors, as a copy: it costs no arithmetic.
    """
    groups = [group for group in _groups(example) if _allowed(group, allowed)][:MOST_TRIALS]
    if not groups:
        return ()
    tensors = [*module.parameters(), *module.buffers()]
    try:
        shell = copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
    except CAPTURE_ERRORS:
        return ()
    found: list[Group] = []
    for group in groups:
        if _varies(shell, example, group):
            found.append(group)
        elif len(group.places) > 1:
            found += [part for part in _parts(group) if _varies(shell, example, part)]
    return tuple(found)


def keeps_up(
    module: nn.Module, graph: nn.Module, example: Inputs, free: Sequence[FreeSize]
) -> bool:
    """Say whether a graph gives what its module gives, in another batch and in other sizes.

    Every free size is tried in a size that the module takes. Images are compared by their shapes,
    all else by the numbers.
    """
    sizes = {size.place: size for size in free}
    return all(_agrees(module, graph, example, group, sizes) for group in _named(example, free))


def _named(example: Inputs, free: Sequence[FreeSize]) -> Iterator[Group]:
    for name in dict.fromkeys(size.name for size in free):
        places = tuple(size.place for size in free if size.name == name)
        first, dimension = places[0]
        yield Group(places, example[first].shape[dimension], _of_images(example, places))


def _agrees(
    module: nn.Module,
    graph: nn.Module,
    example: Inputs,
    group: Group,
    sizes: dict[Place, FreeSize],
) -> bool:
    compare = _same_shapes if group.of_images else _same_numbers
    tried = False
    for size in group.other_sizes():
        if not all(sizes[place].allows(size) for place in group.places):
            continue
        inputs = resized(_one_less(example), dict.fromkeys(group.places, size))
        verdict = compare(module, graph, inputs)
        if verdict is False:
            return False
        tried = tried or verdict is True
        if tried and not group.of_images:
            break
    return tried


def _same_shapes(module: nn.Module, graph: nn.Module, inputs: Inputs) -> bool | None:
    """Compare shapes; None where the module itself refuses the inputs."""
    expected = shapes_on(module, inputs)
    return None if expected is None else shapes_on(graph, inputs) == expected


def _same_numbers(module: nn.Module, graph: nn.Module, inputs: Inputs) -> bool | None:
    expected = _numbers(module, inputs)
    if expected is None:
        return None
    found = _numbers(graph, inputs) or ()
    return len(found) == len(expected) and all(
        one.shape == other.shape
        and torch.allclose(one.double(), other.double(), CLOSE, CLOSE, equal_nan=True)
        for one, other in zip(found, expected, strict=True)
    )


def _numbers(run: Run, inputs: Inputs) -> Inputs | None:
    try:
        with torch.no_grad():
            return tensors_of(run(*inputs))
    except CAPTURE_ERRORS:
        return None


def shapes_on(run: Run, inputs: Inputs) -> list[tuple[int, ...]] | None:
    """Return the shapes of all outputs without computing them; None where the run fails."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    try:
        with torch.no_grad(), _silence(), whole_recurrence(), fake as mode:
            result = run(*(mode.from_tensor(tensor) for tensor in inputs))
            return [tuple(tensor.shape) for tensor in tensors_of(result)]
    except CAPTURE_ERRORS:
        return None


@contextmanager
def _silence() -> Iterator[None]:
    """Keep away what torch tells of runs that fail: here they are an answer."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def resized(inputs: Inputs, sizes: dict[Place, int]) -> Inputs:
    """Return inputs cut, or continued from their start, to other sizes."""
    made = list(inputs)
    for (position, dimension), size in sizes.items():
        tensor = made[position]
        at = torch.arange(size) % tensor.shape[dimension]
        made[position] = tensor.index_select(dimension, at)
    return tuple(made)


def _one_less(example: Inputs) -> Inputs:
    """Return inputs of one sample less: no more memory than the network is known to take."""
    return tuple(tensor[: max(1, len(tensor) - 1)] for tensor in example)


def _varies(shell: nn.Module, example: Inputs, group: Group) -> bool:
    if group.of_images:
        size = group.other_sizes()[0]
        usual = shapes_on(shell, example)
        found = shapes_on(shell, resized(example, dict.fromkeys(group.places, size)))
        return found is not None and found != usual
    return any(
        shapes_on(shell, resized(example, dict.fromkeys(group.places, size))) is not None
        for size in group.other_sizes()
    )


def _groups(example: Inputs) -> Iterator[Group]:
    places: dict[tuple[bool, int], list[Place]] = {}
    for position, tensor in enumerate(example):
        image = tensor.ndim >= IMAGE
        # The channels of an image are a matter of its first layer.
        for dimension in range(2 if image else 1, tensor.ndim):
            size = tensor.shape[dimension]
            if size > 1:
                places.setdefault((image, size), []).append((position, dimension))
    # A mask (batch, 1, length, length) goes with its sequence.
    lengths = {size for image, size in places if not image}
    for (image, size), found in places.items():
        if image and size in lengths:
            continue
        others = [] if image else places.get((True, size), [])
        yield Group((*found, *others), size, image)


def _parts(group: Group) -> Iterator[Group]:
    """Split a group by dimension: what has one size by chance need not vary together."""
    for dimension in dict.fromkeys(dimension for _, dimension in group.places):
        places = tuple(place for place in group.places if place[1] == dimension)
        if len(places) < len(group.places):
            yield Group(places, group.size, group.of_images)


def _of_images(example: Inputs, places: Sequence[Place]) -> bool:
    return all(example[position].ndim >= IMAGE for position, _ in places)


def _allowed(group: Group, allowed: Sequence[Place] | None) -> bool:
    return allowed is None or all(place in allowed for place in group.places)
