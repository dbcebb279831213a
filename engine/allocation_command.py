"""The command `allocate`: what a person writes as a budget, read into limits and rules."""

import argparse
import re
from pathlib import Path

from featherweight.engine.errors import UserError
from featherweight.engine.layer import NetworkSummary
from featherweight.engine.methods.registry import methods
from featherweight.engine.readings import (
    RESOURCES,
    AllocationRules,
    Limits,
)
from featherweight.engine.results import Cost

AMOUNT = re.compile(r"1/(\d+(?:\.\d+)?)|(\d+(?:\.\d+)?)\s*([kMG]?)(B?)")
TIMES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let a command take a budget, what an allocation leaves alone, and where the recipe goes."""
    parser.add_argument("--store", required=True, help="folder of readings that `sweep` made")
    for name, words in (
        ("--size", "size of the file at most: 1/8 of what the weights take, or 120kB"),
        ("--parameters", "parameters at most: 1/4 or 500k"),
        ("--macs", "MACs a sample at most: 1/2 or 10M"),
        ("--latency", "time of all layers at most: 1/2, or milliseconds"),
    ):
        parser.add_argument(name, default="", metavar="AMOUNT", help=words)
    parser.add_argument(
        "--drop", type=float, metavar="POINTS", help="points that the metric may fall at most"
    )
    parser.add_argument(
        "--least", choices=RESOURCES, default="bits", help="with --drop, what becomes smallest"
    )
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="LAYER", help="leave this layer as it is"
    )
    parser.add_argument(
        "--method", action="append", default=[], metavar="NAME", help="use only these methods"
    )
    parser.add_argument(
        "--refine", action="store_true", help="correct the choices with the real network"
    )
    parser.add_argument("--output", required=True, type=Path, help="recipe file to write (YAML)")


def limits_of(asked: argparse.Namespace, source: Cost, latency: float) -> Limits:
    """Return the limits of a command. Raises UserError where an amount cannot be read."""
    given = {
        "bytes": (asked.size, source.bits / 8, 1.0),
        "parameters": (asked.parameters, source.parameters, 1.0),
        "macs": (asked.macs, source.macs, 1.0),
        "latency": (asked.latency, latency, 1.0),
    }
    found = {name: _amount(*each) for name, each in given.items() if each[0]}
    if not found and asked.drop is None:
        raise UserError("No budget was given.", "Give --size, --macs, --parameters or --drop.")
    return Limits(**found, drop=asked.drop)


def rules_of(asked: argparse.Namespace, summary: NetworkSummary) -> AllocationRules:
    """Return the rules of a command. Raises UserError for a layer or method that is not there."""
    layers = {layer.name for layer in summary.layers}
    for name in asked.exclude:
        if name not in layers:
            raise UserError(f"The network has no layer {name}.", "`inspect` lists its layers.")
    for name in asked.method:
        if name not in methods():
            raise UserError(f"There is no method {name}.", "`methods` lists them.")
    return AllocationRules(excluded=tuple(asked.exclude), methods=tuple(asked.method))


def _amount(text: str, source: float, unit: float) -> float:
    told = AMOUNT.fullmatch(text.strip())
    if told is None:
        raise UserError(f"{text} is no amount.", "Write 1/8, 120kB, 10M or 2.5.")
    if told[1]:
        return source / float(told[1])
    return float(told[2]) * TIMES[told[3]] * unit
