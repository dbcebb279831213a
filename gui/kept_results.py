"""The results of a project as they are named and thrown away, with their archives on disk."""

import itertools
import shutil
from pathlib import Path

import msgspec

from featherweight.engine.errors import UserError
from featherweight.engine.results import Result

Results = tuple[Result, ...]


def free_name(results: Results) -> str:
    """Return a name for the next run that no result has."""
    taken = {result.name for result in results}
    numbers = itertools.count(len(results) + 1)
    return next(name for name in map("Run {}".format, numbers) if name not in taken)


def renamed(results: Results, place: int, name: str) -> Results:
    """Return the results with the one at `place` under another name."""
    changed = msgspec.structs.replace(results[place], name=name)
    return (*results[:place], changed, *results[place + 1 :])


def deleted(results: Results, place: int, folder: Path) -> Results:
    """Return the results without the one at `place`, whose archive in `folder` is deleted.

    The archive stays where another result uses it. Raises UserError where it cannot be deleted;
    then the result stays too.
    """
    archive = results[place].archive
    left = (*results[:place], *results[place + 1 :])
    if all(result.archive != archive for result in left):
        try:
            (folder / archive).unlink(missing_ok=True)
        except OSError as error:
            raise UserError(
                f"{folder / archive} cannot be deleted: {error.strerror}.",
                "Close what holds the file open, or change its permissions.",
            ) from error
    return left


def drop_checkpoints(folder: Path) -> None:
    """Delete the checkpoints of runs that nobody wants to go on with; what cannot go stays."""
    for checkpoint in folder.glob("*.checkpoint"):
        shutil.rmtree(checkpoint, ignore_errors=True)
