"""Readings on disk: JSON lines that are only ever added to, so that a crash loses at most one.

A file holds what was read of one network on one task. A setting goes by its digest; a line has its
sums over the first so many samples, what it costs, or why it could not be read.
"""

from pathlib import Path

import msgspec
from msgspec import Struct

from featherweight.engine.atlas.damage import Sums
from featherweight.engine.errors import UserError
from featherweight.engine.results import Cost
from featherweight.engine.writing.files import append, make_folder


class Line(Struct, frozen=True, omit_defaults=True):
    """What one line tells of a setting; `latency` are the milliseconds that it adds."""

    key: str
    sums: Sums | None = None
    cost: Cost | None = None
    latency: float | None = None
    reason: str = ""


class ReadingStore:
    """What is known of the settings of one network on one task; without a path in memory only."""

    def __init__(self, path: Path | None = None) -> None:
        """Read what is there; a last line that was cut short counts for nothing.

        Raises UserError where the file cannot be read or is none of ours.
        """
        self._path = path
        self._whole: int | None = None
        self._sums: dict[str, dict[int, Sums]] = {}
        self._costs: dict[str, Cost] = {}
        self._latencies: dict[str, float] = {}
        self._reasons: dict[str, str] = {}
        if path is not None:
            make_folder(path.parent)
            self._read(path)

    def sums(self, key: str, samples: int) -> Sums | None:
        """Return the sums of a setting over the first so many samples."""
        return self._sums.get(key, {}).get(samples)

    def latest(self, key: str, samples: int) -> Sums:
        """Return the sums over the most samples that are known, at most so many."""
        known = self._sums.get(key, {})
        return known[max(had)] if (had := [one for one in known if one <= samples]) else Sums()

    def cost(self, key: str) -> Cost | None:
        """Return what a setting costs."""
        return self._costs.get(key)

    def latency(self, key: str) -> float | None:
        """Return how many milliseconds a setting adds."""
        return self._latencies.get(key)

    def reason(self, key: str) -> str:
        """Return why a setting could not be read, empty where it can."""
        return self._reasons.get(key, "")

    def add(self, line: Line) -> None:
        """Keep a line, on disk too. Raises UserError where the disk does not take it."""
        self._take(line)
        if self._path is None:
            return
        # Only who writes may cut a torn line off: another may be writing it just now.
        append(self._path, msgspec.json.encode(line) + b"\n", keep=self._whole)
        self._whole = None

    def _take(self, line: Line) -> None:
        if line.sums is not None:
            self._sums.setdefault(line.key, {})[line.sums.samples] = line.sums
        if line.cost is not None:
            self._costs[line.key] = line.cost
        if line.latency is not None:
            self._latencies[line.key] = line.latency
        if line.reason:
            self._reasons[line.key] = line.reason

    def _read(self, path: Path) -> None:
        try:
            content = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise UserError(
                f"{path} cannot be read: {error.strerror}.", "Choose another folder."
            ) from error
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._whole = whole
        decoder = msgspec.json.Decoder(Line)
        for number, text in enumerate(content[:whole].splitlines()):
            try:
                self._take(decoder.decode(text))
            except msgspec.DecodeError as error:
                raise UserError(
                    f"{path}, line {number + 1} is no reading: {error}.",
                    "Delete that line or the file; what it held is read again.",
                ) from error
