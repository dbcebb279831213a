"""What a person keeps allocations from: layers that keep their choice or none, and methods."""

from collections.abc import Callable, Collection
from typing import Literal

import msgspec
from msgspec import Struct
from PySide6.QtGui import QUndoCommand

from featherweight.engine.readings import AllocationRules
from featherweight.engine.recipe import Recipe

Hold = Literal["kept", "left"]


class Holds(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """`kept` layers keep the choice that they have, `left` ones stay as they are in the source.

    Where `methods` is not empty, allocations use only these.
    """

    kept: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing is held."""
        return self == Holds()

    def of(self, layer: str) -> Hold | None:
        """Return how a layer is held, None for one that allocations may change."""
        if layer in self.kept:
            return "kept"
        return "left" if layer in self.left else None

    def held(self, names: Collection[str], hold: Hold | None) -> "Holds":
        """Return these holds with some layers held so, None to let allocations change them."""
        kept = tuple(name for name in self.kept if name not in names)
        left = tuple(name for name in self.left if name not in names)
        return msgspec.structs.replace(
            self,
            kept=(*kept, *names) if hold == "kept" else kept,
            left=(*left, *names) if hold == "left" else left,
        )

    def among(self, layers: Collection[str]) -> "Holds":
        """Return these holds without layers that are not in a network."""
        return msgspec.structs.replace(
            self,
            kept=tuple(name for name in self.kept if name in layers),
            left=tuple(name for name in self.left if name in layers),
        )

    def rules(self, recipe: Recipe) -> AllocationRules:
        """Return what allocations must leave alone, with the choices of a recipe."""
        return AllocationRules(
            fixed={name: recipe.choice(name) for name in self.kept},
            excluded=self.left,
            methods=self.methods,
        )


class HoldsCommand(QUndoCommand):
    """One step from holds to the next."""

    def __init__(
        self, text: str, before: Holds, after: Holds, apply: Callable[[Holds], None]
    ) -> None:
        super().__init__(text)
        self._before, self._after = before, after
        self._apply = apply

    def redo(self) -> None:
        """Take the step."""
        self._apply(self._after)

    def undo(self) -> None:
        """Take the step back."""
        self._apply(self._before)
