"""Keeps an allocator up to date with the readings of an open network."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from featherweight.engine.allocating.accuracy import Fall, Tried, fitted, power_of, total
from featherweight.engine.allocating.allocator import Allocator
from featherweight.engine.allocating.candidates import (
    Group,
    Option,
    is_pruning,
    layer_options,
    pair_factors,
    slots_of,
)
from featherweight.engine.allocating.choice_table import Whole
from featherweight.engine.allocating.layer_costs import LayerCosts
from featherweight.engine.allocating.layer_errors import LayerErrors
from featherweight.engine.applicability import chosen_methods
from featherweight.engine.atlas.layer_inputs import sampled_inputs
from featherweight.engine.inspecting.coupling import Coupling
from featherweight.engine.inspecting.setting_latency import LayerTimes
from featherweight.engine.jobs import Check, unchecked
from featherweight.engine.layer import Layer
from featherweight.engine.network import Network
from featherweight.engine.prediction import Predictor
from featherweight.engine.readings import Reading
from featherweight.engine.recipe import Choice, Recipe
from featherweight.engine.results import Prediction
from featherweight.engine.task import Task


@dataclass(frozen=True)
class Metric:
    """What falls with the damage, by name, and by how many points it can at most."""

    name: str
    most: float = 100.0


class Planner:
    """Makes the allocator of a network from its readings, again only where they changed.

    Its methods may be called from several threads.
    """

    def __init__(
        self,
        network: Network,
        coupling: Coupling,
        predictor: Predictor,
        layers: Sequence[Layer],
        task: Task | None = None,
    ) -> None:
        """Plan for a network, of which `layers` tell the shapes; `task` gives inputs of layers."""
        self._network = network
        self._coupling = coupling
        self._predictor = predictor
        self._layers = {layer.name: layer for layer in layers}
        self._times: dict[str, float] = {}
        self._task = task
        self._rows: Mapping[str, Tensor] | None = None
        self._costs: dict[str, LayerCosts] = {}
        self._errors: dict[str, LayerErrors] = {}
        self._lefts: dict[tuple[tuple[str, ...], bytes], Mapping[str, float]] = {}
        self._options: dict[str, tuple[object, tuple[Option, ...]]] = {}
        self._made: tuple[object, Allocator] | None = None
        self._working = threading.Lock()

    @property
    def latency(self) -> float:
        """Milliseconds of all layers as they are; zero while they were not timed."""
        return sum(self._times.values())

    def time_layers(self, folder: Path, integers: bool, check: Check) -> None:
        """Time every layer as it is, as readings time what changes make of it.

        `folder` keeps times by shape, `integers` says whether the exporter may compute in them.
        Raises UserError, CancelledError.
        """
        times = LayerTimes(folder, integers=integers)
        found = {}
        for name, module in self._network.layers():
            layer = self._layers.get(name)
            if layer is not None and layer.input_shape:
                alone = times.of(module, layer.input_shape, check=check)
                found[name] = layer.calls * (alone or 0.0)
        self._times = found

    def allocator(
        self,
        readings: Sequence[Reading],
        tried: Sequence[Tried],
        metric: Metric,
        check: Check = unchecked,
    ) -> Allocator:
        """Return the allocator of these readings. Raises CancelledError."""
        known = tuple(reading for reading in readings if reading.damage is not None)
        times = self._times
        asked = (known, tuple(tried), metric, times)
        with self._working:
            if self._made is None or self._made[0] != asked:
                self._made = asked, self._allocator(known, tried, metric, times, check)
            return self._made[1]

    def prediction(self, recipe: Recipe) -> Prediction:
        """Return what a recipe is predicted to cost. Raises UserError where it cannot be made."""
        chosen = chosen_methods(self._network, self._coupling, recipe)
        return self._predictor.predict(recipe, chosen)

    def _allocator(
        self,
        readings: tuple[Reading, ...],
        tried: Sequence[Tried],
        metric: Metric,
        times: Mapping[str, float],
        check: Check,
    ) -> Allocator:
        if self._rows is None:
            names = [name for name in self._layers if self._layers[name].input_shape]
            task = self._task
            self._rows = sampled_inputs(self._network, task, names, check) if task else {}
        factors = pair_factors(readings, self._error, check)
        of_layer: dict[str, list[Reading]] = {name: [] for name in self._layers}
        for reading in readings:
            if len(reading.layers) == 1 and not is_pruning(reading.choice):
                of_layer.setdefault(reading.layers[0], []).append(reading)
        options = {}
        for name, _ in self._network.layers():
            if name not in self._layers or not self._layers[name].input_shape:
                continue
            own, time = of_layer.get(name, []), times.get(name, 0.0)
            asked = (own, time, factors)
            # While a sweep runs, only the layers that it read since have new options.
            if name not in self._options or self._options[name][0] != asked:
                made = layer_options(own, self._cost(name), self._error(name), time, factors, check)
                self._options[name] = asked, made
            options[name] = self._options[name][1]
        whole = Whole(self._predictor.before, self.latency, metric.name, self.prediction)
        power = power_of(tried)
        falls = [Fall(total(each.parts, power), each.drop) for each in tried]
        curve = fitted(falls, metric.most)
        return Allocator(options, self._groups(readings, check), whole, curve, power)

    def _cost(self, name: str) -> LayerCosts:
        if name not in self._costs:
            layer = self._network.layer(name)
            self._costs[name] = LayerCosts(layer, self._layers[name].input_shape)
        return self._costs[name]

    def _error(self, name: str) -> LayerErrors:
        if name not in self._errors:
            rows = (self._rows or {}).get(name)
            self._errors[name] = LayerErrors(self._network, self._coupling, name, rows)
        return self._errors[name]

    def _groups(self, readings: Sequence[Reading], check: Check) -> list[Group]:
        found: dict[tuple[str, ...], list[Reading]] = {}
        for reading in readings:
            if is_pruning(reading.choice) and slots_of(reading.choice) == ("structure",):
                found.setdefault(reading.layers, []).append(reading)
        groups = []
        for layers, own in found.items():
            lefts = [self._left(layers, reading.choice, check) for reading in own]
            groups.append(
                Group(
                    layers,
                    (Choice(), *(reading.choice for reading in own)),
                    (0.0, *(max(r.damage.value, 0.0) for r in own if r.damage)),
                    ({}, *lefts),
                    all(reading.basis == "measured" for reading in own),
                )
            )
        return groups

    def _left(self, layers: tuple[str, ...], choice: Choice, check: Check) -> Mapping[str, float]:
        key = layers, repr(choice).encode()
        if key not in self._lefts:
            recipe = Recipe(layers=dict.fromkeys(layers, choice))
            chosen = chosen_methods(self._network, self._coupling, recipe, check)
            costs = self._predictor.predict(recipe, chosen).layers
            self._lefts[key] = {
                name: cost.parameters / self._layers[name].parameters
                for name, cost in costs.items()
                if name in self._layers
                and self._layers[name].parameters
                and cost.parameters != self._layers[name].parameters
            }
        return self._lefts[key]
