"""The recipe as it is edited: every step is noticed where it is refused and can be undone."""

from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec
from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QUndoStack

from featherweight.engine.errors import UserError
from featherweight.engine.layer import Layer
from featherweight.engine.options import MethodDescription, Scalar, describe
from featherweight.engine.recipe import Recipe, read_recipe, recipe_to_yaml
from featherweight.gui.commands import (
    Edit,
    Key,
    RecipeCommand,
    Training,
    TrainingPart,
    edited,
    moved_control,
    moved_training,
    with_choices,
)
from featherweight.gui.project_file import write_whole


class RecipeEditor(QObject):
    """Holds the recipe of one network and the steps that led to it."""

    changed = Signal()
    noticed = Signal(str, str, str)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.recipe = Recipe()
        self.undo_stack = QUndoStack(self)
        self.layers: dict[str, Layer] = {}
        self.methods: tuple[MethodDescription, ...] = ()

    def begin(self, layers: dict[str, Layer], recipe: Recipe) -> None:
        """Edit the recipe of another network; nothing before it can be undone."""
        self.layers = layers
        self.undo_stack.clear()
        self.recipe = with_choices(layers, recipe, {})

    def edit(self, edit: Edit) -> None:
        """Give layers a method, or clear a slot of them."""
        change = edited(self.layers, self.recipe, edit)
        title = self._title(edit)
        if change.changed:
            key = moved_control(self.recipe, edit)
            self._push(f"{title} for {_counted(change.changed)}", change.recipe, key)
        if change.refused:
            self.noticed.emit(_refusal(title, change.refused, len(edit.names)), "", "")

    def clear(self, names: Collection[str]) -> None:
        """Clear all slots of the named layers, of every layer where none is named."""
        names = names or tuple(self.recipe.layers)
        kept = {name: choice for name, choice in self.recipe.layers.items() if name not in names}
        if len(kept) < len(self.recipe.layers):
            cleared = [name for name in self.recipe.layers if name not in kept]
            left = msgspec.structs.replace(self.recipe, layers=kept)
            self._push(f"Clear {_counted(cleared)}", left)

    def set_training(self, part: TrainingPart, training: Training | None) -> None:
        """Choose how the network is trained before, right after or long after compression."""
        old: Training | None = getattr(self.recipe, part)
        if training != old:
            recipe = msgspec.structs.replace(self.recipe, **{part: training})
            self._push(part.capitalize(), recipe, moved_training(part, old, training))

    def set_option(self, name: str, value: Scalar) -> None:
        """Change an option of the whole recipe, such as on how many samples methods measure."""
        if value != getattr(self.recipe, name):
            recipe = msgspec.structs.replace(self.recipe, **{name: value})
            self._push(describe(Recipe, name)[0].title, recipe, (name,))

    def use(self, recipe: Recipe, text: str, key: Key | None = None) -> None:
        """Take over a whole recipe of this network, as the step that `text` names.

        Those that follow each other with the same key are one step.
        """
        self._push(text, with_choices(self.layers, recipe, {}), key)

    def load(self, path: Path) -> None:
        """Take over what a recipe file says of this network's layers."""
        try:
            recipe = read_recipe(path)
        except UserError as error:
            self.noticed.emit(error.message, error.hint, "")
            return
        strangers = [name for name in recipe.layers if name not in self.layers]
        if strangers:
            self.noticed.emit(
                f"{path.name} names {_counted(strangers)} that this network does not have;"
                " the rest was taken.",
                "",
                "\n".join(strangers),
            )
        self._push(f"Recipe {path.name}", with_choices(self.layers, recipe, {}))

    def save(self, path: Path) -> None:
        """Write the recipe so that the command line can run it."""
        try:
            write_whole(path, recipe_to_yaml(self.recipe).encode())
        except UserError as error:
            self.noticed.emit(error.message, error.hint, "")

    def method(self, name: str) -> MethodDescription | None:
        """Return the description of a method."""
        return next((method for method in self.methods if method.name == name), None)

    def _push(self, text: str, recipe: Recipe, key: Key | None = None) -> None:
        self.undo_stack.push(RecipeCommand(text, self.recipe, recipe, self._apply, key))

    def _apply(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.changed.emit()

    def _title(self, edit: Edit) -> str:
        if edit.setting is None:
            return f"No {edit.slot}"
        method = self.method(edit.setting.method)
        return method.title if method else edit.setting.method


def _counted(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} layers"


def _refusal(title: str, refused: dict[str, str], asked: int) -> str:
    name, reason = next(iter(refused.items()))
    if len(refused) == 1:
        return f"{name} cannot take {title}: {reason.rstrip('.')}."
    return (
        f"{len(refused)} of {asked} layers cannot take {title} and were left as they are;"
        f" {name}, for one: {reason.rstrip('.')}."
    )
