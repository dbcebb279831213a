"""Networks that are called with names, dictionaries or nested inputs, made to take flat tensors.

Names are written like `mask`, a keyword or a key, or with what they lie in: `batch.mask`, `pair.0`.
"""

from collections.abc import Iterator, Mapping, Sequence
from inspect import Parameter, Signature, signature
from keyword import iskeyword
from typing import Any, get_origin

from torch import Tensor, nn

from featherweight.engine.errors import UserError

POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
SEVERAL = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)

# Where a tensor goes: a parameter of forward, then keys and positions inside it.
Path = tuple[str, ...]


def flattened(module: nn.Module, names: Sequence[str], count: int, path: str) -> nn.Module:
    """Let a module take its tensors one by one, in the order of their names; it is changed.

    `names` are those of `count` inputs, empty for what goes by its position. The module stays as
    it is where a plain call does. Raises UserError, telling what `forward` takes, where the inputs
    fit no call of it.
    """
    given = (*names, *[""] * (count - len(names)))[:count]
    try:
        known = signature(module.forward)
    except (TypeError, ValueError):
        return module
    if not any(given) and _takes(known, count):
        return module
    paths = _paths(given, known)
    if paths is None:
        raise UserError(
            f"{path}: its network takes {_told(known)}, not {_inputs(given)}.",
            "Give each input by its name, like --input name=1x16:int64; inside a dictionary or a "
            "tuple it is batch.name or pair.0.",
        )
    module.__class__ = _flat(type(module), paths, known)
    return module


def usable_names(told: Sequence[str]) -> list[str]:
    """Return the names that a file gives its inputs, others where Python cannot hold them."""
    plain = all(name.isidentifier() and not iskeyword(name) for name in told)
    usable = plain and len({*told}) == len(told)
    return list(told) if usable else [f"input_{at}" for at in range(len(told))]


def _takes(known: Signature, count: int) -> bool:
    try:
        known.bind(*range(count))
    except TypeError:
        return False
    return True


def _paths(given: Sequence[str], known: Signature) -> list[Path] | None:
    """Return where each input goes; None where they fit no call."""
    places = [name for name, one in known.parameters.items() if one.kind not in SEVERAL]
    if not any(given):
        # More tensors than parameters: a network that takes them in one tuple or list.
        alone = len(places) == 1
        return [(places[0], str(at)) for at in range(len(given))] if alone else None
    free = [name for name in places if name not in {one.partition(".")[0] for one in given}]
    paths: list[Path | None] = []
    for name in given:
        if not name and not free:
            return None
        paths.append((free.pop(0),) if not name else _known_path(name, known))
    needed = [name for name in free if known.parameters[name].default is Parameter.empty]
    whole = [name for name in needed or free if _takes_keys(known.parameters[name])]
    if None in paths and not whole:
        return None
    found = [path or (whole[0], name) for path, name in zip(paths, given, strict=True)]
    taken = {path[0] for path in found}
    complete = all(name in taken for name in needed) and len(set(found)) == len(found)
    return found if complete else None


def _known_path(name: str, known: Signature) -> Path | None:
    """Return the way to a tensor by its name, None where its first part is no parameter."""
    path = tuple(name.split("."))
    anything = any(one.kind == Parameter.VAR_KEYWORD for one in known.parameters.values())
    one = known.parameters.get(path[0])
    return path if (one is not None and one.kind not in SEVERAL) or anything else None


def _flat(kind: type[nn.Module], paths: Sequence[Path], known: Signature) -> type[nn.Module]:
    """Return a subclass whose `forward` takes flat tensors, under names that Python can hold."""
    inner: Any = kind.forward

    def forward(self: nn.Module, *tensors: Tensor) -> Any:
        nested: dict[str, Any] = {}
        for path, tensor in zip(paths, tensors, strict=True):
            _put(nested, path, tensor)
        keywords = {name: _whole(value, known, name) for name, value in nested.items()}
        leading = [
            keywords.pop(name)
            for name, one in known.parameters.items()
            if one.kind == Parameter.POSITIONAL_ONLY and name in keywords
        ]
        return inner(self, *leading, **keywords)

    parameters = [Parameter(name, POSITIONAL[1]) for name in ("self", *_names(paths))]
    forward.__dict__["__signature__"] = Signature(parameters)
    members = {
        "forward": forward,
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
    }
    return type(kind.__name__, (kind,), members)


def _put(nested: dict[str, Any], path: Path, tensor: Tensor) -> None:
    for part in path[:-1]:
        nested = nested.setdefault(part, {})
    nested[path[-1]] = tensor


def _whole(value: Any, known: Signature, name: str) -> Any:
    """Turn what has only numbers for keys into a tuple, or the list that `forward` asks for."""
    if not isinstance(value, dict):
        return value
    inner = {key: _whole(part, known, "") for key, part in value.items()}
    if not all(key.isdecimal() for key in inner):
        return inner
    ordered = [inner[key] for key in sorted(inner, key=int)]
    one = known.parameters.get(name)
    kind = one.annotation if one else None
    as_list = kind is list or get_origin(kind) is list or str(kind).lower().startswith("list")
    return ordered if as_list else tuple(ordered)


def _names(paths: Sequence[Path]) -> Iterator[str]:
    """Give each tensor its last name where that is one name alone, else all of them."""
    last = [path[-1] for path in paths]
    for path in paths:
        plain = path[-1].isidentifier() and last.count(path[-1]) == 1
        name = path[-1] if plain else "_".join(path)
        yield "".join(letter if letter.isalnum() else "_" for letter in name)


def _told(known: Signature) -> str:
    """Return the arguments of a call in the words of Python, without what they return."""
    parameters = [
        one if _is_mapping(one.annotation) else one.replace(annotation=Parameter.empty)
        for one in known.parameters.values()
    ]
    told = str(known.replace(parameters=parameters, return_annotation=Signature.empty))
    return f"forward{told[:200]}"


def _takes_keys(one: Parameter) -> bool:
    """Say whether a parameter takes a dictionary, as far as one can tell."""
    untold = one.annotation is Parameter.empty and one.default is Parameter.empty
    return untold or _is_mapping(one.annotation)


def _is_mapping(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return annotation.lower().rpartition(".")[2].startswith(("dict", "mapping"))
    kind = get_origin(annotation) or annotation
    return isinstance(kind, type) and issubclass(kind, Mapping)


def _inputs(given: Sequence[str]) -> str:
    named = [name for name in given if name]
    if named:
        return f"the inputs {', '.join(name or 'one without a name' for name in given)}"
    return "1 input" if len(given) == 1 else f"{len(given)} inputs"
