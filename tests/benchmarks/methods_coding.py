"""Rows of the benchmark of methods on entropy coding of sparse layers with shared values."""

import heapq
from collections.abc import Iterator
from functools import partial

import numpy as np
import numpy.typing as npt
from methods_bench import Bench, Measured, Trial
from methods_rows import Figures, Gate, Row

from featherweight.engine.recipe import Choice, Setting
from featherweight.engine.results import Result
from featherweight.engine.weight_forms import densified

LAYERS = ("1", "3")
GAP_BITS, LENGTH_BITS, SPARE_BITS = 5, 5, 64
Numbers = npt.NDArray[np.int64]


def rows() -> Iterator[Row]:
    """Give the rows."""
    gates = (Gate("excess", 0.3),)
    title = "ANS over the entropy of 16 values, less 64 bits"
    yield Row("A-Q5", "LeNet-300", title, gates, excess)
    for sparsity, gate, target in ((0.95, 8.0, 10.0), (0.985, 18.0, 22.0)):
        title = f"context coding against gaps in Huffman, {1 - sparsity:.1%} stay"
        gates = (Gate("smaller", gate, target),)
        yield Row("A-Q5", "LeNet-300", title, gates, partial(smaller, sparsity=sparsity))


def excess(bench: Bench) -> Figures:
    """Measure how many bits more than the entropy arithmetic coding takes, in %."""
    choice = Choice(precision=Setting("codebook", {"clusters": 16}), coding=Setting("ans"))
    result = bench.compress(Trial(dict.fromkeys(LAYERS, choice)))
    made = densified(bench.result(result))
    taken = sum(bits_of(result, layer) for layer in LAYERS)
    bound = 0.0
    for layer in LAYERS:
        weight = made.layer(layer).get_parameter("weight").detach().numpy()
        counts = np.unique(weight, return_counts=True)[1]
        bound -= float((counts * np.log2(counts / counts.sum())).sum())
    spare = SPARE_BITS * len(LAYERS)
    return {"excess": Measured(100 * ((taken - spare) / bound - 1))}


def smaller(bench: Bench, sparsity: float) -> Figures:
    """Measure how much less, in %, context coding takes than Deep Compression's two codes.

    Both code the same layers of 8 shared values; neither counts the codebook.
    """
    choice = Choice(
        sparsity=Setting("obd", {"sparsity": sparsity}),
        precision=Setting("codebook", {"clusters": 8}),
        coding=Setting("context"),
    )
    result = bench.compress(Trial(dict.fromkeys(LAYERS, choice)))
    made = densified(bench.result(result))
    taken, other = 0, 0
    for layer in LAYERS:
        taken += bits_of(result, layer)
        other += deep_compression_bits(made.layer(layer).get_parameter("weight").detach().numpy())
    return {"smaller": Measured(100 * (1 - taken / other))}


def bits_of(result: Result, layer: str) -> int:
    """Return the coded bits of a layer's weight with the coder's tables, without the codebook."""
    return sum(
        entry.values + entry.indices + entry.tables
        for entry in result.ledger.entries
        if (entry.layer, entry.tensor) == (layer, "weight")
    )


def deep_compression_bits(weight: npt.NDArray[np.float32]) -> int:
    """Return the bits of a weight's gaps of 5 bits and of its values, each in Huffman codes.

    Han, Mao, Dally 2016; a gap that is too long is bridged by filler zeros. Tables hold a length
    for every symbol.
    """
    flat = weight.ravel()
    places = np.flatnonzero(flat)
    gaps = np.diff(places, prepend=-1) - 1
    longest = (1 << GAP_BITS) - 1
    fillers = int((gaps // (longest + 1)).sum())
    told = np.concatenate([gaps % (longest + 1), np.full(fillers, longest)])
    values = np.concatenate([flat[places], np.zeros(fillers, flat.dtype)])
    return huffman_bits(told) + huffman_bits(values)


def huffman_bits(symbols: npt.NDArray[np.generic]) -> int:
    """Return the bits of symbols in Huffman codes, and of the lengths of these."""
    counts: Numbers = np.unique(symbols, return_counts=True)[1]
    heap, total = counts.tolist(), 0
    heapq.heapify(heap)
    while len(heap) > 1:
        both = heapq.heappop(heap) + heapq.heappop(heap)
        total += both
        heapq.heappush(heap, both)
    return total + LENGTH_BITS * len(counts)
