"""A recipe: what to do with every layer and how to recover, as a file that people can read."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from featherweight.engine.errors import UserError, field_mistake
from featherweight.engine.options import SLOTS, Scalar, Slot, number, words
from featherweight.engine.trainings import FineTuning, Preparation, Reconstruction

T = TypeVar("T")


class Setting(Struct, frozen=True, forbid_unknown_fields=True):
    """A method by name with its options; options left out take their defaults."""

    method: str
    options: dict[str, Scalar] = {}


class Choice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one layer gets, at most one method in each slot, always applied in this order."""

    structure: Setting | None = None
    sparsity: Setting | None = None
    precision: Setting | None = None
    coding: Setting | None = None

    def setting(self, slot: Slot) -> Setting | None:
        """Return what the slot holds."""
        value: Setting | None = getattr(self, slot)
        return value

    def replaced(self, slot: Slot, setting: Setting | None) -> "Choice":
        """Return this choice with one slot changed."""
        return msgspec.structs.replace(self, **{slot: setting})

    @property
    def empty(self) -> bool:
        """Whether no slot is taken."""
        return all(self.setting(slot) is None for slot in SLOTS)


class Recipe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All choices of a network by layer name, how to recover, and the seed that fixes the run.

    `preparation` trains before anything is compressed, `reconstruction` layer by layer after it,
    `recovery` the whole network in the end. Methods that ask the data look at the first
    `calibration` samples of the recovery data.
    """

    version: Literal[1] = 1
    layers: dict[str, Choice] = {}
    preparation: Preparation | None = None
    reconstruction: Reconstruction | None = None
    recovery: FineTuning | None = None
    calibration: Annotated[
        int,
        number("Calibration samples", "Recovery samples on which methods measure.", 1, 1_000_000),
    ] = 1024
    side_bits: Annotated[
        Literal[32, 16],
        words(
            "Biases and scales",
            "Bits of each in chosen layers, and in batch norms after them, of which then only a "
            "factor and a summand stay. 16 save half or more of what these take in the file and "
            "change next to nothing; layers whose numbers 16 bits would not hold well keep 32.",
        ),
    ] = 32
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0

    def choice(self, layer: str) -> Choice:
        """Return the choice of a layer, empty where there is none."""
        return self.layers.get(layer, Choice())

    def with_choice(self, layer: str, choice: Choice) -> "Recipe":
        """Return this recipe with the choice of one layer changed; an empty choice is dropped."""
        layers = {name: kept for name, kept in self.layers.items() if name != layer}
        if not choice.empty:
            layers[layer] = choice
        return msgspec.structs.replace(self, layers=layers)


def recipe_from_yaml(text: str | bytes, where: str) -> Recipe:
    """Read a recipe from YAML or JSON. Raises UserError with `where` and the path of the field."""
    loaded = loaded_yaml(text, where)
    layers = loaded.get("layers") if isinstance(loaded, dict) else None
    for name, choice in layers.items() if isinstance(layers, dict) else ():
        # One by one, because the path of a mistake inside a dictionary does not name its key.
        from_builtins(choice, Choice, f"{where}, layer {name}")
    return from_builtins(loaded, Recipe, where)


def recipe_to_yaml(recipe: Recipe) -> str:
    """Write a recipe as YAML with its layers in their own order; reading it gives an equal one."""
    return to_yaml(recipe)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file (YAML or JSON). Raises UserError naming the file and the field."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}.", "Name a recipe file."
        ) from error
    return recipe_from_yaml(text, str(path))


def from_yaml(text: str | bytes, kind: type[T], where: str) -> T:
    """Read plain data of `kind` from YAML or JSON. Raises UserError with `where` and the field."""
    return from_builtins(loaded_yaml(text, where), kind, where)


def loaded_yaml(text: str | bytes, where: str) -> Any:
    """Read YAML or JSON into dictionaries and lists. Raises UserError with `where`."""
    try:
        return msgspec.yaml.decode(text)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        at = re.search(r"line \d+", str(error))
        raise UserError(
            f"{where} is not valid YAML or JSON{f' ({at[0]})' if at else ''}.",
            "Mend it in a text editor, or write it again.",
        ) from error


def from_builtins(loaded: Any, kind: type[T], where: str) -> T:
    """Convert dictionaries and lists to `kind`. Raises UserError with `where` and the field."""
    try:
        return msgspec.convert(loaded, kind)
    except msgspec.ValidationError as error:
        field, wrong = field_mistake(error)
        place = f"{where}, field {field}" if field else where
        raise UserError(f"{place}: {wrong}.", "Mend that field or leave it out.") from error


def to_yaml(value: Struct) -> str:
    """Write plain data as YAML in the order of its fields."""
    return msgspec.yaml.encode(value).decode()
