"""Files written in one piece or added to, and never over what is read."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from featherweight.engine.errors import UserError


def make_folder(path: Path) -> None:
    """Make a folder and those above it where they are missing. Raises UserError if it cannot."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The folder {path} cannot be made: {error.strerror}.", "Choose another one."
        ) from error


def check_target(path: Path, kept: Iterable[str]) -> None:
    """Raise UserError where no file can be put, or it would take the place of one of `kept`.

    `kept` are paths of what is read; empty ones and missing ones are passed over.
    """
    if not path.parent.is_dir():
        raise UserError(f"{path} cannot be written: its folder is missing.", "Choose another one.")
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no file that could be replaced.", "Choose another name.")
    for name in kept:
        if name and path.exists() and Path(name).exists() and path.samefile(name):
            raise UserError(
                f"{path} is read here: writing it would lose what it holds.",
                "Choose another name.",
            )


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one, never a part.

    Raises UserError where the folder is missing or cannot be written.
    """
    write_pieces(path, [content])


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file of several pieces, like `write_file`."""
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as partial:
            temporary = Path(partial.name)
            partial.writelines(pieces)
            partial.flush()
            os.fsync(partial.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)


def append(path: Path, content: bytes, keep: int | None = None) -> None:
    """Add to the end of a file at one stroke; the file is made where it is missing.

    With `keep` it first loses what lies behind so many bytes. Raises UserError where it cannot be
    written.
    """
    try:
        if keep is not None:
            os.truncate(path, keep)
        place = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(place, content)
        finally:
            os.close(place)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path} cannot be written: {error.strerror}.", "Choose another folder.")
