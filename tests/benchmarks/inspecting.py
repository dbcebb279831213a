"""Parameters and MACs of three known networks, and how long it takes to count them.

Run it from anywhere: `python tests/benchmarks/inspecting.py`. Exits with 1 where a target is
missed: 0.1 % from the known numbers, 5 CPU-seconds. ViT-B/16 is known by two numbers: 16.85 G
leaves the products of queries, keys and values out, 17.564 G has them in; both are checked.
"""

import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "zoo"))

from architectures.zoo import ZOO

from featherweight.engine.inspecting.survey import FUNCTIONS_KIND, survey
from featherweight.engine.network import capture

TOLERANCE = 0.001
CPU_SECONDS = 5.0


class Known(NamedTuple):
    """What is published of a network; `layers` are the MACs without those of attention."""

    name: str
    entry: str
    parameters: float
    layers: float
    macs: float


KNOWN = (
    Known("ResNet-50", "resnet_50", 25.56e6, 4.089e9, 4.089e9),
    Known("VGG-16", "vgg_16", 138.36e6, 15.470e9, 15.470e9),
    Known("ViT-B/16", "vit_fused", 86.57e6, 16.85e9, 17.564e9),
)


def inspected(known: Known) -> bool:
    """Print one network's row; return whether it meets the targets."""
    module = ZOO[known.entry].full.build()
    start = time.process_time()
    network = capture(module, (torch.randn(1, 3, 224, 224),))
    captured = time.process_time()
    summary = survey(network)
    surveyed = time.process_time()
    layers = sum(layer.macs or 0 for layer in summary.layers if layer.kind != FUNCTIONS_KIND)
    met = (
        near(summary.parameters, known.parameters)
        and near(layers, known.layers)
        and near(summary.macs, known.macs)
        and not summary.uncounted
        and surveyed - captured <= CPU_SECONDS
    )
    print(
        f"{known.name:10}{summary.parameters / 1e6:10.2f} M{layers / 1e9:10.3f} G"
        f"{summary.macs / 1e9:10.3f} G{captured - start:11.2f} s{surveyed - captured:10.2f} s"
        f"   {'met' if met else 'MISSED'}"
    )
    for operation in summary.uncounted:
        print(f"{'':10} not counted: {operation}")
    return met


def near(found: float, known: float) -> bool:
    """Say whether a number is within the tolerance of what is known."""
    return abs(found - known) <= TOLERANCE * known


def main() -> int:
    """Print the table; return the exit status."""
    print("network     parameters  MACs, layers    MACs, all  capture CPU   count CPU   target")
    met = [inspected(known) for known in KNOWN]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
