"""What choices of layers lose, alone and together, by the readings that there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from featherweight.engine.allocating.accuracy import AccuracyCurve, total
from featherweight.engine.allocating.candidates import Group, Option
from featherweight.engine.allocating.choice_table import alike
from featherweight.engine.errors import UserError
from featherweight.engine.readings import RecipeLoss, Spread
from featherweight.engine.recipe import Choice, Recipe


@dataclass(frozen=True)
class Losses:
    """Damages of all options; they add up after they are raised to `power`.

    `curve` says how the metric falls with the damage, None while too little is known.
    """

    options: Mapping[str, tuple[Option, ...]]
    groups: Sequence[Group]
    curve: AccuracyCurve | None
    power: float = 1.0

    def of(self, recipe: Recipe) -> RecipeLoss:
        """Return what a recipe is predicted to lose; of unread choices it names the layers."""
        alone = {name: self.alone(name, choice) for name, choice in recipe.layers.items()}
        damage = self.together([each for each in alone.values() if each is not None])
        unread = tuple(name for name, each in alone.items() if each is None)
        # What is left as it is loses nothing for sure.
        same = all(choice.empty for choice in recipe.layers.values())
        drop = Spread(0.0, 0.0) if same and self.curve else self.drop(damage)
        return RecipeLoss(damage=damage, drop=drop, unread=unread)

    def parts(self, recipe: Recipe) -> tuple[float, ...]:
        """Return what the choices of a recipe lose alone, unread ones nothing."""
        return tuple(self.alone(*each) or 0.0 for each in recipe.layers.items())

    def together(self, parts: Sequence[float]) -> float:
        """Return what choices are predicted to lose together."""
        return total(parts, self.power)

    def alone(self, name: str, choice: Choice) -> float | None:
        """Return what a choice of a layer loses alone; None where it was not read.

        What a group of layers loses is shared out among them.
        """
        own, damage = choice, 0.0
        for group in self.groups:
            for other, lost in zip(group.choices[1:], group.damages[1:], strict=True):
                if name in group.layers and other.structure == own.structure:
                    own, damage = own.replaced("structure", None), lost / len(group.layers)
        same = (each.damage for each in self.options.get(name, ()) if alike(each.choice, own))
        known = next(same, 0.0 if own.empty else None)
        return None if known is None else known + damage

    def milder(self, name: str, choice: Choice) -> Choice | None:
        """Return the smallest choice of a layer that loses at most half; None without one."""
        most = (self.alone(name, choice) or 0.0) / 2
        kept = [option for option in self.options.get(name, ()) if option.damage <= most]
        return min(kept, key=lambda option: option.cost.bits).choice if kept else None

    def drop(self, damage: float) -> Spread | None:
        """Return the predicted fall of the metric at a damage; None while too little is known."""
        return self.curve.drop(damage) if self.curve else None

    def damage_at(self, drop: float) -> float:
        """Return the damage at which the metric falls by so many points.

        Raises UserError while too little is known.
        """
        if self.curve is None:
            raise UserError(
                "Nothing is known yet of how the metric falls with the damage.",
                "Run the sweep to its end, or give a size.",
            )
        return self.curve.damage(drop)
