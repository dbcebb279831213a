"""Hold weights as indices into a small table of shared values.

Han, Mao, Dally: Deep Compression (2016): k-means with linear initialisation, then training of the
shared values by the gradients of the weights that share them. Unlike there, a weight may change
its shared value while it trains (straight-through gradient: Bengio, Léonard, Courville, 2013).
Weighting by curvature and a price for coded bits: Choi, El-Khamy, Lee: Towards the Limit of Network
Quantization (2017).
"""

from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from featherweight.engine.bit_packing import packed, unpacked
from featherweight.engine.evidence import Evidence, Need
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.entropy_constrained import entropy_constrained
from featherweight.engine.methods.half_tables import as_table, from_table, rounded, unit_of
from featherweight.engine.methods.method import PrecisionMethod, SideBits
from featherweight.engine.options import number, words
from featherweight.engine.weight_forms import (
    Array,
    StoredForm,
    Symbols,
    TrainableForm,
    expect,
    expect_parts,
    form_lock,
    masked,
    started,
)

MOST_ROUNDS = 10_000


class CodebookForm(StoredForm):
    """A weight as indices into a float32 `codebook`; its symbols are the indices.

    With `zero`, entry 0 is the weight 0.0 exactly. With a `unit` the codebook is stored in 16 bits,
    as a table of that unit has it: see `half_tables`.
    """

    kind: ClassVar[str] = "codebook"

    def __init__(
        self, indices: Tensor, codebook: Tensor, zero: bool, unit: float | None = None
    ) -> None:
        super().__init__(tuple(indices.shape))
        self.bits = index_bits(codebook.numel())
        self.zero, self.unit = zero, unit
        self.packed: Tensor
        self.codebook: Tensor
        symbols = indices.reshape(-1).numpy()
        self.register_buffer("packed", torch.from_numpy(packed(symbols, self.bits)))
        self.register_buffer("codebook", codebook.detach().clone())

    def forward(self) -> Tensor:
        """Return the weight, float32."""
        indices = self.symbols().values
        return torch.from_numpy(self.codebook.numpy()[indices]).reshape(self.shape)

    def symbols(self) -> Symbols:
        """Return the indices."""
        count = int(np.prod(self.shape, dtype=np.int64))
        values = unpacked(self.packed.numpy(), self.bits, count)
        return Symbols(values, self.bits, 0 if self.zero else None, self.row)

    def parts(self) -> dict[str, Array]:
        """Return the codebook: float32, or its unit and it as float16."""
        if self.unit is not None:
            return {"codebooks": as_table(self.codebook, self.unit)}
        return {"codebooks": self.codebook.numpy()}

    @classmethod
    def rebuilt(
        cls, shape: tuple[int, ...], symbols: Symbols, parts: dict[str, Array]
    ) -> "CodebookForm":
        """Return the form of these indices and this codebook. Raises ValueError on a mismatch."""
        codebook, unit = parts.get("codebooks", np.zeros(0)), None
        if codebook.dtype == np.float16 and codebook.ndim == 1:
            values, unit = from_table(codebook)
            codebook = values.numpy()
        expect_parts({**parts, "codebooks": codebook}, codebooks=(codebook.size,))
        expect(symbols, shape, index_bits(codebook.size), symbols.zero)
        if symbols.values.size and int(symbols.values.max()) >= codebook.size:
            raise ValueError("an index is beyond the codebook")
        if symbols.zero is not None and (symbols.zero != 0 or codebook[0] != 0.0):
            raise ValueError("the first entry of the codebook is not zero")
        indices = torch.from_numpy(symbols.values.astype(np.int32)).reshape(shape)
        return cls(indices, torch.from_numpy(codebook), symbols.zero is not None, unit)


