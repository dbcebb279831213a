"""All methods, found by looking into the slots' folders: a new method is one new file."""

import importlib
import pkgutil
from functools import cache

from featherweight.engine.errors import UserError
from featherweight.engine.methods.method import Method
from featherweight.engine.options import SLOTS, build
from featherweight.engine.recipe import Setting


@cache
def methods() -> dict[str, type[Method]]:
    """Return every method by name, by slot in the order of application, then by title."""
    found = []
    for slot in SLOTS:
        package = importlib.import_module(f"featherweight.engine.methods.{slot}")
        kinds = []
        for module_info in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{package.__name__}.{module_info.name}")
            kinds += [
                value
                for value in vars(module).values()
                if isinstance(value, type)
                and issubclass(value, Method)
                and value.__module__ == module.__name__
            ]
        found += sorted(kinds, key=lambda kind: kind.title)
    return {kind.name: kind for kind in found}


def method_of(setting: Setting, where: str) -> Method:
    """Make the method that a setting names, its options checked.

    Raises UserError naming `where` the setting stands, the option and what is allowed.
    """
    kind = methods().get(setting.method)
    if kind is None:
        known = ", ".join(methods())
        raise UserError(f"{where}: there is no method {setting.method!r}.", f"Use one of: {known}.")
    return build(kind, setting.options, where)
