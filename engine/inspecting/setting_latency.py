"""How long a layer takes in ONNX Runtime as it is, and with what a choice makes of it.

Measured is the layer alone, in the graph that the exporter would write of it, on one thread.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import onnxruntime
import torch
from msgspec import Struct
from torch import Tensor, nn

from featherweight.engine.errors import UserError
from featherweight.engine.inspecting.lone_runner import Way, parts_of, runner
from featherweight.engine.inspecting.turns import Effort, by_turns
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.methods.precision.integer import IntegerForm
from featherweight.engine.weight_forms import CompactLayer
from featherweight.engine.writing.files import append, make_folder
from featherweight.engine.writing.onnx_products import multiplied

FILE = "layer-times.jsonl"
EFFORT = Effort(warm_up=2, rounds=10, most=200, seconds=0.15)
BYTE = 8
MULTIPLYING = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Change:
    """A layer and the shape of its input, batch first, and what stands in its place afterwards.

    `chosen` is settled: a layer, or an `nn.Sequential` of the chain. `chosen_shape` is given where
    its input has lost channels.
    """

    layer: nn.Module
    input_shape: Shape
    chosen: nn.Module
    chosen_shape: Shape | None = None


class Timed(Struct, frozen=True, omit_defaults=True):
    """The milliseconds of one call of what `key` says, or the reason why there are none."""

    key: str
    milliseconds: float | None = None
    reason: str = ""


class LayerTimes:
    """Times of layers, each measured once, kept in memory and in a file in `folder`.

    A time depends on kinds, options and shapes, never on the values of weights, so masks cost and
    gain nothing. Small weights count as floats, which ONNX Runtime makes of them as it loads the
    file, unless products that take them as they are prove faster; with `integers`, for networks
    with data to calibrate on, 8-bit layers may also compute in integers.

    All times of what stands for a layer are taken by turns with the layer itself, and told in
    proportion to the layer's first time: a slow moment changes none of them.
    """

    def __init__(self, folder: Path | None = None, integers: bool = False) -> None:
        """Read the times in a folder, which is made. Raises UserError where that cannot be."""
        self._integers = integers
        self._path = folder / FILE if folder else None
        self._known: dict[str, Timed] = {}
        if folder:
            make_folder(folder)
        if self._path:
            self._known = {timed.key: timed for timed in _read(self._path)}

    def of(
        self,
        layer: nn.Module,
        input_shape: Shape,
        chosen: nn.Module | None = None,
        check: Check = unchecked,
    ) -> float | None:
        """Return the milliseconds of one call of what was chosen for a layer, else of the layer.

        None where ONNX Runtime cannot run it, which `reason` explains. Raises CancelledError.
        """
        change = Change(layer, input_shape, layer if chosen is None else chosen)
        return self.of_all([change], check)

    def of_all(self, changes: Iterable[Change], check: Check = unchecked) -> float | None:
        """Return the sum over several changes, as after channels are removed; None like `of`."""
        found = [self._fastest(change, check).milliseconds for change in changes]
        return sum(each for each in found if each is not None) if None not in found else None

    def reason(self, layer: nn.Module, input_shape: Shape, chosen: nn.Module | None = None) -> str:
        """Return why there is no time, a sentence; empty where there is one."""
        change = Change(layer, input_shape, layer if chosen is None else chosen)
        return self._fastest(change, unchecked).reason

    def _fastest(self, change: Change, check: Check) -> Timed:
        found = [self._timed(change, way, check) for way in _ways(change.chosen, self._integers)]
        # Where floats cannot be written, nothing can.
        times = [timed for timed in found if timed.milliseconds is not None]
        return min(times, key=lambda timed: timed.milliseconds or 0.0) if times else found[0]

    def _timed(self, change: Change, way: Way, check: Check) -> Timed:
        shape = change.chosen_shape or change.input_shape
        after, before = _key(change.chosen, shape, way), _key(change.layer, change.input_shape)
        if after in self._known:
            return self._known[after]
        check()
        try:
            runs = {after: runner(change.chosen, shape, way)}
        except UserError as error:
            return self._keep(Timed(after, reason=error.message))
        if before not in self._known or self._known[before].milliseconds is not None:
            try:
                runs.setdefault(before, runner(change.layer, change.input_shape))
            except UserError as error:
                self._keep(Timed(before, reason=error.message))
        # Other programs make most runs slower, and long ones more than short ones, but seldom all.
        taken = {name: min(each) for name, each in by_turns(runs, EFFORT, check).items()}
        pace = 1.0
        if before in self._known:
            pace = (self._known[before].milliseconds or 1.0) / taken.get(before, 1.0)
        elif before != after:
            self._keep(Timed(before, taken[before]))
        return self._keep(Timed(after, taken[after] * pace))

    def _keep(self, timed: Timed) -> Timed:
        self._known[timed.key] = timed
        if self._path:
            append(self._path, msgspec.json.encode(timed) + b"\n")
        return timed


def _read(path: Path) -> Iterable[Timed]:
    """Give the times in a file; a line that a crash cut short counts for nothing."""
    try:
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        if lines and not lines[-1].endswith(b"\n"):
            with path.open("ab") as file:
                file.write(b"\n")
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}.", "Choose another folder."
        ) from error
    for line in lines:
        try:
            yield msgspec.json.decode(line, type=Timed)
        except msgspec.DecodeError:
            continue


def _ways(layer: nn.Module, integers: bool) -> list[Way]:
    forms = [
        form
        for part in parts_of(layer)
        if isinstance(part, CompactLayer) and isinstance(part.settings, MULTIPLYING)
        for form in part.held().values()
        if isinstance(form, IntegerForm)
    ]
    ways: list[Way] = ["floats"]
    if multiplied({str(position): form for position, form in enumerate(forms)}):
        ways.append("products")
    if integers and any(form.bits == BYTE and form.scales.ndim < 2 for form in forms):
        ways.append("integers")
    return ways


def _key(layer: nn.Module, shape: Shape, way: Way = "floats") -> str:
    """Return a digest of all that the time of a layer depends on."""
    told = (onnxruntime.__version__, way, shape, [_told(part, way) for part in parts_of(layer)])
    return hashlib.blake2b(msgspec.msgpack.encode(told), digest_size=16).hexdigest()


def _told(layer: nn.Module, way: Way) -> list[Any]:
    """Return kind, options and shapes of a layer; with them its integers where they matter."""
    if isinstance(layer, CompactLayer):
        forms = layer.held()
        shapes = {name: form.shape for name, form in forms.items()}
        shapes |= {name: tuple(value.shape) for name, value in layer.rest.items()}
        told = [_settings(layer.settings), sorted(_shapes(layer.tables(), shapes).items())]
        if way != "floats":
            told.append(sorted(_integers(forms).items()))
        return told
    tensors = dict((*layer.named_parameters(), *layer.named_buffers()))
    return [*map(_settings, layer.modules()), sorted(_shapes(tensors, {}).items())]


def _shapes(tensors: Mapping[str, Tensor], known: Mapping[str, Shape]) -> dict[str, Any]:
    found = {name: (str(value.dtype), tuple(value.shape)) for name, value in tensors.items()}
    return {**found, **{name: (str(torch.float32), shape) for name, shape in known.items()}}


def _integers(forms: Mapping[str, nn.Module]) -> dict[str, Any]:
    return {
        name: (form.bits, tuple(form.scales.shape))
        for name, form in forms.items()
        if isinstance(form, IntegerForm)
    }


def _settings(module: nn.Module) -> list[Any]:
    """Return the kind of a module and its plain attributes."""
    plain = [
        (name, repr(value))
        for name, value in vars(module).items()
        if isinstance(value, int | float | str | tuple | list | None)
        and not name.startswith("_")
        and name != "training"
    ]
    return [f"{type(module).__module__}.{type(module).__qualname__}", sorted(plain)]
