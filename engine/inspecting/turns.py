"""Timing several things by turns, so that a slow moment of the machine falls on all of them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from featherweight.engine.jobs import Check


@dataclass(frozen=True)
class Effort:
    """How long is timed: rounds that do not count, then `rounds` at least, and up to `most`.

    After the least rounds it ends once `seconds` are over.
    """

    warm_up: int
    rounds: int
    most: int
    seconds: float


def by_turns(
    runs: Mapping[str, Callable[[], object]], effort: Effort, check: Check
) -> dict[str, list[float]]:
    """Return the milliseconds of every round of each that counts. `check` is called each round."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    began = time.perf_counter()
    for turn in range(effort.warm_up + effort.most):
        check()
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(1000 * (time.perf_counter() - start))
        enough = turn >= effort.warm_up + effort.rounds
        if enough and time.perf_counter() - began > effort.seconds:
            break
    return {name: taken[effort.warm_up :] for name, taken in times.items()}
