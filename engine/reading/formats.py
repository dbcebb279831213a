"""Which format a file has, and the network that is in it."""

import importlib
import pkgutil
from functools import cache
from pathlib import Path
from typing import Protocol

from featherweight.engine import reading
from featherweight.engine.errors import UserError
from featherweight.engine.events import Source, is_library_name
from featherweight.engine.network import Network
from featherweight.engine.reading.library import read_library


class Format(Protocol):
    """A module of this folder that can open one kind of file."""

    SUFFIXES: tuple[str, ...]

    def matches(self, path: Path) -> bool:
        """Say by the first bytes, or by the members of a zip, whether a file has the format."""

    def read(self, source: Source) -> Network:
        """Open the file without running anything of it. Raises UserError, TrustNeededError."""


@cache
def formats() -> tuple[Format, ...]:
    """Return every format, found by looking into this folder: a new format is one new file."""
    names = sorted(info.name for info in pkgutil.iter_modules(reading.__path__))
    modules = [importlib.import_module(f"{reading.__name__}.{name}") for name in names]
    return tuple(module for module in modules if hasattr(module, "matches"))


def read_network(source: Source) -> Network:
    """Open a network file of any format: by its content, else by its suffix.

    Nothing that the file holds is run. Raises UserError naming the file and the mend, and
    TrustNeededError where the network needs code that `source.trust` does not allow.
    """
    if is_library_name(source.path):
        return read_library(source)
    path = Path(source.path)
    _check_readable(path)
    found = [kind for kind in formats() if kind.matches(path)]
    found += [kind for kind in formats() if path.suffix.lower() in kind.SUFFIXES]
    if not found:
        known = ", ".join(sorted({suffix for kind in formats() for suffix in kind.SUFFIXES}))
        raise UserError(
            f"{path} is no network file that Featherweight knows.", f"It opens {known}."
        )
    return found[0].read(source)


def _check_readable(path: Path) -> None:
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder.", "Name the network file inside it.")
        with path.open("rb") as file:
            empty = not file.read(1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"{path} cannot be read: {reason}.", "Check the path and the permissions."
        ) from error
    if empty:
        raise UserError(f"{path} is empty.", "Save or download the network again.")
