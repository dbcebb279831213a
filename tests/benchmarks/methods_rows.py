"""What a row of the benchmark of methods is: what is measured, and what it has to reach."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from methods_bench import Bench, Measured, Trial, difference, share_wrong
from runtime import Row as LayerRow
from runtime import measured as raced
from torch import nn, randn

from featherweight.engine.options import Scalar
from featherweight.engine.recipe import Choice, Setting

Name = Literal[
    "drop", "gain", "error", "file", "onnx MB", "onnx file", "speed", "layer speed", "MACs",
    "cosine", "SQNR", "excess", "smaller",
]  # fmt: skip
AT_MOST: tuple[Name, ...] = ("drop", "error", "onnx MB", "excess")
UNITS: dict[Name, str] = {
    "drop": "pt",
    "gain": "pt",
    "error": "%",
    "file": "×",
    "onnx MB": "MB",
    "onnx file": "×",
    "speed": "×",
    "layer speed": "×",
    "MACs": "×",
    "cosine": "",
    "SQNR": "dB",
    "excess": "%",
    "smaller": "%",
}
Figures = Mapping[Name, Measured]
LAYER_CHANNELS, LAYER_SIDE = 64, 56


@dataclass(frozen=True)
class Gate:
    """What one figure must reach, and what it is meant to reach; None without such an ambition."""

    figure: Name
    gate: float
    target: float | None = None

    @property
    def at_most(self) -> bool:
        """Whether the figure must not be larger; others must not be smaller."""
        return self.figure in AT_MOST

    def reached(self, value: float, bound: float) -> bool:
        """Say whether a value is as good as a bound."""
        return value <= bound if self.at_most else value >= bound


@dataclass(frozen=True)
class Row:
    """One thing that the catalogue asks for.

    `trains` says that it takes extra training, `reason` why a target is not reached.
    """

    section: str
    network: str
    title: str
    gates: tuple[Gate, ...]
    measure: Callable[[Bench], Figures]
    trains: bool = False
    reason: str = ""


def recipe_row(
    section: str,
    network: str,
    title: str,
    trial: Trial,
    gates: tuple[Gate, ...],
    *,
    rival: Trial | None = None,
) -> Row:
    """Return a row of a recipe; `gain` is by how many points it is better than its rival."""
    wanted = {gate.figure for gate in gates}

    def measure(bench: Bench) -> Figures:
        return recipe_figures(bench, trial, wanted, rival)

    return Row(section, network, title, gates, measure, bool(trial.recovery))


def recipe_figures(
    bench: Bench, trial: Trial, wanted: set[Name], rival: Trial | None = None
) -> Figures:
    """Run a recipe and measure what is wanted of it.

    `drop` and `gain` are in points of top-1: below the dense network with the same extra training,
    and above the rival.
    """
    result = bench.compress(trial)
    made = bench.result(result)
    before, after = result.before.figures, result.after.figures
    found: dict[Name, Measured] = {
        "file": Measured(before["bytes"].value / after["bytes"].value),
        "MACs": Measured(before["macs"].value / max(after["macs"].value, 1)),
    }
    if wanted & {"drop", "error", "gain"}:
        right = bench.right(made)
        found["error"] = share_wrong(right)
        found["drop"] = difference(bench.control(trial.recovery), right)
        if rival:
            other = bench.result(bench.compress(rival))
            found["gain"] = difference(right, bench.right(other))
    if wanted & {"speed", "onnx MB", "onnx file"}:
        checks = bench.export(result).checks
        found["speed"] = Measured(checks["speedup"].value)
        found["onnx MB"] = Measured(checks["bytes"].value / 1e6)
        found["onnx file"] = Measured(checks["compression"].value)
    if "cosine" in wanted:
        found["cosine"] = bench.cosine(made)
    if "layer speed" in wanted:
        found["layer speed"] = layer_speed(next(iter(trial.layers.values())))
    return found


def layer_speed(choice: Choice) -> Measured:
    """Return how much faster ONNX Runtime runs a 3×3 convolution of 64 channels on 56×56 places."""
    if choice.structure is None:
        raise ValueError("only a structure makes a layer faster by itself")
    method, options = choice.structure.method, dict(choice.structure.options)
    # There is no data for a single layer, and how near it is says nothing of its speed.
    options.pop("metric", None)
    convolution = nn.Conv2d(LAYER_CHANNELS, LAYER_CHANNELS, 3, padding=1)
    example = randn(1, LAYER_CHANNELS, LAYER_SIDE, LAYER_SIDE)
    setting = Setting(method, options)
    row = LayerRow("", nn.Sequential(convolution), example, "structure", setting, 1.0)
    return Measured(raced(row)[0])


def precision(layers: tuple[str, ...], method: str, **options: Scalar) -> dict[str, Choice]:
    """Return a precision for layers."""
    return dict.fromkeys(layers, Choice(precision=Setting(method, options)))


def structure(layers: tuple[str, ...], method: str, **options: Scalar) -> dict[str, Choice]:
    """Return a structure for layers."""
    return dict.fromkeys(layers, Choice(structure=Setting(method, options)))


def sparsity(layers: tuple[str, ...], method: str, **options: Scalar) -> dict[str, Choice]:
    """Return a sparsity for layers."""
    return dict.fromkeys(layers, Choice(sparsity=Setting(method, options)))
