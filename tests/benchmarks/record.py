"""How small and how fast whole recipes make networks at half a point of accuracy.

Run it with `python tests/benchmarks/record.py [--only PATTERN] [--seeds N] [--keep FOLDER]`. Every
row is a recipe of `resources/recipes`, run through the Session that the window uses, with every
seed. Bytes are those of the archive, which is opened again to measure its accuracy; a drop is
against the dense network that was trained as long by labels, paired sample by sample. Latency is of
the exported ONNX file against the source's, in ONNX Runtime, one sample at a time. Figures are
medians over the seeds.

Under each row stands a rival with the same epochs: magnitude pruning, k-means and Huffman with the
shares of Deep Compression, and for latency Torch-Pruning where it is installed.

Networks and teachers are trained first, and kept in FOLDER. Exits with 1 where a gate is missed.
"""

import argparse
import contextlib
import re
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import torch
from methods_bench import Bench, difference
from methods_data import FASHION
from record_networks import NETWORKS, opened_with_teacher
from record_rivals import Rival, deep_compression, peer

from featherweight.engine.errors import UserError
from featherweight.engine.jobs import Job
from featherweight.engine.recipe import Recipe, read_recipe

RECIPES = Path(__file__).parents[2] / "resources" / "recipes"
HALF, ONE = 0.5, 1.0


@dataclass(frozen=True)
class Row:
    """One recipe on one network: what it must reach, and what it is meant to reach.

    `factor` is of the file or of the latency, `drop` in points of top-1.
    """

    network: str
    recipe: str
    factor: float
    drop: float
    rank: Literal["gate", "target"] = "gate"
    of: Literal["file", "latency"] = "file"


@dataclass(frozen=True)
class Outcome:
    """What one run gave."""

    factor: float
    drop: float
    error: float
    bytes: float
    seconds: float


ROWS = (
    Row("lenet-300-100", "lenet-300-100-110x", 110, HALF),
    Row("lenet-300-100", "lenet-300-100-160x", 160, HALF, "target"),
    Row("lenet-300-100", "lenet-300-100-200x", 200, ONE, "target"),
    Row("digits", "digits-120x", 120, HALF),
    Row("digits", "digits-200x", 200, HALF, "target"),
    Row("lenet-5", "lenet-5-80x", 80, HALF),
    Row("lenet-5", "lenet-5-200x", 200, HALF, "target"),
    Row("residual", "residual-25x", 25, HALF),
    Row("residual", "residual-50x", 50, HALF, "target"),
    Row("residual", "residual-3x-faster", 3, HALF, of="latency"),
    Row("residual", "residual-5x-faster", 5, HALF, "target", of="latency"),
    Row("lenet-300-100", "lenet-300-100-binary", 24, HALF),
    Row("lenet-300-100", "lenet-300-100-binary", 24, 0.2, "target"),
    Row("residual", "residual-4-bit", 1, 0.3),
    Row("residual", "residual-4-bit", 1, 0.0, "target"),
)


def main() -> int:
    """Print the table; return 1 where a gate is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="a regular expression for recipes")
    parser.add_argument("--seeds", type=int, default=2, help="how often each recipe is run")
    parser.add_argument("--keep", type=Path, help="a folder for data and trained networks")
    parser.add_argument("--fashion", type=Path, default=FASHION, help="folder of Fashion-MNIST")
    parser.add_argument("--threads", type=int, default=2, help="of the training")
    parser.add_argument("--no-rivals", action="store_true", help="leave the rivals out")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    rows = [row for row in ROWS if re.search(asked.only, row.recipe)]
    missed = 0
    with contextlib.ExitStack() as stack:
        place = asked.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for network in dict.fromkeys(row.network for row in rows):
            try:
                bench = opened_with_teacher(network, place, asked.fashion)
            except UserError as error:
                print(f"{NETWORKS[network].title}: {error.message} {error.hint}")
                missed += 1
                continue
            print(f"-- {NETWORKS[network].title}", flush=True)
            chosen = [row for row in rows if row.network == network]
            missed += of_network(bench, chosen, range(asked.seeds), not asked.no_rivals)
    print(f"{missed} gates missed" if missed else "all gates met")
    return 1 if missed else 0


def of_network(bench: Bench, rows: list[Row], seeds: range, rivals: bool) -> int:
    """Measure the rows of a network and print them; return how many gates were missed."""
    missed, known = 0, dict[tuple[str, str], list[Outcome]]()
    for row in rows:
        recipe = read_recipe(RECIPES / f"{row.recipe}.yaml")
        key = row.recipe, row.of
        if key not in known:
            known[key] = [outcome(bench, with_seed(recipe, seed), row.of) for seed in seeds]
        found = known[key]
        factor = statistics.median(one.factor for one in found)
        drop = statistics.median(one.drop for one in found)
        good = factor >= row.factor and drop <= row.drop
        missed += row.rank == "gate" and not good
        error = max(one.error for one in found)
        seconds = sum(one.seconds for one in found) / len(found)
        size = statistics.median(one.bytes for one in found)
        print(
            f"{row.recipe:24}{row.rank:8}{row.factor:5g}x {row.of:8}at ≤ {row.drop:g}"
            f"   {factor:7.1f}x at {drop:5.2f} ± {error:.2f}{size:10,.0f} bytes{seconds:6.0f} s"
            f"   {'met' if good else 'MISSED'}",
            flush=True,
        )
        if rivals and row.rank == "gate":
            told = peer(bench, recipe) if row.of == "latency" else deep_compression(bench, recipe)
            print(f"    {said(told)}", flush=True)
    return missed


def outcome(bench: Bench, recipe: Recipe, of: Literal["file", "latency"]) -> Outcome:
    """Run a recipe and measure what it gave."""
    began = time.monotonic()
    result = bench.session.compress(recipe, "record", str(bench.folder), Job())
    right = bench.right(bench.result(result))
    lost = difference(bench.control(recipe.recovery), right)
    after = result.after.figures["bytes"].value
    factor = result.before.figures["bytes"].value / after
    if of == "latency":
        factor = bench.export(result).checks["speedup"].value
    seconds = time.monotonic() - began
    return Outcome(factor, lost.value, lost.error or 0.0, after, seconds)


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """Return a recipe with another seed."""
    return msgspec.structs.replace(recipe, seed=seed)


def said(rival: Rival) -> str:
    """Return what a rival reached, as words."""
    if rival.reason:
        return f"{rival.name}: {rival.reason}"
    return f"{rival.name}: {rival.factor:.1f}x at {rival.drop:.2f} ± {rival.error:.2f}"


if __name__ == "__main__":
    sys.exit(main())
