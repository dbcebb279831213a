"""Files written in one piece."""

import tempfile
from pathlib import Path

from featherweight.engine.errors import UserError


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one, never a part.

    Raises UserError where the folder is missing or cannot be written.
    """
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as partial:
            temporary = Path(partial.name)
            partial.write(content)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror}.", "Choose another folder."
        ) from error
