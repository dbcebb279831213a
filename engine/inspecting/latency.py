"""How long every layer takes on this machine: the median of repeats over the whole network."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import nn

from featherweight.engine.figures import Figure
from featherweight.engine.inspecting.calls import evaluating
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network

WARM_UP = 2
FEWEST_REPEATS = 3
STAGE = "Timing the layers"


@dataclass(frozen=True)
class LatencyReport:
    """Measured milliseconds of one pass of `batch` samples, medians over repeats.

    `layers` holds the time of one call of each layer that was called, `shares` its part (all its
    calls) of the sum over all layers, 0 to 1. `total` is the whole network left alone, and `other`
    what a pass takes beside its layers: functions, and the bookkeeping of the graph.
    """

    layers: dict[str, Figure]
    shares: dict[str, float]
    other: Figure
    total: Figure
    batch: int


def measure(network: Network, job: Job, repeats: int = 15, seconds: float = 10.0) -> LatencyReport:
    """Time all layers of a network on its example, with the threads that torch uses now.

    A timed pass and one of the whole network alone take turns, so that a slow moment hits both.
    Stops after `repeats` turns, or earlier where `seconds` are over. Raises CancelledError.
    """
    passes: list[dict[str, list[float]]] = []
    rests: list[float] = []
    wholes: list[float] = []
    job.begin(WARM_UP + repeats)
    with torch.no_grad(), evaluating(network.module):
        began = time.monotonic()
        for turn in range(WARM_UP + repeats):
            if len(passes) >= FEWEST_REPEATS and time.monotonic() - began > seconds:
                job.advance(STAGE, WARM_UP + repeats - turn)
                break
            with _timed_layers(network, job) as calls:
                timed = _pass(network)
            whole = _pass(network)
            if turn >= WARM_UP:
                passes.append(calls)
                rests.append(max(timed - sum(map(sum, calls.values())), 0.0))
                wholes.append(whole)
            job.advance(STAGE)
    return _report(passes, rests, wholes, network)


def _report(
    passes: list[dict[str, list[float]]],
    rests: list[float],
    wholes: list[float],
    network: Network,
) -> LatencyReport:
    sums = {name: median(sum(calls[name]) for calls in passes) for name in passes[0]}
    whole = sum(sums.values()) or 1.0
    example = network.example[0] if network.example else None
    return LatencyReport(
        layers={name: _figure(sums[name] / len(passes[0][name])) for name in sums},
        shares={name: value / whole for name, value in sums.items()},
        other=_figure(median(rests)),
        total=_figure(median(wholes)),
        batch=example.shape[0] if example is not None and example.ndim else 1,
    )


def _figure(seconds: float) -> Figure:
    return Figure(seconds * 1000, "ms", "measured")


def _pass(network: Network) -> float:
    began = time.perf_counter()
    network.module(*network.example)
    return time.perf_counter() - began


@contextmanager
def _timed_layers(network: Network, job: Job) -> Iterator[dict[str, list[float]]]:
    calls: dict[str, list[float]] = {}

    def start(module: nn.Module, _: Any) -> None:
        job.check()
        starts[module] = time.perf_counter()

    def stop(module: nn.Module, _: Any, __: Any) -> None:
        calls.setdefault(names[module], []).append(time.perf_counter() - starts[module])

    names = {layer: name for name, layer in network.layers()}
    starts: dict[nn.Module, float] = {}
    with ExitStack() as hooks:
        for layer in names:
            hooks.callback(layer.register_forward_pre_hook(start).remove)
            hooks.callback(layer.register_forward_hook(stop).remove)
        yield calls
