"""The plan that a folder was swept by, kept beside the readings, so that they are found again."""

from pathlib import Path
from typing import TypeVar

import msgspec

from featherweight.engine.readings import SweepPlan
from featherweight.engine.writing.files import make_folder, write_file

T = TypeVar("T")


def keep_plan(path: Path, plan: SweepPlan) -> None:
    """Write a plan that asks for all that this one and those before it do. Raises UserError."""
    before = kept_plan(path)
    if before is not None:
        layers = (*before.layers, *plan.layers) if before.layers and plan.layers else ()
        plan = SweepPlan(
            choices=_distinct((*before.choices, *plan.choices)),
            layers=_distinct(layers),
            samples=max(before.samples, plan.samples),
            latency=before.latency or plan.latency,
        )
    make_folder(path.parent)
    write_file(path, msgspec.json.encode(plan))


def kept_plan(path: Path) -> SweepPlan | None:
    """Return the plan that was kept, None where there is none or it is damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=SweepPlan)
    except (OSError, msgspec.MsgspecError):
        return None


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    found: dict[bytes, T] = {}
    for value in values:
        found.setdefault(msgspec.json.encode(value), value)
    return tuple(found.values())
