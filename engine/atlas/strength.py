"""How the error of a layer's outputs moves with the strength of one method, point by point."""

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
import torch
from torch import nn

from featherweight.engine.applicability import Chosen, chosen_methods
from featherweight.engine.atlas.break_even import break_evens
from featherweight.engine.atlas.layer_inputs import sampled_inputs
from featherweight.engine.atlas.output_error import (
    Known,
    error_lock,
    output_error,
    spectral_rank_error,
    spectrum_of,
    told_by_spectrum,
)
from featherweight.engine.atlas.rank_suggestions import rank_suggestions
from featherweight.engine.atlas.strength_grid import in_order, strength_of, with_strength
from featherweight.engine.calibrating.collecting import Collector
from featherweight.engine.evidence import NOTHING, Evidence, Need, input_lock
from featherweight.engine.inspecting.coupling import Coupling
from featherweight.engine.jobs import Job
from featherweight.engine.methods.method import FactorMethod
from featherweight.engine.methods.registry import method_of
from featherweight.engine.methods.structure.svd import Svd
from featherweight.engine.network import Network
from featherweight.engine.options import Slot
from featherweight.engine.recipe import Choice, Recipe
from featherweight.engine.results import StrengthTrace
from featherweight.engine.task import Task

Tell = Callable[[StrengthTrace], None]

# A curve is left as it is once so many seconds went into it.
SECONDS = 20.0
# Methods that ask the data get what so many samples say, of layers that have at most so many
# inputs: a wider one would take longer than anybody waits for a prediction.
EVIDENCE_SAMPLES, EVIDENCE_COLUMNS = 128, 2304
REMEMBERED = 1 << 16
# What is known of the layers that were looked at last, 256 MB and the last of them.
HELD_ELEMENTS = 1 << 26
NOT_FINITE = "Its weights or outputs are not finite."


@dataclass(frozen=True)
class Data:
    """The task whose data tells of inputs, and a digest of that data."""

    task: Task
    digest: str


