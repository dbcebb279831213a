"""What else a person might do with a budget: one choice everywhere, or one family of methods."""

from collections.abc import Iterator, Mapping

import msgspec

from featherweight.engine.allocating.candidates import Option
from featherweight.engine.allocating.choice_table import alike, methods_of
from featherweight.engine.readings import AllocationRules
from featherweight.engine.recipe import Choice


def families(
    options: Mapping[str, tuple[Option, ...]], rules: AllocationRules
) -> Iterator[AllocationRules]:
    """Give rules that leave only one method, for each of several that the given rules leave."""
    methods = _methods(options, rules)
    if len(methods) > 1:
        yield from (msgspec.structs.replace(rules, methods=(name,)) for name in sorted(methods))


def uniform(
    options: Mapping[str, tuple[Option, ...]], rules: AllocationRules
) -> Iterator[AllocationRules]:
    """Give rules of one choice everywhere, for each choice that the given rules leave.

    What they hold stays held; layers that cannot take the choice stay as they are.
    """
    methods, held = _methods(options, rules), {*rules.fixed, *rules.excluded}
    every = [option.choice for own in options.values() for option in own]
    kinds = {repr(plain): plain for each in every if not (plain := _plain(each)).empty}
    for kind in kinds.values():
        if not methods_of(kind) <= methods:
            continue
        taken = {
            name: kind
            for name, own in options.items()
            if name not in held and any(alike(option.choice, kind) for option in own)
        }
        left = tuple(name for name in options if name not in held and name not in taken)
        fixed, excluded = rules.fixed | taken, (*rules.excluded, *left)
        yield msgspec.structs.replace(rules, fixed=fixed, excluded=excluded)


def _methods(options: Mapping[str, tuple[Option, ...]], rules: AllocationRules) -> set[str]:
    found = {
        name
        for own in options.values()
        for option in own
        for name in methods_of(_plain(option.choice))
    }
    return found & set(rules.methods) if rules.methods else found


def _plain(choice: Choice) -> Choice:
    return choice.replaced("coding", None)
