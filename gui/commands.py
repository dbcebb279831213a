"""Changes of the recipe: computed as plain data, kept as commands that can be undone."""

from collections.abc import Callable, Collection, Mapping
from typing import Literal

import msgspec
from msgspec import Struct
from PySide6.QtGui import QUndoCommand

from featherweight.engine.layer import Layer
from featherweight.engine.options import Slot
from featherweight.engine.recipe import Choice, Recipe, Setting
from featherweight.engine.trainings import FineTuning, Preparation, Reconstruction

COUPLED_METHOD = "channel_pruning"
Key = tuple[str, ...]
TrainingPart = Literal["preparation", "reconstruction", "recovery"]
Training = FineTuning | Preparation | Reconstruction


class Change(Struct, frozen=True):
    """A recipe after an edit, the layers that took it, and the reasons of those that did not."""

    recipe: Recipe
    changed: tuple[str, ...]
    refused: dict[str, str]


class Edit(Struct, frozen=True, kw_only=True):
    """A setting for some layers in one slot, None to clear the slot."""

    names: tuple[str, ...]
    slot: Slot
    setting: Setting | None


def edited(layers: dict[str, Layer], recipe: Recipe, edit: Edit) -> Change:
    """Return the recipe after an edit.

    Layers that lose channels together get and lose channel pruning together. A layer that the
    method cannot take is left alone and listed with its reason.
    """
    method = edit.setting.method if edit.setting else ""
    locks = {name: layers[name].locks for name in edit.names if name in layers}
    refused = {name: own[method] for name, own in locks.items() if method in own}
    changed: dict[str, Choice] = {}
    for name, setting in _wanted(layers, recipe, edit).items():
        choice = recipe.choice(name).replaced(edit.slot, setting)
        locked = setting is not None and method in layers[name].locks
        if not locked and choice != recipe.choice(name):
            changed[name] = choice
    return Change(with_choices(layers, recipe, changed), tuple(changed), refused)


def with_choices(layers: Collection[str], recipe: Recipe, given: dict[str, Choice]) -> Recipe:
    """Return the recipe with the given choices; only of known layers, in the network's order."""
    choices = {**recipe.layers, **given}
    kept = {name: choices[name] for name in layers if name in choices and not choices[name].empty}
    return msgspec.structs.replace(recipe, layers=kept)


def moved_control(recipe: Recipe, edit: Edit) -> Key | None:
    """Return the key of the one option that an edit moves, None where it changes more."""
    old = recipe.choice(edit.names[0]).setting(edit.slot) if edit.names else None
    if old is None or edit.setting is None or old.method != edit.setting.method:
        return None
    moved = _differing(old.options, edit.setting.options)
    return (edit.slot, old.method, *moved, *edit.names) if len(moved) == 1 else None


def moved_training(part: TrainingPart, old: Training | None, new: Training | None) -> Key | None:
    """Return the key of the one option that was moved in a training, None for more.

    `part` is the field of the recipe that holds it.
    """
    if old is None or new is None:
        return None
    moved = _differing(msgspec.structs.asdict(old), msgspec.structs.asdict(new))
    return (part, *moved) if len(moved) == 1 else None


def _wanted(layers: dict[str, Layer], recipe: Recipe, edit: Edit) -> dict[str, Setting | None]:
    method = edit.setting.method if edit.setting else ""
    chosen = [name for name in edit.names if name in layers]
    able = {name for name in chosen if method not in layers[name].locks}
    wanted: dict[str, Setting | None] = {}
    for name in chosen if edit.slot == "structure" else ():
        if name in able and method == COUPLED_METHOD:
            wanted.update(dict.fromkeys(layers[name].coupled, edit.setting))
        elif name in able and _is_pruned(recipe, name):
            wanted.update(dict.fromkeys(p for p in layers[name].coupled if _is_pruned(recipe, p)))
    # A layer that cannot take the method is pruned no more where its partners are not.
    wanted.update({name: edit.setting for name in chosen if name in able or name not in wanted})
    return {name: setting for name, setting in wanted.items() if name in layers}


def _is_pruned(recipe: Recipe, name: str) -> bool:
    structure = recipe.choice(name).structure
    return structure is not None and structure.method == COUPLED_METHOD


def _differing(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    return sorted(key for key in {*old, *new} if old.get(key) != new.get(key))


class RecipeCommand(QUndoCommand):
    """One step from a recipe to the next; steps that follow each other with the same key merge."""

    IDENTITY = 1

    def __init__(
        self,
        text: str,
        before: Recipe,
        after: Recipe,
        apply: Callable[[Recipe], None],
        key: Key | None,
    ) -> None:
        super().__init__(text)
        self.after = after
        self.key = key
        self._before = before
        self._apply = apply

    def redo(self) -> None:
        """Take the step."""
        self._apply(self.after)

    def undo(self) -> None:
        """Take the step back."""
        self._apply(self._before)

    def id(self) -> int:
        """Tell Qt that these commands may merge with each other."""
        return self.IDENTITY

    def mergeWith(self, other: QUndoCommand) -> bool:  # noqa: N802
        """Take over a later step of the same control."""
        if not isinstance(other, RecipeCommand) or self.key is None or other.key != self.key:
            return False
        self.after = other.after
        self.setObsolete(self._before == self.after)
        return True
