"""Rows of the benchmark of methods on networks of convolutions."""

from collections.abc import Iterator
from dataclasses import replace

import msgspec
from integer_export import decibels, faster, in_integers, prepared
from methods_bench import Bench, Measured, Trial
from methods_rows import (
    Figures,
    Gate,
    Row,
    precision,
    recipe_figures,
    recipe_row,
    sparsity,
    structure,
)

from featherweight.engine.events import IntegerOptions
from featherweight.engine.options import Scalar
from featherweight.engine.recipe import Choice
from featherweight.engine.trainings import FineTuning
from featherweight.engine.writing.integer_sums import sums_exactly
from featherweight.engine.writing.onnx_checks import Runtime
from featherweight.engine.writing.onnx_export import export
from featherweight.engine.writing.onnx_weights import needed_opset

LENET = ("conv1", "conv2", "fc1", "fc2")
SHORT = "epochs of 10,000 images, where the catalogue's are of 60,000"
TAUGHT = ("A-T2", "A-L8")
CALIBRATION, MACS_LEFT, BLOCK = 64, 0.7, 8


def lenet5_rows() -> Iterator[Row]:
    """Give the rows of LeNet-5, without training."""
    net, inner = "LeNet-5", LENET[1:3]

    def row(section: str, title: str, layers: dict[str, Choice], *gates: Gate) -> Row:
        return recipe_row(section, net, title, Trial(layers, calibration=1024), gates)

    halves = precision(LENET, "float16")
    yield row("A-Q1", "float16", halves, Gate("drop", 0.05, 0.0), Gate("file", 1.95))
    small = precision(LENET, "integer", bits=8)
    yield row("A-Q2", "8-bit integers", small, Gate("drop", 0.10, 0.0), Gate("file", 3.8, 3.9))
    small = precision(inner, "integer", bits=4, rounding="gptq")
    yield row("A-Q3", "4 bit, GPTQ", small, Gate("drop", 0.10))
    shared = precision(inner, "codebook", clusters=16, weighting="hessian")
    yield row("A-Q4", "16 values, by Hessian", shared, Gate("drop", 0.4, 0.2))
    sparse = sparsity(inner, "n_of_m", pattern="2:4", score="obs")
    yield row("A-P4c", "OBS, 2 of 4 stay", sparse, Gate("drop", 0.5))
    chosen = structure(("fc1",), "channel_pruning", ratio=0.6, score="obs")
    yield row("A-P5b", "300 of 500 units by OBS", chosen, Gate("drop", 0.6))
    chosen = structure(("fc1",), "svd", keep=1 / 6.8, metric="outputs", multiple=1)
    yield row("A-L1", "SVD by outputs, 1/6.8", chosen, Gate("drop", 0.6, 0.4))


def residual_rows() -> Iterator[Row]:
    """Give the rows of the small residual network; each has its own extra training."""
    wide, block = ("wide",), ("block.conv1", "block.conv2")
    # Channels in blocks of eight, as ONNX Runtime works on them.
    blocks: dict[str, Scalar] = {"score": "obs", "multiple": BLOCK}
    pruned = {
        **structure(("stem", *wide), "channel_pruning", ratio=0.5, **blocks),
        **structure(("block.conv1",), "channel_pruning", ratio=0.625, **blocks),
    }
    gates = (Gate("drop", 1.0), Gate("MACs", 4.0), Gate("speed", 2.5))
    yield again("A-P8a", "a quarter of the MACs, 3 epochs", pruned, 3, gates)
    pairs = structure(("stem", *wide), "negation", share=1.0, metric="outputs")
    gates = (Gate("drop", 0.7), Gate("layer speed", 1.5, 1.7))
    yield again("A-T2", "pairs of opposite filters, 2 epochs", pairs, 2, gates)
    biases = structure((*wide, *block), "multi_bias", keep=0.5, metric="outputs")
    gates = (Gate("drop", 0.5), Gate("MACs", 1.8))
    yield again("A-T3", "two biases a filter, 2 epochs", biases, 2, gates)
    turned = structure((*wide, *block), "rotations", keep=0.25)
    yield again(
        "A-T5", "turned prototypes 1/4, 2 epochs (gate as of T7)", turned, 2, (Gate("drop", 0.7),)
    )
    atoms = structure((*wide, *block), "shared_basis", atoms=4, metric="outputs")
    yield again("A-T7", "4 of 9 atoms, 2 epochs", atoms, 2, (Gate("drop", 0.7),))
    thin = structure(block, "pointwise")
    gates = (Gate("drop", 1.0), Gate("layer speed", 4.0, 5.6))
    yield again("A-T8", "3×3 to 1×1, 4 epochs", thin, 4, gates)
    apart = structure(block, "depthwise_separable", multiplier=1, metric="outputs")
    gates = (Gate("drop", 1.0), Gate("layer speed", 3.0, 4.0))
    yield again("A-L8", "depthwise separable, 3 epochs", apart, 3, gates)
    yield from factor_rows(block)


