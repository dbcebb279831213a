"""What is said of a layer's methods: what it is locked for and why, and what was chosen for it."""

from collections.abc import Iterable, Iterator

from featherweight.engine.layer import Layer
from featherweight.engine.options import SLOTS, MethodDescription
from featherweight.engine.recipe import Choice, Setting
from featherweight.gui import wording


class LayerWords:
    """Words made with the titles of the methods that the engine has."""

    def __init__(self, methods: Iterable[MethodDescription] = ()) -> None:
        self._methods = {method.name: method for method in methods}
        self._slots = {
            slot: frozenset(m.name for m in self._methods.values() if m.slot == slot)
            for slot in SLOTS
        }

    def is_locked(self, layer: Layer) -> bool:
        """Whether no method can take the layer."""
        return bool(self._methods) and self._methods.keys() <= layer.locks.keys()

    def lock_reasons(self, layer: Layer) -> tuple[str, ...]:
        """Return what to say of locked slots: one sentence for every reason, once."""
        found: dict[str, list[str]] = {}
        for slot, methods in self._slots.items():
            if methods and methods <= layer.locks.keys():
                title = wording.SLOT_TITLES[slot]
                for method in methods:
                    titles = found.setdefault(layer.locks[method], [])
                    if title not in titles:
                        titles.append(title)
        pruning = layer.locks.get("channel_pruning")
        if pruning is not None and pruning not in found:
            found[pruning] = [self.title("channel_pruning")]
        return tuple(f"{', '.join(titles)}: {reason}" for reason, titles in found.items())

    def chips(self, choice: Choice) -> tuple[str, ...]:
        """Return the chosen methods in few letters, in the order of the slots."""
        return tuple(self._chip(setting) for setting in _settings(choice))

    def chosen(self, choice: Choice) -> tuple[str, ...]:
        """Return the titles of the chosen methods with their strengths, in the same order."""
        return tuple(self._titled(setting) for setting in _settings(choice))

    def title(self, method: str) -> str:
        """Return the title of a method by its name."""
        known = self._methods.get(method)
        return known.title if known else method.replace("_", " ")

    def _chip(self, setting: Setting) -> str:
        method = self._methods.get(setting.method)
        if method is None or not method.label:
            return self._titled(setting)
        return method.label.replace("{}", self._strength(setting)).strip()

    def _titled(self, setting: Setting) -> str:
        return f"{self.title(setting.method)} {self._strength(setting)}".strip()

    def _strength(self, setting: Setting) -> str:
        method = self._methods.get(setting.method)
        options = method.options if method else ()
        option = next((o for o in options if method and o.name == method.strength), None)
        if option is None:
            return ""
        return wording.scalar(setting.options.get(option.name, option.default), option.unit)


def _settings(choice: Choice) -> Iterator[Setting]:
    for slot in SLOTS:
        setting = choice.setting(slot)
        if setting is not None:
            yield setting
