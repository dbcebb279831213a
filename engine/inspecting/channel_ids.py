"""Ids of channels: which are the same, which may not go, and tensors of them in compact form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IntArray = npt.NDArray[np.int64]

# The id of elements that belong to no channel: inputs, constants, what sums over channels.
NONE = 0


class ChannelIds:
    """All ids of a network with a record of which were united and which were locked, and why.

    An id is a whole number above 0. Arrays of ids have any shape; all methods take whole arrays.
    """

    def __init__(self) -> None:
        self._parent: IntArray = np.zeros(1, dtype=np.int64)
        self._lock: IntArray = np.zeros(1, dtype=np.int64)
        self._reasons: list[str] = []
        self._count = 1

    @property
    def count(self) -> int:
        """How many ids there are, `NONE` included."""
        return self._count

    def fresh(self, count: int) -> IntArray:
        """Return new ids that are united with nothing."""
        first, self._count = self._count, self._count + count
        if self._count > len(self._parent):
            room = 2 * self._count
            self._parent = np.concatenate([self._parent, np.arange(len(self._parent), room)])
            self._lock = np.concatenate([self._lock, np.zeros(room - len(self._lock), np.int64)])
        return np.arange(first, self._count, dtype=np.int64)

    def find(self, ids: IntArray) -> IntArray:
        """Return the id that stands for each of these: the smallest of those united with it."""
        found = self._parent[ids]
        while True:
            above = self._parent[found]
            if np.array_equal(above, found):
                break
            found = above
        self._parent[ids] = found
        return found

    def unite(self, left: IntArray, right: IntArray) -> None:
        """Make ids at equal places the same (arrays broadcast); where one is NONE, nothing."""
        left, right = np.broadcast_arrays(left, right)
        both = (left != NONE) & (right != NONE) & (left != right)
        left, right = left[both], right[both]
        while left.size:
            left, right = self.find(left), self.find(right)
            differ = left != right
            left, right = left[differ], right[differ]
            low, high = np.minimum(left, right), np.maximum(left, right)
            np.minimum.at(self._parent, high, low)
            np.maximum.at(self._lock, self.find(high), self._lock[high])

    def lock(self, ids: IntArray, reason: str) -> None:
        """Say that channels may not be removed; the first reason given for an id stays."""
        found = np.unique(self.find(ids))
        found = found[(found != NONE) & (self._lock[found] == 0)]
        if found.size:
            # Whatever was locked first has the highest number, which wins when ids are united.
            self._reasons.append(reason)
            self._lock[found] = np.iinfo(np.int64).max - len(self._reasons)

    def locked(self, ids: IntArray) -> npt.NDArray[np.bool_]:
        """Say for each id whether it is locked; NONE is not."""
        result: npt.NDArray[np.bool_] = self._lock[self.find(ids)] != 0
        return result

    def reason(self, ids: IntArray) -> str:
        """Return why ids are locked, the first reason of them; empty where none is."""
        locks = self._lock[self.find(ids)]
        first = int(locks.max(initial=0))
        return self._reasons[np.iinfo(np.int64).max - first - 1] if first else ""


@dataclass(frozen=True)
class IdTensor:
    """The ids of a tensor's elements: int64, of size 1 along dimensions along which all are equal.

    `shape` is the tensor's own shape. `ids` has as many dimensions.
    """

    ids: IntArray
    shape: tuple[int, ...]

    @staticmethod
    def empty(shape: Iterable[int]) -> IdTensor:
        """Return the ids of a tensor that has no channels."""
        shape = tuple(shape)
        return IdTensor(np.zeros((1,) * len(shape), dtype=np.int64), shape)

    @staticmethod
    def along(dimension: int, ids: IntArray, shape: Iterable[int]) -> IdTensor:
        """Return ids that differ along one dimension only."""
        shape = tuple(shape)
        ones = [1] * len(shape)
        ones[dimension] = len(ids)
        return IdTensor(ids.reshape(ones), shape)

    @staticmethod
    def compact(full: Tensor) -> IdTensor:
        """Return the compact form of a tensor with an id for every element."""
        small = full
        for dimension, size in enumerate(full.shape):
            first = small.narrow(dimension, 0, 1) if size else small
            if size > 1 and (small.stride(dimension) == 0 or bool((small == first).all())):
                small = first
        return IdTensor(small.contiguous().numpy(), tuple(full.shape))

    @property
    def full(self) -> Tensor:
        """An id for every element, without memory of its own along equal dimensions."""
        return torch.from_numpy(self.ids).expand(self.shape)

    @property
    def blank(self) -> bool:
        """Whether no element belongs to a channel."""
        return not self.ids.any()

    def varying(self) -> tuple[int, ...]:
        """Return the dimensions along which ids differ."""
        return tuple(dimension for dimension, size in enumerate(self.ids.shape) if size > 1)

    def vector(self, dimension: int) -> IntArray:
        """Return the ids along one dimension, where they are equal along all others."""
        start: Any = [0] * len(self.shape)
        start[dimension] = slice(None)
        return np.broadcast_to(self.ids[tuple(start)], (self.shape[dimension],))


class Constraints:
    """What may be done to ids that tensors carry: unite, level, freeze."""

    def __init__(self) -> None:
        self.channels = ChannelIds()

    def now(self, tensor: IdTensor) -> IdTensor:
        """Return the tensor with the ids that stand for its own now."""
        found = self.channels.find(tensor.ids)
        return IdTensor(_squeezed(found), tensor.shape)

    def free(self, tensor: IdTensor) -> IdTensor:
        """Return the tensor as of now with NONE in the place of locked ids."""
        found = self.channels.find(tensor.ids)
        found = np.where(self.channels.locked(found), NONE, found)
        return IdTensor(_squeezed(found), tensor.shape)

    def level(self, tensor: IdTensor, dimensions: Iterable[int]) -> IdTensor:
        """Unite ids along dimensions, so that each channel spans them whole."""
        for dimension in dimensions:
            ids = self.now(tensor).ids
            if ids.shape[dimension] > 1:
                first = ids.take([0], dimension)
                self.join(
                    ids, np.broadcast_to(first, ids.shape), "its channels meet values of fixed size"
                )
                tensor = IdTensor(first, tensor.shape)
        return self.now(tensor)

    def freeze(self, tensor: IdTensor, dimensions: Iterable[int], reason: str) -> IdTensor:
        """Keep the size of dimensions: channels span them whole, or are locked for the reason."""
        for dimension in dimensions:
            varying = self.free(tensor).varying()
            if dimension not in varying:
                continue
            if len(varying) > 1:
                tensor = self.level(tensor, [dimension])
            else:
                self.channels.lock(tensor.ids, reason)
        return self.now(tensor)

    def join(self, left: IntArray, right: IntArray, reason: str) -> None:
        """Unite ids at equal places; one that meets NONE is locked for the reason."""
        left, right = np.broadcast_arrays(left, right)
        self.channels.lock(left[right == NONE], reason)
        self.channels.lock(right[left == NONE], reason)
        self.channels.unite(left, right)


def _squeezed(ids: IntArray) -> IntArray:
    for dimension, size in enumerate(ids.shape):
        if size > 1:
            first = ids.take([0], dimension)
            if (ids == first).all():
                ids = first
    return ids