def factor_rows(block: tuple[str, ...]) -> Iterator[Row]:
    """Give the rows of low ranks: by outputs against by weights, without training."""
    lines, core, chain = 3 * 64 * 32 * 2, 64 * 32 * 2 + 9 * 32 * 32, 64 * (64 + 64 + 6)
    kinds = (
        ("A-L2", "separable", "separable, R = C/2", lines, Gate("layer speed", 2.0, 2.6)),
        ("A-L4", "cp", "CP, R = C", chain, Gate("layer speed", 3.0)),
        ("A-L6", "tucker", "Tucker, r = C/2", core, Gate("layer speed", 2.5)),
    )
    for section, method, title, numbers, speed in kinds:
        keep = numbers / (9 * 64 * 64) + 1e-6
        chosen = Trial(structure(block, method, keep=keep, metric="outputs"))
        rival = Trial(structure(block, method, keep=keep))
        gates = (Gate("gain", 0.0), speed)
        title = f"{title}, by outputs against weights"
        yield recipe_row(section, "residual", title, chosen, gates, rival=rival)


def again(
    section: str, title: str, layers: dict[str, Choice], epochs: int, gates: tuple[Gate, ...]
) -> Row:
    """Return a row of the residual network with extra training.

    Where outputs and hidden layers of the original were measured to help, it is the teacher.
    """
    recovery = FineTuning(
        epochs=epochs, optimizer="adamw", learning_rate=2e-3, batch_size=64, weight_decay=0.01
    )
    if section in TAUGHT:
        recovery = msgspec.structs.replace(recovery, distillation=0.7, hidden="outputs")
    trial = Trial(layers, recovery, calibration=1024)
    return replace(recipe_row(section, "residual", title, trial, gates), reason=SHORT)


def lite0_rows() -> Iterator[Row]:
    """Give the rows of EfficientNet-lite0, without training."""
    gates = (Gate("onnx MB", 5.2), Gate("speed", 1.3, 1.67))
    if not sums_exactly():
        gates += (Gate("SQNR", 2.0),)
    title = "8-bit integers; SQNR is 7 bits over 8"
    yield Row("A-Q2, A-X3", "lite0", title, gates, eight_bits)
    gates = (Gate("cosine", 0.9), Gate("MACs", 1.43), Gate("speed", 1.2))
    yield Row("A-P8c", "lite0", "channels by OBS, 30 % fewer MACs", gates, thinner)


def eight_bits(bench: Bench) -> Figures:
    """Measure the 8-bit file: size, speed, and what 7 bits for activations gain in dB.

    They are only for processors that sum 8-bit products inexactly.
    """
    (samples,) = bench.task.measure.batch(range(len(bench.task.measure)))[0]
    calibration = bench.task.recovery.batch(range(min(CALIBRATION, len(bench.task.recovery))))
    network = bench.network
    exported, plain = prepared(network), export(network, needed_opset(network))
    floats = Runtime(plain.model.SerializeToString(), plain.inputs)
    (wanted,) = floats.run(samples)
    noise, files = {}, {}
    for bits in (7, 8):
        content = in_integers(exported, calibration[0][0], IntegerOptions(), bits)
        files[bits] = Runtime(content, exported.inputs)
        noise[bits] = decibels(wanted, files[bits].run(samples)[0])
    chosen = files[8 if sums_exactly() else 7]
    return {
        "onnx MB": Measured(chosen.size / 1e6),
        "speed": Measured(faster(floats, chosen, samples[:1])),
        "SQNR": Measured(noise[7] - noise[8]),
    }


def thinner(bench: Bench) -> Figures:
    """Measure the network with so many inner channels less that 30 % of its MACs go."""
    inner = tuple(
        layer.name
        for layer in bench.session.summary.layers
        if "_expand_conv" in layer.name and not layer.locks.get("channel_pruning")
    )
    for ratio in range(20, 60):
        # ONNX Runtime works on blocks of channels: without the multiple it gets slower.
        options = {"ratio": ratio / 100, "score": "obs", "multiple": BLOCK}
        layers = structure(inner, "channel_pruning", **options)
        trial = Trial(layers, calibration=CALIBRATION)
        predicted = bench.session.predict(trial.recipe)
        if predicted.after.macs <= MACS_LEFT * predicted.before.macs:
            break
    return recipe_figures(bench, trial, {"cosine", "MACs", "speed"})
