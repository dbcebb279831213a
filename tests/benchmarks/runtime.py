"""How fast each method makes a layer in ONNX Runtime, beside the dense layer in the same run.

Run it with `python tests/benchmarks/runtime.py`, best on an idle machine. Every row compresses one
layer by a recipe, exports it as a person would, and times both files by turns on one thread. It
exits with 1 where a row is slower than 0.8 of the catalogue's figure.
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from featherweight.engine.applicability import chosen_methods
from featherweight.engine.compression import constrain, restructured
from featherweight.engine.inspecting.coupling import analyse
from featherweight.engine.jobs import Job
from featherweight.engine.network import capture
from featherweight.engine.options import Scalar, Slot
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.weight_forms import settle
from featherweight.engine.writing.onnx import write_onnx

SHARE = 0.8
GROUPS: dict[str, Scalar] = {"bits": 4, "granularity": "group", "group_size": 32}


@dataclass(frozen=True)
class Row:
    """One line of the table: a layer, what is done to it, and the catalogue's speed."""

    title: str
    module: nn.Module
    example: Tensor
    slot: Slot
    setting: Setting
    expected: float
    layers: tuple[str, ...] = ("0",)


def main() -> int:
    """Print the table; return 1 where a row is too slow."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    missed = 0
    print(f"{'layer':24}{'method':30}{'file':>8}{'catalogue':>11}{'measured':>10}")
    for row in (*linear_rows(), *convolution_rows()):
        speed, smaller = measured(row)
        good = speed >= SHARE * row.expected
        missed += not good
        print(
            f"{row.title:24}{shown(row.setting):30}{smaller:7.1f}×{row.expected:10.2f}×"
            f"{speed:9.2f}×{'' if good else '  MISSED'}",
            flush=True,
        )
    print(f"target: at least {SHARE} of the catalogue's speed; {missed} missed")
    return 1 if missed else 0


def linear_rows() -> Iterator[Row]:
    """Give the rows of linear layers: three shapes by eight methods."""
    speeds: dict[str, tuple[Setting, Slot, tuple[float, float, float]]] = {
        "n/4": (Setting("svd", {"keep": 0.5}), "structure", (1.87, 1.82, 3.4)),
        "n/8": (Setting("svd", {"keep": 0.25}), "structure", (2.99, 3.85, 10.3)),
        "n/16": (Setting("svd", {"keep": 0.125}), "structure", (5.24, 7.75, 16.0)),
        "monarch": (Setting("monarch", {"keep": 0.0625}), "structure", (4.39, 2.63, 31.0)),
        "int4": (Setting("integer", GROUPS), "precision", (3.82, 0.94, 9.6)),
    }
    for setting, slot, expected in speeds.values():
        for (width, batch), speed in zip(((1024, 1), (1024, 64), (4096, 1)), expected, strict=True):
            module = nn.Sequential(nn.Linear(width, width))
            yield Row(
                f"linear {width}, batch {batch}",
                module,
                torch.randn(batch, width),
                slot,
                setting,
                speed,
            )


def convolution_rows() -> Iterator[Row]:
    """Give the rows of 3×3 convolutions: three shapes by the methods that make them faster."""
    shapes = ((64, 56, 1), (256, 14, 1), (128, 28, 8))
    speeds = {
        "tucker C/2": (2.6, 3.2, 2.7),
        "tucker C/4": (4.8, 8.5, 8.2),
        "cp C": (3.1, 5.4, 3.0),
        "cp C/2": (4.6, 6.1, 6.8),
        "separable C": (1.4, 1.8, 1.5),
        "separable C/2": (2.8, 2.8, 2.6),
        "depthwise": (4.0, 7.9, 8.3),
        "negation": (1.8, 2.2, 1.7),
        "multi-bias": (1.8, 2.2, 1.7),
        "grouped": (2.3, 3.8, 2.5),
        "pointwise": (5.6, 7.2, 7.4),
        "fire C/8": (5.3, 7.4, 8.5),
    }
    for at, (channels, side, batch) in enumerate(shapes):
        title = f"conv {channels}@{side}, batch {batch}"
        example = torch.randn(batch, channels, side, side)
        for name, setting in settings_of(channels).items():
            module = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1))
            yield Row(title, module, example, "structure", setting, speeds[name][at])
        for ratio, expected in ((0.5, (3.7, 4.4, 4.6)), (0.75, (10.3, 14.0, 36.0))):
            # Thin layers before and behind, so that the layer loses inputs and outputs.
            module = nn.Sequential(
                nn.Conv2d(4, channels, 1),
                nn.Conv2d(channels, channels, 3, padding=1),
                nn.Conv2d(channels, 4, 1),
            )
            setting = Setting("channel_pruning", {"ratio": ratio})
            example_in = torch.randn(batch, 4, side, side)
            yield Row(title, module, example_in, "structure", setting, expected[at], ("0", "1"))


def settings_of(channels: int) -> dict[str, Setting]:
    """Return the methods for 3×3 convolutions of so many channels, by the catalogue's names."""
    dense = 9 * channels * channels
    chain = channels * (2 * channels + 6) / dense
    lines = 6 * channels * channels / dense
    return {
        "tucker C/2": Setting("tucker", {"keep": share(channels, 2)}),
        "tucker C/4": Setting("tucker", {"keep": share(channels, 4)}),
        "cp C": Setting("cp", {"keep": chain}),
        "cp C/2": Setting("cp", {"keep": chain / 2}),
        "separable C": Setting("separable", {"keep": lines}),
        "separable C/2": Setting("separable", {"keep": lines / 2}),
        "depthwise": Setting("depthwise_separable", {"multiplier": 1}),
        "negation": Setting("negation", {"share": 1.0}),
        "multi-bias": Setting("multi_bias", {"keep": 0.5}),
        "grouped": Setting("grouped", {"groups": 4}),
        "pointwise": Setting("pointwise"),
        "fire C/8": Setting("fire", {"squeeze": 0.125}),
    }


def share(channels: int, divisor: int) -> float:
    """Return the share of weights that Tucker keeps at both ranks of channels / divisor."""
    rank = channels / divisor
    return (2 * channels * rank + 9 * rank * rank) / (9 * channels * channels)


def measured(row: Row) -> tuple[float, float]:
    """Return how many times faster and smaller the exported layer is."""
    network = capture(row.module, (row.example,))
    coupling = analyse(network)
    choice = Choice().replaced(row.slot, row.setting)
    recipe = Recipe(layers=dict.fromkeys(row.layers, choice))
    chosen = chosen_methods(network, coupling, recipe)
    made = restructured(network, coupling, chosen)
    constrain(made, chosen)
    settle(made)
    with tempfile.TemporaryDirectory() as folder:
        export = write_onnx(made, Path(folder, "made.onnx"), None, network, Job())
    return export.checks["speedup"].value, export.checks["compression"].value


def shown(setting: Setting) -> str:
    """Return a method with its options in few words."""
    options = " ".join(
        f"{value:.3g}" if isinstance(value, float) else str(value)
        for value in setting.options.values()
    )
    return f"{setting.method} {options}"


if __name__ == "__main__":
    sys.exit(main())
