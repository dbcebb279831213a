"""Code every symbol by how likely it is where it stands.

In the manner of Wiedemann et al.: DeepCABAC (2020): first whether a weight is zero, then which it
is, by probabilities that adapt within contexts. The contexts come from the weight's row, column and
neighbours as far as they are known. Not one symbol after another but one lattice after another is
coded, so that everything works on whole arrays; each lattice knows all that came before.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Protocol

import constriction
import numpy as np
import numpy.typing as npt

from featherweight.engine.methods.coding.ans import Ans
from featherweight.engine.methods.entropy_coding import EntropyCoding
from featherweight.engine.methods.method import Coded
from featherweight.engine.weight_forms import Symbols

Numbers = npt.NDArray[Any]
Place = tuple[slice, slice]

LARGEST_ALPHABET = 512
STEP = 8
# Where the lattices start, from coarse to fine: each half of those before lies between them.
STARTS = tuple(
    tuple((at & 1) << 2 | (at >> 2 & 1) << 1 | at >> 4 & 1 for at in (start, start >> 1))
    for start in range(STEP * STEP)
)
BERNOULLI = constriction.stream.model.Bernoulli(perfect=False)
# Bounds of how much denser, or larger, than the mean a place is expected to be.
DENSITY_BOUNDS = (
    np.array((1, 2, 4, 6, 8, 12, 16, 20, 24, 28, 32, 36, 40, 48, 56, 64, 80, 96, 128, 192, 256))
    / 32
)
SIZE_BOUNDS = np.array((4, 6, 7, 8, 9, 10, 12)) / 8
NEAR = 3
PRIOR_FLAGS = 16.0
PRIOR_VALUES = 64.0
PRIOR_PLACES = 16.0


class Context(EntropyCoding, frozen=True, kw_only=True):
    """Arithmetic coding by contexts; where these gain nothing, by frequencies alone."""

    name: ClassVar[str] = "context"
    title: ClassVar[str] = "Context coding"
    label: ClassVar[str] = "Context"
    advice: ClassVar[str] = (
        "The smallest file for sparse weights: it learns which rows, columns and neighbourhoods "
        "are dense. Slower than ANS to write and to open, and hardly smaller where few weights are "
        "zero."
    )

    def coded(self, symbols: Symbols, alphabet: Numbers, counts: Numbers) -> Coded:
        """Return what the contexts need and coded words, or the code by frequencies alone."""
        simple = Ans().coded(symbols, alphabet, counts)
        simple = Coded(bytes(1) + simple.payload, simple.values, tables=simple.tables + 8)
        if alphabet.size > LARGEST_ALPHABET:
            return simple
        coded = _in_contexts(symbols, alphabet, counts)
        return min(coded, simple, key=lambda one: len(one.payload))

    def decoded(self, payload: bytes, alphabet: Numbers, count: int) -> Numbers:
        """Return the symbols of coded words. Raises ValueError where the payload is damaged."""
        if payload[:1] == bytes(1):
            return Ans().decoded(payload[1:], alphabet, count)
        (row, usual, others), body = _whole_from(payload, 3)
        if alphabet.size > LARGEST_ALPHABET or not row or count % row:
            raise ValueError("the rows do not fit")
        if usual >= alphabet.size or not 0 < others < count or len(body) % 4:
            raise ValueError("the head of the contexts is damaged")
        reader = _Reader((count // row, row), usual, np.frombuffer(body, "<u4").astype(np.uint32))
        _walk(_Model(reader.places.shape, alphabet.size, usual, others), reader)
        if not reader.coder.maybe_exhausted():
            raise ValueError("the coded words do not end with the last symbol")
        found: Numbers = alphabet[reader.places.reshape(-1)].astype(np.uint32)
        return found


def _in_contexts(symbols: Symbols, alphabet: Numbers, counts: Numbers) -> Coded:
    places = np.zeros(int(alphabet[-1]) + 1, np.int32)
    places[alphabet] = np.arange(alphabet.size)
    count, usual = symbols.values.size, int(counts.argmax())
    others = count - int(counts[usual])
    row = symbols.row if symbols.row and count % symbols.row == 0 else count
    writer = _Writer(places[symbols.values].reshape(-1, row), usual)
    _walk(_Model(writer.places.shape, alphabet.size, usual, others), writer)
    words = writer.coder.get_compressed().astype("<u4").tobytes()
    head = b"".join(_whole_bytes(value) for value in (row, usual, others))
    return Coded(head + words, 8 * len(words), tables=8 * len(head))


def _whole_bytes(value: int) -> bytes:
    """Return a whole number, seven bits to a byte, the lowest first; the highest bit says more."""
    found = []
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _whole_from(payload: bytes, count: int) -> tuple[list[int], bytes]:
    """Return so many numbers from the front and what follows. Raises ValueError if damaged."""
    found, at = [], 0
    for _ in range(count):
        value, shift = 0, 0
        while shift < 35:
            if at == len(payload):
                raise ValueError("the head of the contexts is cut")
            value |= (payload[at] & 127) << shift
            shift += 7
            at += 1
            if payload[at - 1] < 128:
                break
        found.append(value)
    return found, payload[at:]


class _Link(Protocol):
    """One end: writing takes what is there and reading what the words say; both return it.

    Flags tell what is not the usual symbol, values which of the others it is.
    """

    def flags(self, place: Place, chances: Numbers) -> Numbers: ...

    def values(self, place: Place, flags: Numbers, groups: Numbers, chances: Any) -> Numbers: ...


def _walk(model: "_Model", link: _Link) -> None:
    """Go through all lattices, from coarse to fine, at either end."""
    for down, right in STARTS:
        place = (slice(down, None, STEP), slice(right, None, STEP))
        contexts = model.contexts(place)
        if not contexts.size:
            continue
        flags = link.flags(place, model.flag_chances()[contexts])
        groups = model.groups(place, flags)
        values = link.values(place, flags, groups, model.value_chances())
        model.learn(place, contexts, flags)
        model.learn_values(place, flags, groups, values)


class _Writer:
    def __init__(self, places: Numbers, usual: int) -> None:
        self.places, self.usual = places, usual
        self.coder = constriction.stream.queue.RangeEncoder()

    def flags(self, place: Place, chances: Numbers) -> Numbers:
        found: Numbers = self.places[place] != self.usual
        self.coder.encode(found.reshape(-1).astype(np.int32), BERNOULLI, chances.reshape(-1))
        return found

    def values(self, place: Place, flags: Numbers, groups: Numbers, chances: Numbers) -> Numbers:
        found: Numbers = self.places[place][flags]
        found -= found > self.usual
        for inside, model in _by_group(groups, chances):
            self.coder.encode(found[inside], model)
        return found


class _Reader:
    def __init__(self, shape: tuple[int, int], usual: int, words: Numbers) -> None:
        self.places, self.usual = np.full(shape, usual, np.int32), usual
        self.coder = constriction.stream.queue.RangeDecoder(words)

    def flags(self, place: Place, chances: Numbers) -> Numbers:  # noqa: ARG002
        found = self._decoded(BERNOULLI, chances.reshape(-1))
        return np.asarray(found != 0).reshape(chances.shape)

    def values(self, place: Place, flags: Numbers, groups: Numbers, chances: Numbers) -> Numbers:
        found = np.zeros(groups.size, np.int32)
        for inside, model in _by_group(groups, chances):
            found[inside] = self._decoded(model, inside.size)
        self.places[place][flags] = found + (found >= self.usual)
        return found

    def _decoded(self, model: Any, amount: Any) -> Numbers:
        try:
            return np.asarray(self.coder.decode(model, amount))
        except AssertionError as error:
            raise ValueError("the coded words are damaged") from error


class _Model:
    """What is known so far, and from it the chances of what comes next.

    Only sums of whole numbers and single operations on floats are used, which come out the same
    on every processor.
    """

    def __init__(self, shape: tuple[int, ...], size: int, usual: int, others: int) -> None:
        rows, columns = shape
        self.density = others / (rows * columns)
        self.near = np.zeros((rows, columns + 2), np.uint8)
        # Of rows and of columns: how many are known, how many of them are not usual, their size.
        self.sums = [np.zeros((3, side), np.int64) for side in shape]
        self.sizes = _sizes(size, usual)
        self.flags = np.zeros((2, (DENSITY_BOUNDS.size + 1) * NEAR), np.int64)
        self.counts = np.zeros((SIZE_BOUNDS.size + 1, size - 1), np.int64)

    def contexts(self, place: Place) -> Numbers:
        """Return the context of every weight of a lattice, by expected density and neighbours.

        Of these only those in the row count: what is above and below has hardly to do with it.
        """
        strength = PRIOR_PLACES + 1 / self.density
        ratios = [(sums[1] / self.density + strength) / (sums[0] + strength) for sums in self.sums]
        expected = ratios[0][place[0], None] * ratios[1][place[1]]
        found: Numbers = np.searchsorted(DENSITY_BOUNDS, expected) * NEAR
        found += self.near[:, :-2][place]
        found += self.near[:, 2:][place]
        return found

    def flag_chances(self) -> Numbers:
        """Return for every context the chance that a weight is not the usual one."""
        ratios = np.repeat(np.append(DENSITY_BOUNDS, 12), NEAR)
        prior = np.minimum(ratios * self.density, (1 + self.density) / 2)
        known = self.flags[0] + self.flags[1]
        chances: Numbers = (self.flags[1] + PRIOR_FLAGS * prior) / (known + PRIOR_FLAGS)
        return chances

    def groups(self, place: Place, flags: Numbers) -> Numbers:
        """Return for every weight that is not usual its context by expected size."""
        total, known = int(self.sums[0][2].sum()), int(self.sums[0][1].sum())
        mean = total / known if known else 1.0
        ratios = [(sums[2] / mean + PRIOR_PLACES) / (sums[1] + PRIOR_PLACES) for sums in self.sums]
        down, right = np.nonzero(flags)
        expected = ratios[0][place[0]][down] * ratios[1][place[1]][right]
        return np.asarray(np.searchsorted(SIZE_BOUNDS, expected), np.uint8)

    def value_chances(self) -> Numbers:
        """Return for every such context the chances of the symbols that are not usual."""
        together = self.counts.sum(0) + 0.5
        prior = PRIOR_VALUES * together / together.sum()
        chances: Numbers = self.counts + prior
        chances /= self.counts.sum(1, keepdims=True) + PRIOR_VALUES
        return chances

    def learn(self, place: Place, contexts: Numbers, flags: Numbers) -> None:
        """Take in which weights of a lattice are not usual."""
        for kind in (0, 1):
            inside = contexts[flags == bool(kind)]
            self.flags[kind] += np.bincount(inside, minlength=self.flags.shape[1])
        self.near[:, 1:-1][place] = flags
        for axis, sums in enumerate(self.sums):
            sums[0][place[axis]] += flags.shape[1 - axis]
            sums[1][place[axis]] += flags.sum(1 - axis)

    def learn_values(self, place: Place, flags: Numbers, groups: Numbers, values: Numbers) -> None:
        """Take in which those are."""
        sizes = np.zeros(flags.shape, np.int64)
        sizes[flags] = self.sizes[values]
        for axis, sums in enumerate(self.sums):
            sums[2][place[axis]] += sizes.sum(1 - axis)
        self.counts += np.bincount(
            groups.astype(np.int32) * self.counts.shape[1] + values, minlength=self.counts.size
        ).reshape(self.counts.shape)


def _sizes(size: int, usual: int) -> Numbers:
    """Return how large the values of an alphabet but the usual one are, as far as order tells.

    Where the usual one is the first, such as the zero of shared values, the middle of the others
    is the smallest.
    """
    others = np.delete(np.arange(size), usual)
    if 0 < usual < size - 1:
        return np.abs(others - usual)
    return 1 + np.abs(2 * np.arange(size - 1) - (size - 2)) // 2


def _by_group(groups: Numbers, chances: Numbers) -> Iterator[tuple[Numbers, Any]]:
    """Give the members of every group with their common model, unless it leaves no choice."""
    for group, shared in enumerate(chances if chances.shape[1] > 1 else ()):
        inside = np.flatnonzero(groups == group)
        if inside.size:
            yield inside, constriction.stream.model.Categorical(shared, perfect=False)
