"""What a plan asks to try, one change after the other, and the network that each of them makes."""

import difflib
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import msgspec
import torch

from featherweight.engine.applicability import Chosen, chosen_methods, locks
from featherweight.engine.calibrating.collecting import Collector
from featherweight.engine.compression import constrain, restructured, write_in_place
from featherweight.engine.errors import UserError
from featherweight.engine.inspecting.coupling import Coupling
from featherweight.engine.jobs import Check, Job, unchecked
from featherweight.engine.methods.registry import method_of
from featherweight.engine.methods.structure.channel_pruning import ChannelPruning
from featherweight.engine.network import Network
from featherweight.engine.options import SLOTS
from featherweight.engine.readings import SweepPlan
from featherweight.engine.recipe import Choice, Recipe
from featherweight.engine.task import Task
from featherweight.engine.weight_forms import densify

Locks = Mapping[str, Mapping[str, str]]


def key_of(layers: tuple[str, ...], choice: Choice) -> str:
    """Return a digest of layers and what they get, which tells a setting from all others."""
    content = msgspec.msgpack.encode((layers, choice), order="deterministic")
    return hashlib.blake2b(content, digest_size=16).hexdigest()


@dataclass(frozen=True, eq=False)
class Change:
    """Layers that take a choice together, all others as they are; `reason` says why they cannot."""

    layers: tuple[str, ...]
    choice: Choice
    reason: str = ""

    @cached_property
    def key(self) -> str:
        """The setting's `key_of`."""
        return key_of(self.layers, self.choice)

    @property
    def recipe(self) -> Recipe:
        """The recipe of this change alone."""
        return Recipe(layers=dict.fromkeys(self.layers, self.choice))


class Changes:
    """The changes of one network: which there are in a plan, and what they make of it."""

    def __init__(self, network: Network, coupling: Coupling) -> None:
        self.network, self.coupling = network, coupling
        self.locks: Locks = locks(network, coupling)

    def of(self, plan: SweepPlan) -> tuple[Change, ...]:
        """Return the changes of a plan, layer by layer, each with its choices in their order.

        A layer that cannot take a choice is left out, unless the plan names it: then the change has
        the reason. Channels of coupled layers go together, as one change. Raises UserError for an
        unknown layer or method, or an option out of range.
        """
        self._check(plan)
        found: dict[str, Change] = {}
        for name in plan.layers or tuple(self.locks):
            for choice in plan.choices:
                change = self._change(name, choice)
                if change.reason and not plan.layers:
                    continue
                found.setdefault(change.key, change)
        return tuple(found.values())

    def single(self, pairs: Iterable[tuple[str, Choice]]) -> tuple[Change, ...]:
        """Return the changes of layers by choices of their own, those that they can take."""
        found = (self._change(name, choice) for name, choice in pairs)
        return tuple(change for change in found if not change.reason)

    def chosen(self, change: Change, check: Check = unchecked) -> dict[str, Chosen]:
        """Return the methods of a change by layer. Raises UserError, CancelledError."""
        return chosen_methods(self.network, self.coupling, change.recipe, check)

    def made(self, change: Change, task: Task, job: Job) -> Network:
        """Return the changed network with plain weights, in eval mode.

        It has tensors of the source where these stay as they are. Raises UserError where the
        choice cannot be carried out, CancelledError.
        """
        made = self.compressed(change, task, job)
        densify(made)
        made.module.eval()
        return made

    def compressed(self, change: Change, task: Task, job: Job) -> Network:
        """Return the changed network with weights in the forms of its choice, as `made` does."""
        return compressed(self.network, self.coupling, change.recipe, task, job)

    def _change(self, name: str, choice: Choice) -> Change:
        layers: tuple[str, ...] = (name,)
        if choice.structure is not None and choice.structure.method == ChannelPruning.name:
            together = self.coupling.set_of(name)
            layers = together.layers if together is not None else layers
        return Change(layers, choice, next(self._reasons(layers, choice), ""))

    def _reasons(self, layers: tuple[str, ...], choice: Choice) -> Iterator[str]:
        for name in layers:
            for slot in SLOTS:
                setting = choice.setting(slot)
                if setting is not None and (reason := self.locks[name].get(setting.method)):
                    yield f"Layer {name} cannot take {setting.method}: {reason}"

    def _check(self, plan: SweepPlan) -> None:
        for name in plan.layers:
            if name not in self.locks:
                near = difflib.get_close_matches(name, self.locks)
                hint = f"Did you mean {' or '.join(near)}?" if near else "`inspect` lists them."
                raise UserError(f"The plan names layer {name}, which the network lacks.", hint)
        for place, choice in enumerate(plan.choices):
            if choice.empty:
                raise UserError(f"Choice {place + 1} of the plan is empty.", "Give it a method.")
            for slot in SLOTS:
                setting, where = choice.setting(slot), f"choices.{place}.{slot}"
                if setting is not None and method_of(setting, where).slot != slot:
                    raise UserError(f"{where}: {setting.method} belongs into another slot.")


@torch.no_grad()
def compressed(
    network: Network, coupling: Coupling, recipe: Recipe, task: Task, job: Job
) -> Network:
    """Return what a recipe makes of a network before any recovery, weights in their forms.

    It has tensors of the network where these stay as they are. Raises UserError where the recipe
    cannot be carried out, CancelledError.
    """
    chosen = chosen_methods(network, coupling, recipe, job.check)
    collect = Collector(task, recipe.calibration, Job()).collect
    copy = network.copy() if write_in_place(chosen) else network.shell()
    made = restructured(network, coupling, chosen, job.check, collect, made=copy)
    constrain(made, chosen, job.check, collect)
    return made
