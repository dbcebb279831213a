"""Inputs of a network as people write them: `1 × 3 × 224 × 224; mask = 1 × 16 : int64`."""

import msgspec

from featherweight.engine.errors import UserError
from featherweight.engine.events import Dtype, Source

DTYPES: tuple[Dtype, ...] = ("float32", "int64")
EXAMPLE = "Write it as 1 × 3 × 224 × 224, or with a name as mask = 1 × 16 : int64."


def with_inputs(source: Source, text: str, kind: Dtype) -> Source:
    """Return a source with the inputs of a text; `kind` is that of inputs which tell none.

    Raises UserError naming what cannot be read.
    """
    names, shapes, kinds = [], [], []
    for part in _parts(text):
        name, _, rest = part.rpartition("=")
        sides, _, own = rest.partition(":")
        names.append(name.strip())
        shapes.append(_shape(sides.strip()))
        kinds.append(_kind(own.strip(), part) if own.strip() else kind)
    return msgspec.structs.replace(
        source,
        input_shapes=tuple(shapes),
        input_dtypes=tuple(kinds),
        input_names=tuple(names) if any(names) else (),
    )


def inputs_to_text(source: Source) -> str:
    """Write the inputs of a source so that `with_inputs` reads the same."""
    first = source.input_dtypes[0] if source.input_dtypes else DTYPES[0]
    parts = []
    for place, shape in enumerate(source.input_shapes):
        name = source.input_names[place] if source.input_names else ""
        kind = source.input_dtypes[place] if source.input_dtypes else first
        sides = " × ".join(map(str, shape))
        parts.append(
            f"{f'{name} = ' if name else ''}{sides}{f' : {kind}' if kind != first else ''}"
        )
    return "; ".join(parts)


def values_from_text(text: str) -> tuple[tuple[str, float], ...]:
    """Read inputs that keep one value, such as `sr = 16000`. Raises UserError naming the part."""
    values = []
    for part in _parts(text):
        name, _, value = (piece.strip() for piece in part.rpartition("="))
        try:
            values.append((name, float(value)))
        except ValueError:
            name = ""
        if not name:
            raise UserError(f"{part} is no input with its value.", "Write it as sr = 16000.")
    return tuple(values)


def values_to_text(values: tuple[tuple[str, float], ...]) -> str:
    """Write values so that `values_from_text` reads the same."""
    return "; ".join(f"{name} = {value:.17g}" for name, value in values)


def _parts(text: str) -> list[str]:
    return [part for part in (piece.strip() for piece in text.split(";")) if part]


def _shape(text: str) -> tuple[int, ...]:
    sides = text.replace("×", " ").replace("x", " ").replace(",", " ").split()
    wrong = [side for side in sides if not side.isdecimal() or int(side) == 0]
    if wrong or not sides:
        named = wrong[0] if wrong else "Nothing"
        raise UserError(
            f"{named} in the input shape {text} is not a positive whole number.", EXAMPLE
        )
    return tuple(map(int, sides))


def _kind(text: str, part: str) -> Dtype:
    found = next((kind for kind in DTYPES if kind == text), None)
    if found is None:
        raise UserError(f"{text} in {part} is no kind of input.", f"Give {' or '.join(DTYPES)}.")
    return found