class TrainableCodebook(TrainableForm):
    """Float32 values, each replaced by its nearest shared value when used; both train.

    Gradients pass straight through to the values, so that a weight can change its shared value
    while it trains. Masked weights are 0.0, which is then none of the shared values. With `half`
    shared values are rounded to 16 bits when used, and weights take the nearest rounded one.
    """

    def __init__(
        self, weight: Tensor, mask: Tensor | None, codebook: Tensor, half: bool = False
    ) -> None:
        super().__init__(tuple(weight.shape))
        self.unit = unit_of(codebook) if half else None
        self.values = nn.Parameter(started(weight, mask))
        self.codebook = nn.Parameter(codebook)
        self.mask: Tensor | None
        self.register_buffer("mask", mask)

    def forward(self) -> Tensor:
        """Return the weight, float32."""
        inside = masked(self.values, self.mask)
        ordered = self._ordered()
        shared = self._stored(ordered)
        indices = self._indices(shared).reshape(-1)
        counts = torch.bincount(indices, minlength=shared.numel() + self._reserved)
        # By its sum over thousands of weights a shared value would leap; by its mean it takes the
        # step that its weights would take together.
        step = (ordered - ordered.detach()) / counts[self._reserved :].clamp_min(1)
        chosen = self._entries(shared + step).index_select(0, indices)
        # The difference is exactly zero: it adds a gradient and no rounding.
        return chosen.reshape(self.shape) + (inside - inside.detach())

    def settled(self) -> CodebookForm:
        """Return the same weight as packed indices."""
        shared = self._stored(self._ordered())
        indices, has_zero = self._indices(shared), self.mask is not None
        return CodebookForm(indices, self._entries(shared), has_zero, self.unit)

    @property
    def _reserved(self) -> int:
        return 0 if self.mask is None else 1

    def _ordered(self) -> Tensor:
        # Training may have moved one shared value past another.
        return self.codebook.sort().values

    def _stored(self, ordered: Tensor) -> Tensor:
        """Return the shared values as files have them, without a gradient."""
        values = ordered.detach()
        return values if self.unit is None else rounded(values, self.unit)

    def _entries(self, shared: Tensor) -> Tensor:
        return shared if self.mask is None else torch.cat([shared.new_zeros(1), shared])

    def _indices(self, shared: Tensor) -> Tensor:
        nearest = nearest_indices(self.values.detach(), shared.detach())
        return nearest if self.mask is None else torch.where(self.mask, nearest + 1, 0)


class Codebook(PrecisionMethod, frozen=True, kw_only=True):
    """Lets groups of weights share one value each, found by k-means.

    Where a sparsity zeros weights, one of the values is reserved for exactly zero.
    """

    name: ClassVar[str] = "codebook"
    title: ClassVar[str] = "Shared values (k-means)"
    label: ClassVar[str] = "{} values"
    advice: ClassVar[str] = (
        "Every weight becomes one of a few shared values; 16 of them are 4 bits per weight. Best "
        "for the smallest file together with sparsity and entropy coding; no speed is gained."
    )
    gain: ClassVar[Literal["file", "file and speed"]] = "file"
    strength: ClassVar[str] = "clusters"
    holds_zero: ClassVar[bool] = False

    clusters: Annotated[
        int, number("Values", "How many different weights every tensor has.", 2, 256)
    ] = 16
    weighting: Annotated[
        Literal["none", "hessian"],
        words(
            "Weighting",
            "Let all weights count alike, or each by how sharply the loss bends in it (Hessian), "
            "as samples of the data say. In recurrent layers all count alike.",
        ),
    ] = "none"
    entropy: Annotated[
        float,
        number(
            "Price of a bit",
            "Squared error, in parts of the variance, that is taken for one coded bit less. Above "
            "0 it pays only with Huffman, ANS or context coding; 0.02 with 64 values is good.",
            0.0,
            0.2,
        ),
    ] = 0.0

    table_bits: Annotated[
        Literal[16, 32],
        words(
            "Bits of a value",
            "16 bits save half of what the shared values take; weights take the nearest of them.",
        ),
    ] = 16

    @classmethod
    def lock(cls, layer: nn.Module) -> str:
        """Return why the layer's weights cannot share values; empty if they can."""
        return form_lock(layer)

    def trainable(
        self, weight: Tensor, mask: Tensor | None, check: Check = unchecked
    ) -> TrainableCodebook:
        """Return a form whose shared values start at the k-means of the weights that stay."""
        return self._started(weight, mask, None, check)

    def needs(self) -> frozenset[Need]:
        """Return the gradients, whose squares stand for the Hessian's diagonal, if they count."""
        return frozenset({"gradients"}) if self.weighting == "hessian" else frozenset()

    def informed(
        self, weight: Tensor, mask: Tensor | None, evidence: Evidence, check: Check = unchecked
    ) -> TrainableCodebook:
        """Return a form whose shared values have the least error as weights count."""
        if self.weighting == "none" or evidence.gradients is None:
            return self.trainable(weight, mask, check)
        return self._started(weight, mask, evidence.gradients.squares, check)

    def _started(
        self, weight: Tensor, mask: Tensor | None, counting: Tensor | None, check: Check
    ) -> TrainableCodebook:
        kept = _kept(weight.detach(), mask)
        amounts = None if counting is None else _kept(counting, mask)
        reserved = 0 if mask is None else 1
        found = clustered(kept, self.clusters - reserved, check, amounts)
        if self.entropy > 0.0 and kept.size and found.size:
            found, taken = entropy_constrained(kept, found, self.entropy, check)
            weight = _with(weight.detach(), mask, torch.from_numpy(found[taken]))
        return TrainableCodebook(weight, mask, torch.from_numpy(found), self.table_bits == 16)

    def symbol_bits(self) -> int:
        """Return the bits of one index."""
        return index_bits(self.clusters)

    def side_bits(self, shape: tuple[int, ...]) -> SideBits:  # noqa: ARG002
        """Return the bits of every shared value, and in 16 bits those of their unit."""
        entries = self.clusters + 1 if self.table_bits == 16 else self.clusters
        return SideBits(codebooks=self.table_bits * entries)


