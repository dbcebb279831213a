"""Files written in one piece."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from featherweight.engine.errors import UserError


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
        if temporary:
            temporary.unlink(missing_ok=True)
        raise UserError(
            f"{path} cannot be written: {error.strerror}.", "Choose another folder."
        ) from error
