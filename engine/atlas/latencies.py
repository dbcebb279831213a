"""By how many milliseconds layers get slower or faster with a choice, in ONNX Runtime."""

from collections.abc import Iterator
from pathlib import Path

from torch import nn

from featherweight.engine.atlas.changes import Change, Changes
from featherweight.engine.atlas.replay import same_layers
from featherweight.engine.inspecting.calls import run_of
from featherweight.engine.inspecting.setting_latency import LayerTimes
from featherweight.engine.jobs import Job
from featherweight.engine.network import Network
from featherweight.engine.task import Task
from featherweight.engine.weight_forms import settle


class Latencies:
    """Times changes on the shapes of the network's example; equal shapes are timed once.

    `folder` keeps the times. Raises UserError where it cannot be made or read.
    """

    def __init__(self, changes: Changes, task: Task, folder: Path | None) -> None:
        self._changes, self._task = changes, task
        # What computes in integers has to be calibrated on data.
        self._times = LayerTimes(folder, integers=bool(task.source.data))
        self._calls = run_of(changes.network.shell()).calls

    def added(self, change: Change, job: Job) -> float | None:
        """Return how many milliseconds a change adds to all layers, below zero where it saves some.

        None where ONNX Runtime cannot run what it makes. Raises UserError, CancelledError.
        """
        made = self._changes.compressed(change, self._task, job)
        settle(made)
        made.module.eval()
        calls = run_of(made).calls
        total = 0.0
        for name, parts in self._changed(made):
            layer, known = self._changes.network.layer(name), self._calls.get(name)
            first = calls.get(made.parts[name][0])
            if known is None or first is None or not known.input_shape:
                return None
            before = self._times.of(layer, known.input_shape, check=job.check)
            after = self._times.of(parts, first.input_shape, check=job.check)
            if before is None or after is None:
                return None
            total += known.count * (after - before)
        return total

    def _changed(self, made: Network) -> Iterator[tuple[str, nn.Module]]:
        for name, layer in self._changes.network.layers():
            parts = [made.layer(part) for part in made.parts[name]]
            if len(parts) > 1:
                yield name, nn.Sequential(*parts)
            elif not same_layers(layer, parts[0]):
                yield name, parts[0]
