"""Rows of the benchmark of methods on networks of linear layers, mostly without training."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import msgspec
import torch
from methods_bench import Bench, Trial, difference, share_wrong
from methods_networks import OneHidden, Training, train
from methods_rows import Figures, Gate, Row, precision, recipe_row, sparsity, structure

from featherweight.engine.options import Scalar
from featherweight.engine.recipe import Choice, Setting
from featherweight.engine.trainings import FineTuning

NET = "LeNet-300"
FIRST, SECOND, LAST = "1", "3", "5"
BOTH = (FIRST, SECOND)
EVERY = (*BOTH, LAST)
# Of one hidden unit on 784 pixels: its weights, its bias, and its ten weights in the last layer.
PARAMETERS_OF_A_UNIT = 784 + 1 + 10
ALL = 60_000
RETRAINED = FineTuning(epochs=5, optimizer="adamw", learning_rate=1e-3, batch_size=256)
LONGER = FineTuning(epochs=15, optimizer="adamw", learning_rate=3e-3, batch_size=256)
TWENTY = FineTuning(epochs=20, optimizer="adamw", learning_rate=2e-3, batch_size=256)
DIGITS = FineTuning(epochs=40, optimizer="adamw", learning_rate=3e-3, batch_size=128)


def rows() -> Iterator[Row]:
    """Give the rows."""
    yield from precisions()
    yield from sparsities()
    yield from channels()
    yield from factors()
    yield from trained()
    yield from digits()


def precisions() -> Iterator[Row]:
    """Give the rows of fewer bits."""
    gates = (Gate("drop", 0.05, 0.0), Gate("file", 1.95))
    yield one("A-Q1", "float16", precision(EVERY, "float16"), gates)
    gates = (Gate("drop", 0.10, 0.0), Gate("file", 3.8, 3.9))
    chosen = precision(EVERY, "integer", bits=8)
    yield one("A-Q2", "8-bit integers", chosen, gates)
    for bits, drop in ((4, 0.10), (3, 0.35)):
        chosen = precision(BOTH, "integer", bits=bits, rounding="gptq")
        yield one("A-Q3", f"{bits} bit, GPTQ", chosen, (Gate("drop", drop),))
    two: dict[str, Scalar] = {"granularity": "group", "group_size": 28, "scale_bits": 16}
    chosen = precision(BOTH, "integer", bits=2, rounding="gptq", **two)
    gates = (Gate("drop", 1.2, 0.8), Gate("file", 10.0))
    yield one("A-Q3", "2 bit, scales of 28, GPTQ", chosen, gates)
    chosen = precision(BOTH, "integer", bits=2, rounding="gptq")
    nearest = precision(BOTH, "integer", bits=2)
    title = "2 bit, a scale a row, GPTQ, against nearest"
    yield one("A-Q3", title, chosen, (Gate("gain", 2.5),), rival=nearest)
    shared = precision(BOTH, "codebook", clusters=16)
    yield one("A-Q4", "16 values, plain", shared, (Gate("drop", 0.8), Gate("file", 7.0)))
    shared = precision(BOTH, "codebook", clusters=16, weighting="hessian")
    yield one("A-Q4", "16 values, by Hessian", shared, (Gate("drop", 0.4, 0.2),))


def sparsities() -> Iterator[Row]:
    """Give the rows of zeros, without training."""
    for share, drop, target, better in ((0.7, 0.9, 0.4, 1.5), (0.8, 1.7, 1.0, 5.0)):
        chosen = sparsity(BOTH, "obs", sparsity=share)
        rival = sparsity(BOTH, "magnitude", sparsity=share)
        gates = (Gate("drop", drop, target), Gate("gain", better))
        title = f"OBS, {share:.0%} zero, against magnitude"
        yield one("A-P2a", title, chosen, gates, rival=rival)
    chosen = sparsity(BOTH, "n_of_m", pattern="2:4", score="obs")
    yield one("A-P4c", "OBS, 2 of 4 stay", chosen, (Gate("drop", 0.5),))
    for share, drop in ((0.875, 0.5), (0.9375, 1.4)):
        cosines = Setting("transform", {"keep": 1.0, "basis": "dct", "rows": 28})
        choice = Choice(structure=cosines, sparsity=Setting("obd", {"sparsity": share}))
        title = f"OBD of cosines, 1/{1 / (1 - share):.0f}"
        yield one("A-L3", title, {FIRST: choice}, (Gate("drop", drop),))


def channels() -> Iterator[Row]:
    """Give the rows of units that go, without training."""
    chosen = structure((FIRST,), "channel_pruning", ratio=0.4, score="merge")
    rival = structure((FIRST,), "channel_pruning", ratio=0.4, score="l2")
    yield one("A-P5", "120 of 300 merged, against norm", chosen, (Gate("gain", 6.0),), rival=rival)
    chosen = structure((FIRST,), "channel_pruning", ratio=0.6, score="obs")
    gates = (Gate("drop", 0.6), Gate("MACs", 2.4, 2.5), Gate("speed", 1.8))
    yield one("A-P5b", "180 of 300 by OBS", chosen, gates)
    chosen = structure((FIRST,), "channel_pruning", ratio=220 / 300, score="obs")
    yield one("A-P5b", "220 of 300 by OBS", chosen, (Gate("drop", 1.2, 0.9),))


def factors() -> Iterator[Row]:
    """Give the rows of low ranks, without training; plain ones are the rivals."""
    bounds = {108: (), 64: ((0.1, 0.0),), 32: ((0.6, 0.4),), 16: ()}
    for rank, drops in bounds.items():
        keep = rank * (784 + 300) / (784 * 300) + 1e-6
        chosen = structure((FIRST,), "svd", keep=keep, metric="outputs", multiple=1)
        rival = structure((FIRST,), "svd", keep=keep, multiple=1)
        gates = (*(Gate("drop", *drop) for drop in drops), Gate("gain", 0.0))
        title = f"SVD by outputs, 1/{1 / keep:.1f}, against plain"
        other = Trial(rival, calibration=ALL)
        yield recipe_row("A-L1", NET, title, Trial(chosen, calibration=ALL), gates, rival=other)


def trained() -> Iterator[Row]:
    """Give the rows that train again on Fashion-MNIST."""
    binary = Trial(precision(BOTH, "binary"), LONGER)
    gates = (Gate("drop", 1.0, 0.4), Gate("file", 25.0))
    yield recipe_row("A-Q8", NET, "binary, 15 epochs", binary, gates)
    gates = (Gate("gain", 0.5, 0.85),)
    title = "OBD to 1.5 %, 15 epochs in 3 passes, against magnitude"
    yield Row("A-P3", NET, title, gates, gradual, trains=True)
    gates = (Gate("drop", 0.5), Gate("file", 60.0, 110.0))
    title = "OBD to 4 % gradually, 8 values, context, 20 epochs"
    row = recipe_row("A-D1", NET, title, deep_compression(0.04, TWENTY), gates)
    yield replace(row, reason="hard labels; set with a convolutional teacher and 30 epochs")
    for block, rate in ((4, 3.5), (8, 7.0)):
        chosen = Trial(structure(BOTH, "circulant", block=block), LONGER)
        gates = (Gate("drop", 0.7, 0.3), Gate("file", rate))
        title, reason = (
            f"block-circulant {block}, 15 epochs",
            "hard labels; learning from the dense network itself was measured to cost 0.3 more",
        )
        yield replace(recipe_row("A-S2", NET, title, chosen, gates), reason=reason)


def digits() -> Iterator[Row]:
    """Give the rows on 8,000 digits of MNIST, all of which train again."""
    hashed = Trial(precision((FIRST, SECOND), "hashed", weights_per_value=64), DIGITS)
    gates = (Gate("error", 7.5, 6.2),)
    yield recipe_row("A-Q7", "digits-512", "hashed 1/64, 40 epochs", hashed, gates)
    for block, rate in ((8, 7.0), (16, 12.0)):
        chosen = Trial(structure((FIRST,), "circulant", block=block), DIGITS)
        gates = (Gate("drop", 0.3, 0.0), Gate("file", rate))
        title = f"block-circulant {block}, 40 epochs"
        yield recipe_row("A-S2", "digits-512", title, chosen, gates)
    chosen = Trial(structure((FIRST,), "circulant", block=784), DIGITS)
    gates = (Gate("error", 6.0, 5.4), Gate("gain", 1.5, 2.1))
    title = "one circulant, 40 epochs, against narrow"
    measure = partial(against_narrow, chosen)
    yield Row("A-S1", "digits-784", title, gates, measure, trains=True)
    chosen = Trial(structure((FIRST,), "fastfood"), LONGER)
    title = "Fastfood, 15 epochs, against narrow"
    measure = partial(against_narrow, chosen)
    reason = "the gate is an estimate that nobody has reached yet"
    yield Row("A-S3", "wide-1024", title, (Gate("gain", 4.0),), measure, True, reason)
    gates = (Gate("drop", 0.5), Gate("file", 90.0, 200.0))
    title = "OBD to 2.8 % gradually, 8 values, context, 40 epochs"
    yield recipe_row("A-D2", "digits-300", title, deep_compression(0.028, DIGITS), gates)


def deep_compression(stay: float, recovery: FineTuning) -> Trial:
    """Prune gradually by OBD to the share that stays, then share 8 values, and code them."""
    choice = Choice(
        sparsity=Setting("obd", {"sparsity": 1 - stay}),
        precision=Setting("codebook", {"clusters": 8}),
        coding=Setting("context"),
    )
    return Trial(dict.fromkeys(BOTH, choice), msgspec.structs.replace(recovery, gradual=0.6))


def gradual(bench: Bench) -> Figures:
    """Prune by Fisher and by magnitude, both in passes with training after each."""
    found = []
    for method in ("obd", "magnitude"):
        layers = [sparsity(BOTH, method, sparsity=1 - left) for left in (0.2, 0.05, 0.015)]
        result = bench.in_passes([Trial(choices, RETRAINED) for choices in layers])
        found.append(bench.right(bench.result(result)))
    return {"gain": difference(*found)}


def against_narrow(trial: Trial, bench: Bench) -> Figures:
    """Measure a recipe against a network of one hidden layer with as many parameters."""
    result = bench.compress(trial)
    right = bench.right(bench.result(result))
    parameters = round(result.after.figures["parameters"].value)
    module = OneHidden((parameters - 10) // PARAMETERS_OF_A_UNIT)
    inputs, labels = bench.task.recovery.batch(range(len(bench.task.recovery)))
    if labels is None or trial.recovery is None:
        raise ValueError("a narrow network is trained as long on the same labels")
    torch.manual_seed(0)
    how = Training(trial.recovery.epochs, trial.recovery.batch_size, trial.recovery.learning_rate)
    train(module, (inputs[0].numpy(), labels.numpy()), how)
    narrow = bench.right(lambda images: (module(images),))
    return {"error": share_wrong(right), "gain": difference(right, narrow)}


def one(
    section: str,
    title: str,
    layers: dict[str, Choice],
    gates: tuple[Gate, ...],
    *,
    rival: dict[str, Choice] | None = None,
) -> Row:
    """Return a row of LeNet-300-100 without training."""
    other = None if rival is None else Trial(rival)
    return recipe_row(section, NET, title, Trial(layers), gates, rival=other)
