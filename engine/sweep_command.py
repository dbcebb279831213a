"""The command `sweep`: what a person asks to be tried, read into a plan."""

import argparse
from pathlib import Path

from featherweight.engine.errors import UserError
from featherweight.engine.readings import SweepPlan
from featherweight.engine.recipe import Choice, from_yaml


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let a command take where readings are kept, what to try, on which layers and samples."""
    parser.add_argument("--store", required=True, help="folder that keeps the readings")
    parser.add_argument("--samples", type=int, help="read at most so many samples for a setting")
    parser.add_argument(
        "--layers", nargs="+", default=[], metavar="LAYER", help="only these layers"
    )
    parser.add_argument(
        "--choices", type=Path, metavar="FILE", help="what to try: a list of choices (YAML or JSON)"
    )
    parser.add_argument(
        "--latency", action="store_true", help="also time every change in ONNX Runtime"
    )


def plan_of(asked: argparse.Namespace, usual: SweepPlan) -> SweepPlan:
    """Return the plan of a command; what it does not say is as usual.

    Raises UserError where the choices cannot be read or there are no samples.
    """
    samples = usual.samples if asked.samples is None else asked.samples
    if samples < 1:
        raise UserError("A sweep needs samples.", "Give --samples a number above 0.")
    choices = usual.choices if asked.choices is None else _choices(asked.choices)
    return SweepPlan(
        choices=choices, layers=tuple(asked.layers), samples=samples, latency=asked.latency
    )


def _choices(path: Path) -> tuple[Choice, ...]:
    try:
        text = path.read_bytes()
    except OSError as error:
        hint = "Name a file with a list of choices, each as in a recipe."
        raise UserError(f"{path} cannot be read: {error.strerror}.", hint) from error
    return from_yaml(text, tuple[Choice, ...], str(path))
