"""Choices that differ in their strengths alone, put together: one curve, one map of a sweep."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from featherweight.engine.options import SLOTS, MethodDescription, Option, Scalar
from featherweight.engine.recipe import Choice, Setting
from featherweight.gui import wording
from featherweight.gui.atlas_readings import ChoiceKey, SettingKey

STEPS = 6
# Whole numbers up to so many are all on offer; a wider range has steps of magnitudes.
MOST_WHOLE, WIDE = 16, 100


@dataclass(frozen=True)
class Family:
    """Choices of the same methods in the order of their strengths.

    `values` are the strengths as numbers, or places where they are none; `strength` names them.
    """

    title: str
    strength: str
    keys: tuple[ChoiceKey, ...]
    values: tuple[float, ...]
    labels: tuple[str, ...]


class SweepFamilies:
    """Puts choices together by what the methods say of themselves."""

    def __init__(self, methods: Iterable[MethodDescription] = ()) -> None:
        self._methods = {method.name: method for method in methods}

    def of(self, choices: Mapping[ChoiceKey, Choice]) -> tuple[Family, ...]:
        """Return the families of choices, in the order of slots and titles."""
        groups: dict[ChoiceKey, list[ChoiceKey]] = {}
        for key in choices:
            groups.setdefault(tuple(self._without_strength(one) for one in key), []).append(key)
        titles = [" + ".join(self._title(name) for _, name, _ in group) for group in groups]
        made = []
        for (group, keys), title in zip(groups.items(), titles, strict=True):
            extras = ", ".join(_extra(*pair) for _, _, options in group for pair in options)
            shared = titles.count(title) > 1 and extras
            family = self._family(f"{title} ({extras})" if shared else title, keys)
            made.append(([SLOTS.index(slot) for slot, _, _ in group], family))
        made.sort(key=lambda pair: (len(pair[0]), pair[0], pair[1].title))
        return tuple(family for _, family in made)

    def _family(self, title: str, keys: list[ChoiceKey]) -> Family:
        ranked = [([_rank(self._strength(one)) for one in key], key) for key in keys]
        ranked.sort(key=lambda pair: pair[0])
        numbers = [ranks[0][1] for ranks, _ in ranked]
        scaled = len(set(numbers)) == len(numbers) and all(len(key) == 1 for _, key in ranked)
        options = [self._option(name) for _, name, _ in ranked[0][1]]
        return Family(
            title=title,
            strength=" and ".join(option.title for option in options if option),
            keys=tuple(key for _, key in ranked),
            values=tuple(numbers if scaled else map(float, range(len(numbers)))),
            labels=tuple(self._label(key) or title for _, key in ranked),
        )

    def _label(self, key: ChoiceKey) -> str:
        values = [self._strength(one) for one in key]
        return ", ".join(wording.scalar(value) for value in values if value is not None)

    def _option(self, name: str) -> Option | None:
        method = self._methods.get(name)
        return strength_of(method) if method else None

    def _strength(self, setting: SettingKey) -> Scalar | None:
        _, name, options = setting
        option = self._option(name)
        return dict(options).get(option.name, option.default) if option else None

    def _without_strength(self, setting: SettingKey) -> SettingKey:
        slot, name, options = setting
        option = self._option(name)
        return slot, name, tuple(pair for pair in options if not option or pair[0] != option.name)

    def _title(self, name: str) -> str:
        method = self._methods.get(name)
        return method.title if method else name.replace("_", " ")


def strength_of(method: MethodDescription) -> Option | None:
    """Return the option that is a method's strength, None where it has none."""
    return next((one for one in method.options if one.name == method.strength), None)


def strengths_of(method: MethodDescription) -> tuple[Scalar, ...]:
    """Return strengths of a method to choose from; none where it has no strength."""
    option = strength_of(method)
    if option is None:
        return ()
    if option.choices or option.kind == "switch":
        return option.choices or (False, True)
    low = option.minimum or 0.0
    high = 1.0 if option.maximum is None else option.maximum
    if option.kind == "integer" and high - low <= MOST_WHOLE:
        return tuple(range(round(low), round(high) + 1))
    if low > 0 and high / low >= WIDE:
        spread = [low * (high / low) ** (step / STEPS) for step in range(STEPS + 1)]
    else:
        spread = [low + (high - low) * step / STEPS for step in range(1, STEPS)]
    whole = option.kind == "integer"
    return tuple(dict.fromkeys(round(one) if whole else float(f"{one:.2g}") for one in spread))


def choice_of(method: MethodDescription, strength: Scalar | None) -> Choice:
    """Return the choice of one method at a strength, None for a method without."""
    options = {} if strength is None else {method.strength: strength}
    return Choice().replaced(method.slot, Setting(method.name, options))


def _rank(value: Scalar | None) -> tuple[str, float]:
    """Return what sorts strengths: words by their letters, numbers by their size."""
    return (value, 0.0) if isinstance(value, str) else ("", float(value or 0.0))


def _extra(name: str, value: Scalar) -> str:
    return f"{name.replace('_', ' ')} {wording.scalar(value)}"
