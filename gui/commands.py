"""Changes of the recipe: computed as plain data, kept as commands that can be undone."""

from collections.abc import Callable

import msgspec
from featherweight.engine.layer import Layer
from featherweight.engine.options import Slot
from featherweight.engine.recipe import Choice, Recipe, Setting
from msgspec import Struct
from PySide6.QtGui import QUndoCommand

COUPLED_METHOD = "channel_pruning"


class Change(Struct, frozen=True):
    """A recipe after an edit, the layers that took it, and the reasons of those that did not."""

    recipe: Recipe
    changed: tuple[str, ...]
    refused: dict[str, str]


def with_setting(
    layers: dict[str, Layer],
    recipe: Recipe,
    names: tuple[str, ...],
    slot: Slot,
    setting: Setting | None,
) -> Change:
    """Give `setting` to the named layers in one slot, None to clear it.

    Layers that lose channels together get and lose channel pruning together. A layer that the
    method cannot take is left alone and listed with its reason.
    """
    refused: dict[str, str] = {}
    choices = dict(recipe.layers)
    changed: list[str] = []
    for name, given in _wanted(layers, recipe, names, slot, setting).items():
        lock = layers[name].locks.get(given.method) if given else None
        if lock is not None:
            if name in names:
                refused[name] = lock
            continue
        choice = recipe.choice(name).replaced(slot, given)
        if choice != recipe.choice(name):
            changed.append(name)
            choices[name] = choice
    kept = {name: choices[name] for name in layers if not choices.get(name, Choice()).empty}
    return Change(msgspec.structs.replace(recipe, layers=kept), tuple(changed), refused)


def without_choices(recipe: Recipe, names: tuple[str, ...]) -> Recipe:
    """Return the recipe without what the named layers were given."""
    kept = {name: choice for name, choice in recipe.layers.items() if name not in set(names)}
    return msgspec.structs.replace(recipe, layers=kept)


def _wanted(
    layers: dict[str, Layer],
    recipe: Recipe,
    names: tuple[str, ...],
    slot: Slot,
    setting: Setting | None,
) -> dict[str, Setting | None]:
    wanted: dict[str, Setting | None] = {}
    prunes = setting is not None and setting.method == COUPLED_METHOD
    for name in names:
        if name not in layers:
            continue
        for partner in layers[name].coupled:
            if partner not in layers:
                continue
            if prunes and COUPLED_METHOD not in layers[name].locks:
                wanted.setdefault(partner, setting)
            elif _is_pruned(recipe, name) and _is_pruned(recipe, partner) and slot == "structure":
                wanted.setdefault(partner, None)
    wanted.update((name, setting) for name in names if name in layers)
    return wanted


def _is_pruned(recipe: Recipe, name: str) -> bool:
    structure = recipe.choice(name).structure
    return structure is not None and structure.method == COUPLED_METHOD


class RecipeCommand(QUndoCommand):
    """One step from a recipe to the next. Steps with the same `key` that follow each other merge.

    The key names the control that was moved; None keeps the step on its own.
    """

    IDENTITY = 1

    def __init__(
        self,
        text: str,
        before: Recipe,
        after: Recipe,
        apply: Callable[[Recipe], None],
        key: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(text)
        self.before = before
        self.after = after
        self.key = key
        self._apply = apply

    def redo(self) -> None:
        self._apply(self.after)

    def undo(self) -> None:
        self._apply(self.before)

    def id(self) -> int:
        return self.IDENTITY

    def mergeWith(self, other: QUndoCommand) -> bool:  # noqa: N802
        if not isinstance(other, RecipeCommand) or self.key is None or other.key != self.key:
            return False
        self.after = other.after
        self.setObsolete(self.before == self.after)
        return True
