"""What is wanted of a document's recipe: choices go in, each a step that can be undone."""

from pathlib import Path

import msgspec
from PySide6.QtCore import QObject

from featherweight.engine.options import SLOTS, MethodDescription, Scalar, Slot
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.trainings import FineTuning
from featherweight.gui.commands import Edit, Training, TrainingPart, with_choices
from featherweight.gui.document_signals import DocumentSignals
from featherweight.gui.recipe_editor import RecipeEditor


class RecipeIntents(DocumentSignals):
    """The part of a document that views change the recipe by, and read it from."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._editor = RecipeEditor(self)
        self.undo_stack = self._editor.undo_stack

    @property
    def recipe(self) -> Recipe:
        """What to do with every layer."""
        return self._editor.recipe

    @property
    def methods(self) -> tuple[MethodDescription, ...]:
        """What the engine can do; empty until it is warm."""
        return self._editor.methods

    def set_choice(self, names: tuple[str, ...], slot: Slot, setting: Setting | None) -> None:
        """Give the layers a method in one slot (None clears it), as one step that can be undone.

        Moves of the same control that follow each other are one step. Layers that cannot take the
        method are left out and noticed; coupled layers follow channel pruning.
        """
        self._editor.edit(Edit(names=names, slot=slot, setting=setting))

    def use_choice(self, names: tuple[str, ...], choice: Choice, text: str) -> None:
        """Give layers every setting of a choice, their other slots as they are; `text` names it."""
        given = {}
        for name in names:
            given[name] = self.recipe.choice(name)
            for slot in SLOTS:
                if (setting := choice.setting(slot)) is not None:
                    given[name] = given[name].replaced(slot, setting)
        recipe = with_choices(self._editor.layers, self.recipe, given)
        if recipe != self.recipe:
            self._editor.use(recipe, text)

    def clear_choices(self, names: tuple[str, ...] = ()) -> None:
        """Clear all slots of the named layers, of every layer where none is named."""
        self._editor.clear(names)

    def set_recovery(self, recovery: FineTuning | None) -> None:
        """Choose how the network is trained after compression, as one step that can be undone."""
        self._editor.set_training("recovery", recovery)

    def set_training(self, part: TrainingPart, training: Training | None) -> None:
        """Choose a training of the recipe, by its field, as one step that can be undone."""
        self._editor.set_training(part, training)

    def use_learning_rate(self, rate: float) -> None:
        """Recover at a learning rate that was found, as a step of its own."""
        recovery = self.recipe.recovery
        if recovery is not None and recovery.learning_rate != rate:
            recovery = msgspec.structs.replace(recovery, learning_rate=rate)
            recipe = msgspec.structs.replace(self.recipe, recovery=recovery)
            self._editor.use(recipe, "Suggested learning rate")

    def set_recipe_option(self, name: str, value: Scalar) -> None:
        """Change an option of the whole recipe, as one step that can be undone."""
        self._editor.set_option(name, value)

    def use_recipe(self, recipe: Recipe, text: str) -> None:
        """Take over the recipe of a result, as one step that can be undone."""
        self._editor.use(recipe, text)

    def load_recipe(self, path: Path) -> None:
        """Take over a recipe file, as one step that can be undone."""
        self._editor.load(path)

    def save_recipe(self, path: Path) -> None:
        """Write the recipe so that the command line can run it."""
        self._editor.save(path)

    def setting(self, layer: str, slot: Slot) -> Setting | None:
        """Return what a layer was given in a slot."""
        return self.recipe.choice(layer).setting(slot)

    def method(self, name: str) -> MethodDescription | None:
        """Return the description of a method."""
        return self._editor.method(name)
