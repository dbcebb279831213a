"""Opening a network and its task: what was asked, what needs trust, what failed."""

from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct
from PySide6.QtCore import QObject, Signal

from featherweight.engine.events import (
    AnyEvent,
    Failed,
    Opened,
    Source,
    TaskReady,
    TaskSource,
    TrustNeeded,
    is_library_name,
)
from featherweight.engine.requests import OpenNetwork, SetTask
from featherweight.gui import wording
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.project_file import Project, read_project
from featherweight.gui.trust_memory import TrustMemory

S = TypeVar("S", Source, TaskSource)
NO_DATA = TaskSource(kind="fidelity")


class Attempt(Struct, frozen=True, kw_only=True):
    """A network to open with its task, and the project that it comes from, if any."""

    source: Source
    task: TaskSource = NO_DATA
    project: Project | None = None
    path: Path | None = None


def project_attempt(path: Path, network: Path | None) -> Attempt:
    """Return how to open a project: with its network where it lay, beside it, or at `network`.

    Raises UserError where the project cannot be read. The network may be missing.
    """
    project = read_project(path)
    known = Path(project.source.path)
    beside = path.parent / known.name
    found = network or (beside if beside.exists() and not known.exists() else known)
    source = msgspec.structs.replace(project.source, path=str(found))
    return Attempt(source=source, task=project.task or NO_DATA, project=project, path=path)


class Opening(QObject):
    """Asks the engine for a network and then for its task, one attempt at a time."""

    opened = Signal(object, object)  # Attempt, NetworkSummary
    task_read = Signal(object)  # TaskSummary
    trust_needed = Signal(object)  # TrustNeeded
    failed = Signal(object, str, str, str)  # Source, sentence, hint, details
    missing = Signal(object, str)  # path of a project, where its network lay
    noticed = Signal(str, str, str)  # sentence, hint, details
    busy_changed = Signal()

    def __init__(self, client: EngineClient, memory: TrustMemory, parent: QObject) -> None:
        super().__init__(parent)
        self.busy = ""
        self._client = client
        self._memory = memory
        self._attempt: Attempt | None = None
        self._task: TaskSource | None = None
        self._network_request = self._task_request = 0

    def open(self, attempt: Attempt) -> None:
        """Ask for a network; what a project wants trusted is trusted only where it is known."""
        foreign = attempt.project is not None
        source = self._trusted(attempt.source, attempt.source.path, foreign)
        task = self._trusted(attempt.task, attempt.task.data, foreign)
        self._attempt = msgspec.structs.replace(attempt, source=source, task=task)
        self._network_request = self._client.send(OpenNetwork(id=0, source=source))
        self._set_busy(f"Opening {Path(source.path).name}")

    def set_task(self, task: TaskSource) -> None:
        """Ask for the task's data."""
        task = self._trusted(task, task.data)
        self._task = task
        self._task_request = self._client.send(SetTask(id=0, task=task))
        self._set_busy(f"Reading {Path(task.data).name}" if task.data else "Making random inputs")

    def allow(self, needed: TrustNeeded) -> None:
        """Ask again with these modules trusted, and remember that they are."""
        if needed.id == self._network_request and self._attempt is not None:
            self._memory.allow(self._attempt.source.path, needed.names)
            self.open(self._attempt)
        elif needed.id == self._task_request and self._task is not None:
            self._memory.allow(self._task.data, needed.names)
            self.set_task(self._task)

    def refuse(self, needed: TrustNeeded) -> None:
        """Leave everything as it is."""
        if needed.id in (self._network_request, self._task_request):
            self._end()

    def take(self, event: AnyEvent) -> bool:
        """Take an event that answers what was asked here; False for any other."""
        if not event.id or event.id not in (self._network_request, self._task_request):
            return False
        match event:
            case Opened(network=network) if self._attempt is not None:
                attempt = self._attempt
                self._end()
                self.opened.emit(attempt, network)
                self.set_task(attempt.task)
            case TaskReady(task=summary):
                self._end()
                self.task_read.emit(summary)
            case TrustNeeded():
                self._set_busy("")
                self.trust_needed.emit(event)
            case Failed(message=message, hint=hint, details=details):
                self._fail(message, hint, details)
        return True

    def lose_engine(self) -> str:
        """Note that the engine died; returns what the person has to do again, empty for nothing."""
        if not (self._network_request or self._task_request):
            return ""
        again = "Open the file again" if self._network_request else "Choose the data again"
        self._end()
        return f"{again}: it was being read."

    def _fail(self, message: str, hint: str, details: str) -> None:
        attempt = self._attempt if self._network_request else None
        self._end()
        message, hint = wording.in_window(message), wording.in_window(hint)
        if attempt is None:
            self.noticed.emit(message, hint, details)
        elif attempt.path is not None and _is_gone(attempt.source.path):
            self.missing.emit(attempt.path, attempt.source.path)
        else:
            self.failed.emit(attempt.source, message, hint, details)

    def _end(self) -> None:
        self._attempt = self._task = None
        self._network_request = self._task_request = 0
        self._set_busy("")

    def _set_busy(self, busy: str) -> None:
        self.busy = busy
        self.busy_changed.emit()

    def _trusted(self, asked: S, file: str, foreign: bool = False) -> S:
        known: tuple[str, ...] = self._memory.known(file, asked.trust)
        given: tuple[str, ...] = () if foreign else asked.trust
        return msgspec.structs.replace(asked, trust=tuple(dict.fromkeys((*given, *known))))


def _is_gone(path: str) -> bool:
    return not (Path(path).exists() or is_library_name(path))
