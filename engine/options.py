"""Options described once: from the description come validation, controls, help and sweep grids."""

import inspect
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from featherweight.engine.errors import UserError, field_mistake

T = TypeVar("T", bound=Struct)
Scalar = bool | int | float | str
Retraining = Literal["needed", "helps", "none"]
Slot = Literal["structure", "sparsity", "precision", "coding"]
SLOTS: tuple[Slot, ...] = get_args(Slot)


class Option(Struct, frozen=True, kw_only=True):
    """One control: a number in a range, one of several words, a switch, or a text."""

    name: str
    title: str
    help: str
    kind: Literal["integer", "number", "choice", "switch", "text"]
    default: Scalar
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Scalar, ...] = ()


class MethodDescription(Struct, frozen=True, kw_only=True):
    """What a front end must know of a method: its words, its controls, what it really gains.

    In `label`, a name for little room, {} stands for the value of the option `strength`. `retrain`
    says whether the method is worth nothing without training, better with it, or does without.
    """

    name: str
    slot: Slot
    title: str
    advice: str
    gain: Literal["file", "file and speed"]
    strength: str
    options: tuple[Option, ...]
    label: str = ""
    retrain: Retraining = "helps"


def number(title: str, help: str, minimum: float, maximum: float, unit: str = "") -> Meta:  # noqa: A002
    """Return the annotation of a number or integer option with its inclusive range."""
    return Meta(title=title, description=help, ge=minimum, le=maximum, extra={"unit": unit})


def words(title: str, help: str) -> Meta:  # noqa: A002
    """Return the annotation of an option that is a `Literal`, a `bool` or a `str`."""
    return Meta(title=title, description=help, extra={"unit": ""})


def describe(kind: type[Struct], *names: str) -> tuple[Option, ...]:
    """Return the options of a Struct, of the named fields only where some are named.

    The fields are annotated and have defaults. Those of a base come first, but what the class names
    again stands in its own order.
    """
    hints = get_type_hints(kind, include_extras=True)
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    own = [name for name in inspect.get_annotations(kind) if name in fields]
    return tuple(
        _option(name, hints[name], fields[name].default)
        for name in (*(name for name in fields if name not in own), *own)
        if not names or name in names
    )


def build(kind: type[T], options: dict[str, Scalar], where: str) -> T:
    """Make `kind` from loose options; a wrong key or value is refused with its path below `where`.

    Raises UserError in the words of the option: its path, the value and what is allowed.
    """
    try:
        return msgspec.convert(options, kind, strict=True)
    except msgspec.ValidationError as error:
        field, wrong = field_mistake(error)
        place = f"{where}, field {field}" if field else where
        raise UserError(f"{place}: {wrong}.", _allowed(kind)) from error


def _option(name: str, hint: Any, default: Scalar) -> Option:
    base, meta = get_args(hint)[:2] if get_origin(hint) is Annotated else (hint, None)
    if not isinstance(meta, Meta):
        raise TypeError(f"option {name} needs Annotated[..., number(...)] or words(...)")
    choices = get_args(base) if get_origin(base) is Literal else ()
    kinds: dict[Any, Literal["integer", "number", "choice", "switch", "text"]]
    kinds = {bool: "switch", int: "integer", float: "number", str: "text"}
    return Option(
        name=name,
        title=meta.title or name,
        help=meta.description or "",
        kind="choice" if choices else kinds[base],
        default=default,
        unit=(meta.extra or {}).get("unit", ""),
        minimum=meta.ge,
        maximum=meta.le,
        choices=choices,
    )


def _allowed(kind: type[Struct]) -> str:
    parts = []
    for option in describe(kind):
        if option.choices:
            parts.append(f"{option.name} is one of {', '.join(map(str, option.choices))}")
        elif option.minimum is not None:
            parts.append(f"{option.name} is between {option.minimum:g} and {option.maximum:g}")
        else:
            parts.append(f"{option.name} is {'text' if option.kind == 'text' else 'true or false'}")
    return f"Allowed: {'; '.join(parts)}." if parts else "It takes no options."
