"""Samples that two networks put into different classes, and pictures of those that are seen."""

from collections.abc import Iterable

from PySide6.QtCore import QObject, Signal

from featherweight.engine.events import (
    AnyEvent,
    Failed,
    FlipsFound,
    SamplesShown,
    TaskSummary,
)
from featherweight.engine.requests import ShowSamples
from featherweight.engine.results import Picture
from featherweight.gui.engine_client import EngineClient
from featherweight.gui.questions import NewestQuestion

ASKED_AT_ONCE = 100
MOST_KEPT = 4000
TELL_CLASSES = frozenset({"top1", "agreement"})


def has_classes(task: TaskSummary | None) -> bool:
    """Say whether the outputs that a task measures are classes."""
    return task is not None and bool(TELL_CLASSES & set(task.metrics))


class Flips(QObject):
    """The newest comparison of two networks.

    `pair` are the archives (before, after) that are compared, an empty one for the original; None
    before anything was asked. `found` is what came of it, None while it is awaited or where
    `failure` says why there is none. `pictures` are by sample, None of what is no image; those
    that were not asked for yet are missing.
    """

    changed = Signal()
    pictured = Signal()

    def __init__(self, client: EngineClient, parent: QObject) -> None:
        super().__init__(parent)
        self.pair: tuple[str, str] | None = None
        self.found: FlipsFound | None = None
        self.failure = ""
        self.pictures: dict[int, Picture | None] = {}
        self._asked: tuple[int, ...] = ()
        self._wanted: tuple[int, ...] = ()
        self._showing = NewestQuestion(client.send)

    @property
    def awaited(self) -> bool:
        """Whether a comparison is under way."""
        return self.pair is not None and self.found is None and not self.failure

    def begin(self, before: str, after: str) -> None:
        """Note what is compared now."""
        self.pair, self.found, self.failure = (before, after), None, ""
        self.changed.emit()

    def end(self, outcome: FlipsFound | Failed | None) -> None:
        """Take what a comparison gave; None where it was stopped."""
        match outcome:
            case FlipsFound():
                self.found = outcome
            case Failed(message=message, hint=hint):
                self.failure = f"{message} {hint}".rstrip()
            case None:
                self.pair = None
        self.changed.emit()

    def look(self, samples: Iterable[int]) -> None:
        """Ask for pictures of samples that have none yet; only the newest look matters."""
        self._wanted = tuple(samples)
        self._ask()

    def take(self, event: AnyEvent) -> bool:
        """Take pictures; False for any other event."""
        if not self._showing.answered(event.id):
            return False
        shown = event.pictures if isinstance(event, SamplesShown) else ()
        known = {picture.sample: picture for picture in shown}
        self.pictures.update((sample, known.get(sample)) for sample in self._asked)
        while len(self.pictures) > MOST_KEPT:
            del self.pictures[next(iter(self.pictures))]
        self._ask()
        self.pictured.emit()
        return True

    def forget(self) -> None:
        """Forget everything: another network or task is there."""
        self.pair = self.found = None
        self.failure, self.pictures, self._wanted = "", {}, ()
        self._showing.forget()
        self.changed.emit()

    def lose_engine(self) -> None:
        """Await no pictures any more; what was found stays."""
        self._showing.forget()
        self.pictured.emit()

    def _ask(self) -> None:
        missing = tuple(sample for sample in self._wanted if sample not in self.pictures)
        if missing and not self._showing.pending:
            self._asked = missing[:ASKED_AT_ONCE]
            self._showing.ask(ShowSamples(id=0, samples=self._asked))
