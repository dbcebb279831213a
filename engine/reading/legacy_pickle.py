"""Whole networks in the form that torch.save had before PyTorch 1.6, made fit for its unpickler.

There the class of a layer stands in a record beside its source code, which torch's restricted
unpickler refuses. The record is turned into a call of `named_class`, which gives the class and
leaves the rest: no source is looked at, compared or run.
"""

import io
import pickle
import pickletools
import struct
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

# Before the object: a magic number, a version, sizes of the machine.
PREAMBLE = 3
TEXTS = ("BINUNICODE", "SHORT_BINSTRING", "BINSTRING")
PUTS = ("BINPUT", "LONG_BINPUT")
GETS = ("BINGET", "LONG_BINGET")
RECORD = "module"


def named_class(kind: str, named: Any, *source: Any) -> Any:
    """Return the class of a record of source code, whatever the record says beside it."""
    del kind, source
    return named


def no_backend() -> None:
    """Stand for what layers once held beside their tensors; nothing reads it any more."""


class _Change(NamedTuple):
    """New bytes for the `size` old ones at `place`, counted from the start of the file."""

    place: int
    size: int
    new: bytes


def without_sources(path: Path) -> io.BytesIO | None:
    """Return a legacy file without its records of source code, None where it has none.

    Nothing in it is run. Raises what pickletools raises on a damaged file.
    """
    with path.open("rb") as file:
        for _ in range(PREAMBLE):
            for _ in pickletools.genops(file):
                pass
        finder = _Finder()
        finder.read(file)
    if not finder.records:
        return None
    content, made, position = memoryview(path.read_bytes()), io.BytesIO(), 0
    for change in sorted(finder.changes):
        made.write(content[position : change.place])
        made.write(change.new)
        position = change.place + change.size
    made.write(content[position:])
    made.seek(0)
    return made


class _Finder:
    """Finds the records: a mark, the text `module`, a class, two more texts, made a tuple."""

    def __init__(self) -> None:
        self.changes: list[_Change] = []
        self.records = 0
        self._texts: dict[Any, str] = {}
        self._mark = self._tuple = -1
        self._kind = ""

    def read(self, file: BinaryIO) -> None:
        """Go through the pickle that follows in the file."""
        last, text = "", ""
        for operation, argument, place in pickletools.genops(file):
            name, at = operation.name, place or 0
            if name in PUTS:
                self._texts[argument] = text
                continue
            text = str(argument) if name in TEXTS else ""
            text = self._texts.get(argument, "") if name in GETS else text
            if last == "MARK":
                self._kind = text
            self._take(name, argument, at)
            last = name

    def _take(self, name: str, argument: Any, place: int) -> None:
        if name == "BINPERSID" and self._tuple >= 0 and self._kind == RECORD:
            self.records += 1
            call = f"c{named_class.__module__}\n{named_class.__name__}\n".encode()
            self.changes += [
                _Change(self._tuple, 0, call),
                _Change(place, 1, pickle.REDUCE),
            ]
        if name == "BINSTRING":
            # Python 2 wrote longer texts so, which the unpickler does not know.
            size, new = len(argument.encode("latin-1")), argument.encode()
            self.changes.append(
                _Change(place, 5 + size, pickle.BINUNICODE + struct.pack("<I", len(new)) + new)
            )
        self._tuple = self._mark if name == "TUPLE" else -1
        if name in ("MARK", "TUPLE"):
            self._mark = place if name == "MARK" else -1
