"""The engine process as the window sees it: requests go in, events come out as signals."""

from pathlib import Path

from featherweight.engine.events import AnyRequest
from PySide6.QtCore import QObject, Signal


class EngineClient(QObject):
    """Starts the engine process, speaks its frames, and starts it again when it dies."""

    received = Signal(object)  # an event of engine.events
    started = Signal()
    died = Signal(str)  # one sentence
    log = Signal(str)  # what the engine printed

    def __init__(self, command: tuple[str, ...] = (), parent: QObject | None = None) -> None:
        super().__init__(parent)

    def send(self, request: AnyRequest) -> int:
        """Send a request under a new id, which is returned."""
        raise NotImplementedError