def index_bits(entries: int) -> int:
    """Return the bits of an index into so many entries, at least one."""
    return max((entries - 1).bit_length(), 1)


def _kept(values: Tensor, mask: Tensor | None) -> npt.NDArray[np.float32]:
    kept = values if mask is None else values[mask]
    return kept.reshape(-1).numpy()


def _with(weight: Tensor, mask: Tensor | None, kept: Tensor) -> Tensor:
    if mask is None:
        return kept.reshape(weight.shape)
    return weight.masked_scatter(mask, kept)


def clustered(
    values: npt.NDArray[np.float32],
    clusters: int,
    check: Check = unchecked,
    amounts: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Return the k-means of a row of values, ascending, by Lloyd's rounds until nothing moves.

    It starts at evenly spaced values from the least to the largest, which keeps the rare large
    ones. A value that attracts nothing stays where it was. With `amounts`, not negative, each value
    counts so much in more rounds afterwards; they only make the error that they count smaller.
    """
    if values.size == 0:
        return np.zeros(clusters, np.float32)
    # In sorted order a cluster is a range, and its sum is a difference of two running sums.
    ordered = np.sort(values)
    centres = np.linspace(ordered[0], ordered[-1], clusters, dtype=np.float64)
    centres = _moved(centres, ordered, None, _running(ordered), check)
    if amounts is not None and 0.0 < float(amounts.sum(dtype=np.float64)) < np.inf:
        counting = amounts[np.argsort(values, kind="stable")].astype(np.float64)
        masses, sums = _running(counting), _running(ordered * counting)
        centres = _moved(centres, ordered, masses, sums, check)
    return centres.astype(np.float32)


def _moved(
    centres: Array,
    ordered: npt.NDArray[np.float32],
    masses: Array | None,
    sums: Array,
    check: Check,
) -> Array:
    """Return the centres after Lloyd's rounds.

    `masses` and `sums` are running sums from 0 on; without masses every value counts 1.
    """
    edges: Array = np.empty(0)
    for _ in range(MOST_ROUNDS):
        check()
        middles = ((centres[1:] + centres[:-1]) / 2).astype(np.float32)
        found = np.searchsorted(ordered, middles)
        if np.array_equal(found, edges):
            break
        edges = found
        bounds = np.concatenate(([0], edges, [ordered.size]))
        held = np.diff(bounds if masses is None else masses[bounds])
        means = np.diff(sums[bounds]) / np.where(held > 0, held, 1)
        # Of weights that count next to nothing the running sums keep no digits.
        least = ordered[np.minimum(bounds[:-1], ordered.size - 1)]
        means = means.clip(least, ordered[np.maximum(bounds[1:] - 1, 0)])
        centres = np.where((np.diff(bounds) > 0) & (held > 0), means, centres)
    return centres


def _running(values: Array) -> npt.NDArray[np.float64]:
    return np.concatenate(([0.0], np.cumsum(values, dtype=np.float64)))


def nearest_indices(values: Tensor, codebook: Tensor) -> Tensor:
    """Return for every value the position of the nearest entry of an ascending codebook, int64."""
    middles = (codebook[1:].double() + codebook[:-1].double()) / 2
    return torch.bucketize(values, middles.float(), right=True)
