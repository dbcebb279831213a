"""What becomes of an unexpected error in the window: a sentence, the details, and a log file."""

import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from PySide6.QtCore import QObject, Signal

LARGEST_LOG = 1_000_000


class CrashReport(QObject):
    """Takes the place of Python's exception hook while it is installed."""

    caught = Signal(str, str, str)  # one sentence, hint, details

    def __init__(self, log: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._log = log
        self._previous = sys.excepthook

    def install(self) -> None:
        """Report from now on whatever nobody caught."""
        sys.excepthook = self.report

    def remove(self) -> None:
        """Leave the hook as it was."""
        sys.excepthook = self._previous

    def report(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        """Write the error to the log file and tell whoever shows notices."""
        if issubclass(kind, KeyboardInterrupt):
            self._previous(kind, error, trace)
            return
        details = "".join(traceback.format_exception(kind, error, trace))
        self._write(details)
        self.caught.emit(
            "Something went wrong in the window; your choices are kept.",
            f"The details are in {self._log}.",
            details,
        )

    def _write(self, details: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        fresh = not self._log.exists() or self._log.stat().st_size > LARGEST_LOG
        with self._log.open("w" if fresh else "a", encoding="utf-8") as file:
            file.write(f"{now}\n{details}\n")
