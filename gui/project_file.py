"""The project file: everything a person decided and got, as YAML that people can read."""

import itertools
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from msgspec import Struct
from PySide6.QtCore import QIODevice, QSaveFile

from featherweight.engine.errors import UserError
from featherweight.engine.events import Source, TaskSource
from featherweight.engine.recipe import Recipe, from_yaml, to_yaml
from featherweight.engine.results import Result
from featherweight.gui.holds import Holds

SUFFIX = ".featherweight"


class Unfinished(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run that was cancelled or interrupted, and how far it came."""

    name: str
    recipe: Recipe
    step: int = 0
    steps: int = 0


class Project(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A document on disk. Results' archives lie in the folder beside it."""

    version: Literal[1] = 1
    name: str
    source: Source
    task: TaskSource | None = None
    recipe: Recipe = Recipe()
    holds: Holds = Holds()
    unfinished: Unfinished | None = None
    results: tuple[Result, ...] = ()


def read_project(path: Path) -> Project:
    """Read a project. Raises UserError naming the file and, where one is damaged, the field."""
    try:
        text = path.read_bytes()
    except OSError as error:
        reason = error.strerror or "it is not readable"
        raise UserError(f"{path} cannot be opened: {reason}.", "Choose another file.") from error
    if not text.strip():
        raise UserError(f"{path} is empty.", "Open another project, or the network again.")
    return from_yaml(text, Project, str(path))


def lost_choices(project: Project, layers: Collection[str]) -> tuple[str, str, str] | None:
    """Return what to say where a project chose for layers that its network does not have."""
    lost = [name for name in project.recipe.layers if name not in layers]
    if not lost:
        return None
    return (
        f"{len(lost)} layers with choices are not in the network as it is now and are left out;"
        f" {lost[0]}, for one.",
        "Was the network replaced? The project is not written until you change something.",
        "\n".join(lost),
    )


def write_project(path: Path, project: Project) -> None:
    """Write a project so that either the old or the new file stands there. Raises UserError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, to_yaml(project).encode())


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that either the old or the new one stands there. Raises UserError."""
    file = QSaveFile(str(path))
    written = file.open(QIODevice.OpenModeFlag.WriteOnly) and file.write(data) == len(data)
    if not (written and file.commit()):
        raise UserError(
            f"{path} cannot be saved: {file.errorString()}.", "Save it in another folder."
        )


def results_folder(path: Path) -> Path:
    """Return the folder beside a project file that holds its results and checkpoints."""
    return path.with_name(f"{path.name.removesuffix(SUFFIX)}.results")


def free_path(folder: Path, stem: str) -> Path:
    """Return a path for a new project in `folder` that takes neither a file nor a folder."""
    stem = stem.replace(":", " ")
    for number in itertools.count(1):
        path = folder / f"{stem}{f' {number}' if number > 1 else ''}{SUFFIX}"
        if not (path.exists() or results_folder(path).exists()):
            return path
    raise AssertionError("counting never ends")
