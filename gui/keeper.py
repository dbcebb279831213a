"""Keeps the document on disk: a second after each change, at close, and under a new name."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QLockFile, QObject, QTimer, Signal

from featherweight.engine.errors import UserError
from featherweight.gui.project_file import (
    SUFFIX,
    Project,
    free_path,
    results_folder,
    write_project,
)

DELAY_MILLISECONDS = 1000


class Keeper(QObject):
    """Writes what `project` returns. An untitled project gets a file in `folder` of its own."""

    changed = Signal()  # the path, or whether something is unsaved
    failed = Signal(str, str)  # one sentence, hint

    def __init__(
        self, folder: Path, project: Callable[[], Project | None], parent: QObject
    ) -> None:
        super().__init__(parent)
        self.path: Path | None = None
        self.unsaved = False
        self._folder = folder
        self._project = project
        self._lock: QLockFile | None = None
        self._claimed: QLockFile | None = None
        self._delay = QTimer(self, singleShot=True, interval=DELAY_MILLISECONDS)
        self._delay.timeout.connect(self.save)

    @property
    def titled(self) -> bool:
        """Whether the person chose where the project lies."""
        return self.path is not None and self.path.parent != self._folder

    def begin(self, path: Path | None) -> None:
        """Keep another document from now on, untitled where it has no path."""
        self._delay.stop()
        if path is None or path != self.path or self._claimed is not None:
            self._lock = self._claimed
        self.path, self._claimed = path, None
        self._set_unsaved(False)

    def touch(self) -> None:
        """Note a change; it is written in about a second."""
        self._delay.start()
        self._set_unsaved(True)

    def placed(self, name: str) -> Path:
        """Return the path of the project, choosing one where it has none yet."""
        if self.path is None:
            self.path = free_path(self._folder, name)
            self._lock = _locked(self.path)
            self.changed.emit()
        return self.path

    def claim(self, path: Path) -> None:
        """Keep other windows from a project that is about to be opened.

        Raises UserError where one of them has it open.
        """
        self._claimed = None
        if path != self.path or self._lock is None:
            self._claimed = _locked(path)

    def release(self) -> None:
        """Let other windows open the project."""
        self._lock = self._claimed = None

    def save(self) -> None:
        """Write the project now if it changed."""
        self._delay.stop()
        project = self._project() if self.unsaved else None
        if project is None:
            self._set_unsaved(False)
            return
        try:
            write_project(self.placed(project.name), project)
        except (UserError, OSError) as error:
            self._report(error)
            return
        self._set_unsaved(False)

    def move(self, path: Path) -> None:
        """Keep the project under `path` from now on; what was untitled leaves nothing behind."""
        old, was_titled = self.path, self.titled
        path = path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX)
        try:
            lock = self._lock if path == old else _locked(path)
            if old is not None and old != path and results_folder(old).exists():
                shutil.copytree(
                    results_folder(old),
                    results_folder(path),
                    copy_function=_link_or_copy,
                    dirs_exist_ok=True,
                )
        except (UserError, OSError) as error:
            self._report(error)
            return
        self.path, self._lock = path, lock
        self._set_unsaved(True)
        self.save()
        if not self.unsaved and old is not None and old != path and not was_titled:
            shutil.rmtree(results_folder(old), ignore_errors=True)
            old.unlink(missing_ok=True)

    def _report(self, error: UserError | OSError) -> None:
        if isinstance(error, UserError):
            self.failed.emit(error.message, error.hint)
        else:
            self.failed.emit(
                f"{error.filename or 'The project'} cannot be written: {error.strerror or error}.",
                "Save the project in another folder.",
            )

    def _set_unsaved(self, unsaved: bool) -> None:
        self.unsaved = unsaved
        self.changed.emit()


def _locked(path: Path) -> QLockFile | None:
    """Return a lock on a project, None in a folder that takes none. Raises UserError if taken."""
    lock = QLockFile(str(path.with_name(f".{path.name}.lock")))
    lock.setStaleLockTime(0)
    if lock.tryLock(0):
        return lock
    if lock.error() == QLockFile.LockError.LockFailedError:
        raise UserError(f"{path} is open in another window.", "Go on there, or close it first.")
    return None


def _link_or_copy(source: str, target: str) -> str:
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
