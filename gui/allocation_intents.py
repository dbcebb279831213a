"""What is wanted of allocations: budgets go in, choices of all layers come out."""

from collections.abc import Sequence

import msgspec
from PySide6.QtCore import QObject

from featherweight.engine.readings import Allocation, Guilt, Limits, Resource
from featherweight.engine.recipe import Choice, Recipe
from featherweight.engine.results import Result
from featherweight.gui.allocations import Allocations
from featherweight.gui.commands import with_choices
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.holds import Hold, Holds, HoldsCommand
from featherweight.gui.job_intents import JobIntents

HOLD_TEXTS: dict[Hold | None, str] = {
    "kept": "Keep the choice of {}",
    "left": "Leave {} as it is",
    None: "Let budgets change {}",
}


class AllocationIntents(JobIntents):
    """The part of a document that views use budgets by."""

    def __init__(self, client: EngineClient, parent: QObject | None = None) -> None:
        super().__init__(client, parent)
        self.holds = Holds()
        self.allocations = Allocations(
            client, lambda: self.holds.rules(self.recipe), lambda: self.recipe, self
        )
        self.allocations.allocated.connect(self._on_allocated)
        self._runs.allocated.connect(self.allocations.take_refined)
        self._runs.blamed.connect(self.allocations.take_guilty)

    @property
    def allocated(self) -> bool:
        """Whether the recipe is what the newest allocation chose."""
        allocation = self.allocations.allocation
        return allocation is not None and self.recipe.layers == self._chosen(allocation).layers

    @property
    def outcome(self) -> Result | None:
        """The newest result of the very recipe that there is now."""
        same = (result for result in reversed(self.results) if result.recipe == self.recipe)
        return next(same, None)

    def allocate(self, limits: Limits, least: Resource = "bits") -> None:
        """Give every layer that is not held the best choice within limits, or for a drop.

        Answered by `recipe_changed` and `choices_allocated`, again and again while a budget moves;
        that is one step to undo until `allocations.begin_step`.
        """
        if self.network is not None:
            self.allocations.ask(limits, least)

    def refine(self) -> None:
        """Correct the newest wish with the real network in the loop: a job."""
        wish = self.allocations.wish
        if self.can_sweep and wish is not None:
            self._runs.refine(wish.limits, self.holds.rules(self.recipe), wish.least)

    def find_guilty(self) -> None:
        """Name the layers of the recipe that lose more than was predicted: a job."""
        if self.can_sweep and self.recipe.layers:
            self._runs.blame(self.recipe)

    def relax(self, guilt: Guilt) -> None:
        """Give a guilty layer its milder choice, none where there is none."""
        choice = guilt.milder or Choice()
        recipe = with_choices(self._editor.layers, self.recipe, {guilt.layer: choice})
        self._editor.use(recipe, f"Milder choice for {guilt.layer}")

    def hold(self, names: Sequence[str], hold: Hold | None) -> None:
        """Keep budgets from changing layers, or let them; layers that are left lose their choices.

        It is one step that can be undone.
        """
        holds = self.holds.held(names, hold)
        if holds == self.holds or not names:
            return
        what = names[0] if len(names) == 1 else f"{len(names)} layers"
        self.undo_stack.beginMacro(HOLD_TEXTS[hold].format(what))
        if hold == "left":
            self._editor.clear(names)
        self._push_holds(holds)
        self.undo_stack.endMacro()

    def allow_methods(self, methods: tuple[str, ...]) -> None:
        """Let budgets use only these methods, every one where none is named."""
        if methods != self.holds.methods:
            self._push_holds(msgspec.structs.replace(self.holds, methods=methods))

    def _push_holds(self, holds: Holds) -> None:
        text = "Methods that budgets use"
        self.undo_stack.push(HoldsCommand(text, self.holds, holds, self._apply_holds))

    def _apply_holds(self, holds: Holds) -> None:
        self.holds = holds
        self.holds_changed.emit()

    def _chosen(self, allocation: Allocation) -> Recipe:
        """Return the present recipe with the choices of an allocation."""
        layers = allocation.recipe.layers
        recipe = msgspec.structs.replace(self.recipe, layers=layers)
        return with_choices(self._editor.layers, recipe, {})

    def _on_allocated(self, allocation: Allocation, step: int) -> None:
        before, recipe = self.recipe, self._chosen(allocation)
        names = self._editor.layers
        changed = {name for name in names if before.choice(name) != recipe.choice(name)}
        if changed:
            self._editor.use(recipe, "Budget", ("budget", str(step)))
            self.choices_allocated.emit(changed)