class StrengthTracer:
    """Traces layers of one network; errors are kept in `errors` by all that they depend on.

    Its methods may be called from several threads.
    """

    def __init__(
        self,
        network: Network,
        coupling: Coupling,
        shapes: Mapping[str, tuple[int, ...]],
        errors: dict[bytes, float],
    ) -> None:
        self._network = network
        self._coupling = coupling
        self._shapes = shapes
        self._layers = dict(network.layers())
        self._digests: dict[str, bytes] = {}
        self._spectra: dict[str, tuple[float, ...]] = {}
        self._known: dict[tuple[str, str, frozenset[Need]], Known] = {}
        self._errors = errors

    def trace(
        self,
        recipe: Recipe,
        names: tuple[str, ...],
        slot: Slot,
        data: Data | None,
        job: Job,
        tell: Tell,
    ) -> None:
        """Tell of each layer what the method in a slot does to it, more and more of it.

        Of one layer the whole curve, of several only the errors of their choices, small layers
        first. Raises UserError for a wrong recipe or data that cannot be read, CancelledError.
        """
        sizes = {
            name: sum(value.numel() for value in self._layers[name].parameters())
            for name in names
            if name in self._layers
        }
        for name in sorted(sizes, key=lambda name: sizes[name]):
            job.check()
            layer = _Layer(self, recipe, name, slot, data, job)
            layer.trace(tell, whole=len(sizes) == 1)

    def layer(self, name: str) -> nn.Module:
        """Return a layer of the network."""
        return self._layers[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a layer's example input."""
        return self._shapes.get(name, ())

    def chosen(self, recipe: Recipe, name: str, job: Job) -> Chosen:
        """Return the methods of one layer of a recipe."""
        return chosen_methods(self._network, self._coupling, recipe, job.check)[name]

    def spectrum(self, name: str) -> tuple[float, ...]:
        """Return the singular values of a layer's weight, computed once."""
        if name not in self._spectra:
            self._spectra[name] = spectrum_of(self._layers[name])
        return self._spectra[name]

    def known(self, name: str, needs: frozenset[Need], data: Data | None, job: Job) -> Known:
        """Return what the data says of a layer's inputs, measured once."""
        layer = self._layers[name]
        if data is None or input_lock(layer):
            return Known()
        key = (name, data.digest, needs)
        if key not in self._known:
            self._forget()
            rows = sampled_inputs(self._network, data.task, (name,), job.check).get(name)
            evidence: Mapping[str, Evidence] = {}
            if needs and rows is not None and rows.shape[2] <= EVIDENCE_COLUMNS:
                shell = self._network.shell()
                collector = Collector(data.task, EVIDENCE_SAMPLES, job)
                evidence = collector.collect(shell, {name: needs}).get(name, {})
            self._known[key] = Known(rows, evidence)
        return self._known[key]

    def error(self, recipe: Recipe, name: str, known: Known, data: Data | None, job: Job) -> float:
        """Return the error of a layer's choice in a recipe; the same is not computed again."""
        seen = data.digest if data and known.rows is not None else ""
        key = self._key(recipe, name, seen)
        found = self._errors.get(key)
        if found is None:
            found = self._error(self.chosen(recipe, name, job), name, known, job)
            if len(self._errors) >= REMEMBERED:
                self._errors.clear()
            self._errors[key] = found
        return found

    def knows(self, recipe: Recipe, name: str, known: Known, data: Data | None) -> bool:
        """Say whether an error is there without computing."""
        seen = data.digest if data and known.rows is not None else ""
        return self._key(recipe, name, seen) in self._errors

    def _error(self, chosen: Chosen, name: str, known: Known, job: Job) -> float:
        layer = self._layers[name]
        if told_by_spectrum(layer, chosen):
            assert isinstance(chosen.structure, Svd)
            return spectral_rank_error(layer, chosen.structure, self.spectrum(name))
        return output_error(layer, chosen, known, job.check)

    def _key(self, recipe: Recipe, name: str, seen: str) -> bytes:
        weights = b"".join(self._digest(each) for each in recipe.layers)
        return msgspec.msgpack.encode((name, weights, recipe.layers, seen))

    def _digest(self, name: str) -> bytes:
        if name not in self._digests:
            digest = hashlib.blake2b(digest_size=16)
            for value in self._layers[name].parameters():
                flat = value.detach().contiguous().reshape(-1)
                digest.update(flat.view(torch.uint8).numpy().data)
            self._digests[name] = digest.digest()
        return self._digests[name]

    def _forget(self) -> None:
        # Another thread may be adding to it.
        if sum(known.elements for known in list(self._known.values())) > HELD_ELEMENTS:
            self._known.clear()


class _Layer:
    """One layer under way: its choice, what moves, and what was told of it so far."""

    def __init__(
        self,
        tracer: StrengthTracer,
        recipe: Recipe,
        name: str,
        slot: Slot,
        data: Data | None,
        job: Job,
    ) -> None:
        self._tracer, self._name, self._slot = tracer, name, slot
        self._data, self._job = data, job
        self._recipe = _with_pool(recipe, name)
        self._layer = tracer.layer(name)
        self._chosen = tracer.chosen(self._recipe, name, job)
        setting = self._recipe.choice(name).setting(slot)
        self._method = method_of(setting, f"layers.{name}.{slot}") if setting else None
        self._option = strength_of(self._method)
        method = setting.method if setting else ""
        self._trace = StrengthTrace(layer=name, slot=slot, method=method)

    def trace(self, tell: Tell, whole: bool) -> None:
        if whole:
            self._add_break_evens()
        lock = error_lock(self._layer, self._chosen)
        if lock:
            self._add(reason=lock)
        tell(self._trace)
        if not lock:
            self._trace_errors(tell, whole)
        if whole and isinstance(self._method, FactorMethod):
            self._job.check()
            self._add(suggestions=rank_suggestions(self._layer, self._method))
            tell(self._trace)

    def _trace_errors(self, tell: Tell, whole: bool) -> None:
        needs = _needs(self._chosen)
        spectral = told_by_spectrum(self._layer, self._chosen)
        data = None if spectral else self._data
        known = self._tracer.known(self._name, needs, data, self._job)
        told = (known.evidence or {}).get("weight", NOTHING)
        has = {"moments": told.moments, "gradients": told.gradients}
        later = (self._chosen.sparsity, self._chosen.precision)
        blind = self._chosen.structure is not None and any(m and m.needs() for m in later)
        self._add(
            of="weights" if known.rows is None else "outputs",
            without_data=blind or any(has[need] is None for need in needs),
        )
        now = self._tracer.error(self._recipe, self._name, known, data, self._job)
        self._add(now=now) if math.isfinite(now) else self._add(reason=NOT_FINITE)
        tell(self._trace)
        if whole and self._option is not None and self._method is not None:
            self._trace_curve(known, data, tell)

    def _trace_curve(self, known: Known, data: Data | None, tell: Tell) -> None:
        assert self._option is not None
        assert self._method is not None
        points = {
            strength: with_strength(self._recipe, self._name, self._slot, self._option, strength)
            for strength in in_order(self._layer, self._method, self._option)
        }
        ready = [s for s in points if self._tracer.knows(points[s], self._name, known, data)]
        found: dict[float, float] = {}
        began = time.monotonic()
        for strength in (*ready, *(each for each in points if each not in ready)):
            self._job.check()
            if time.monotonic() - began > SECONDS:
                break
            error = self._tracer.error(points[strength], self._name, known, data, self._job)
            if math.isfinite(error):
                found[strength] = error
            if strength not in ready or len(found) == len(ready):
                self._add(points=tuple(sorted(found.items())))
                tell(self._trace)

    def _add_break_evens(self) -> None:
        option, method = self._option, self._method
        shape = self._tracer.shape(self._name)
        if option is None or method is None or option.kind == "choice" or not shape:
            return
        smaller, faster = break_evens(self._layer, shape, self._chosen, method, option)
        self._add(smaller=smaller, faster=faster)

    def _add(self, **more: object) -> None:
        self._trace = msgspec.structs.replace(self._trace, **more)


def _with_pool(recipe: Recipe, name: str) -> Recipe:
    """Return a recipe of one layer, and of those that it has a sparsity together with."""
    own = recipe.choice(name)
    layers = {name: own}
    sparsity = own.sparsity
    if sparsity is not None and sparsity.options.get("budget", "layer") != "layer":
        for other, choice in recipe.layers.items():
            if other != name and choice.sparsity == sparsity:
                layers[other] = Choice(sparsity=sparsity)
    return Recipe(layers=layers)


def _needs(chosen: Chosen) -> frozenset[Need]:
    if chosen.structure is not None:
        return chosen.structure.needs()
    later = (chosen.sparsity, chosen.precision)
    return frozenset().union(*(method.needs() for method in later if method))
